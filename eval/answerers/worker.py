"""A model in a Python environment of its own, for those that transformers has no class for (MiniCPM-V-2.6).

The mechanism is that of LAVIS: instdiff/isolated/line_worker.py. A worker's script defines `load(weights, precision)`;
minicpm_worker.py is one.
"""

from collections.abc import Sequence
from pathlib import Path

from eval.answerers import minicpm_worker
from eval.answerers.answerer import Decoding, Pixels, Question, settings_of
from eval.answerers.local import Precision
from instdiff.files.provenance import fingerprint, of_file
from instdiff.isolated.line_worker import LineWorker, WorkerDied, base64_png
from instdiff.work.outcomes import Failure

SCRIPT = Path(minicpm_worker.__file__)


class Worker:
    """Asks the model of a worker."""

    def __init__(
        self, python: Path, weights: Path, decoding: Decoding, precision: Precision, script: Path = SCRIPT
    ) -> None:
        """Start the worker; ValueError where the interpreter is not there, or why the worker does not start."""
        if not python.is_file():
            raise ValueError(f"{python}: no Python interpreter there")
        self._decoding = decoding
        try:
            self._worker = LineWorker("answering", python, script, [str(weights), precision])
        except WorkerDied as error:
            raise ValueError(str(error)) from error
        self.judge = f"{self._worker.hello['model']}@{fingerprint(weights)}"
        versions = self._worker.hello.get("versions", {})
        self.settings = settings_of(decoding, precision=precision, worker=of_file(script)[:16], versions=versions)

    def answer(self, pictures: Sequence[Pixels], questions: Sequence[Question]) -> list[str | Failure]:
        """What the model says of each picture or part; RuntimeError when the worker says why not, or dies."""
        reply = self._worker.ask(
            {
                "pictures": [base64_png(pixels) for pixels in pictures],
                "texts": [question.text for question in questions],
                "systems": [question.system for question in questions],
                "decoding": self._decoding.model_dump(),
            }
        )
        answers: list[str | Failure] = [str(answer).strip() for answer in reply["answers"]]
        if len(answers) != len(questions):
            raise RuntimeError(f"the worker gave {len(answers)} answers to {len(questions)} questions")
        return answers
