"""Runs in LAVIS' environment and imports nothing of ours: reads one JSON line a batch, answers with one.

    python lavis_worker.py IN OUT MODEL.yaml PRECISION     (IN, OUT: numbers of open file descriptors)

The first line it writes says what it is: {"lavis": version, "model": architecture}. A question holds the crops as
base64 PNG and how to describe them; the answer is {"captions": [...]} or {"error": ..., "out_of_memory": ...}.
MODEL.yaml is a LAVIS model configuration (`model:` and `preprocess:`) whose paths are local.
"""

import base64
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol


class Describes(Protocol):
    """What answers a question."""

    name: str

    def describe(self, question: dict[str, Any]) -> list[str]:
        """What each crop shows."""
        ...


class Model:
    """A LAVIS captioner and its eye."""

    def __init__(self, path: str, precision: str) -> None:
        import torch
        from lavis.common.registry import registry
        from lavis.models import load_preprocess
        from omegaconf import OmegaConf

        self.torch: Any = torch
        config = OmegaConf.load(path)
        self.name = str(config.model.arch)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = registry.get_model_class(self.name).from_config(config.model).eval()
        self.dtype = getattr(torch, precision)
        self.model = model.to(self.device, self.dtype)
        eyes, _ = load_preprocess(config.preprocess)
        self.see = eyes["eval"]

    def describe(self, question: dict[str, Any]) -> list[str]:
        """What each crop shows."""
        from PIL import Image

        pictures = [Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB") for one in question["crops"]]
        pixels = self.torch.stack([self.see(one) for one in pictures]).to(self.device, self.dtype)
        if question["prompt"]:
            self.model.prompt = question["prompt"]  # BLIP looks nowhere else; how BLIP-2 takes one differs by version
        with self.torch.no_grad():
            captions: list[str] = self.model.generate(
                {"image": pixels}, num_beams=question["num_beams"], max_length=question["max_tokens"]
            )
        return captions


def main(model_of: Callable[[str, str], Describes] = Model) -> None:
    """Answer until the input ends."""
    questions, answers = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    model = model_of(sys.argv[3], sys.argv[4])
    say(lavis=_version(), model=model.name)
    for line in questions:
        try:
            say(captions=model.describe(json.loads(line)))
        except Exception as error:  # whatever it was, the other side decides what it costs
            kind = type(error).__name__
            say(error=f"{kind}: {error}", out_of_memory=kind in {"OutOfMemoryError", "MemoryError"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("salesforce-lavis")
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    del sys.path[0]  # this file's folder, whose lavis.py is not LAVIS
    main()
