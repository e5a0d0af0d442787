"""salesforce-lavis as a describer: a worker in its own environment, since its pins exclude what everything else needs.

`make lavis` makes the environment.
"""

from collections.abc import Sequence
from pathlib import Path

from data_prep.annotators import lavis_worker
from data_prep.annotators.crops import ModelParams, Pixels
from instdiff.files.provenance import fingerprint
from instdiff.isolated.line_worker import LineWorker, base64_png
from instdiff.work.outcomes import Failure


class Lavis:
    """Asks LAVIS' BLIP or BLIP-2."""

    def __init__(self, params: ModelParams, script: Path = Path(lavis_worker.__file__)) -> None:
        if params.python is None:
            raise ValueError("caption: backend lavis needs python, the interpreter of its environment (make lavis)")
        self._settings = params.model_dump(mode="json", include={"prompt", "num_beams", "max_tokens"})
        self._worker = LineWorker("LAVIS", params.python, script, [str(params.weights), params.precision])
        hello = self._worker.hello
        self.name = f"lavis-{hello['lavis']}:{hello['model']}@{fingerprint(params.weights)}"

    def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
        """What each crop shows; RuntimeError when the worker says why not, or dies."""
        answer = self._worker.ask({"crops": [base64_png(crop) for crop in crops], **self._settings})
        captions: list[str | Failure] = [str(caption).strip() for caption in answer["captions"]]
        return captions
