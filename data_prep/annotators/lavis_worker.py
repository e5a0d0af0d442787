"""LAVIS' captioners, as instdiff/isolated/line_server.py serves them in LAVIS' environment; imports nothing of ours.

    python line_server.py IN OUT lavis_worker.py MODEL.yaml PRECISION

The first line says what it is: {"lavis": version, "model": architecture}. A question holds the crops as base64 PNG and
how to describe them; the answer is {"captions": [...]}. MODEL.yaml is a LAVIS model configuration (`model:` and
`preprocess:`) whose paths are local.
"""

import base64
import io
from typing import Any


class Model:
    """A LAVIS captioner and its eye."""

    def __init__(self, path: str, precision: str) -> None:
        import torch
        from lavis.common.registry import registry
        from lavis.models import load_preprocess
        from omegaconf import OmegaConf

        self.torch: Any = torch
        config = OmegaConf.load(path)
        name = str(config.model.arch)
        self.hello = {"lavis": _version(), "model": name}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = registry.get_model_class(name).from_config(config.model).eval()
        self.dtype = getattr(torch, precision)
        self.model = model.to(self.device, self.dtype)
        eyes, _ = load_preprocess(config.preprocess)
        self.see = eyes["eval"]

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What each crop shows."""
        from PIL import Image

        pictures = [Image.open(io.BytesIO(base64.b64decode(crop))).convert("RGB") for crop in question["crops"]]
        pixels = self.torch.stack([self.see(picture) for picture in pictures]).to(self.device, self.dtype)
        if question["prompt"]:
            self.model.prompt = question["prompt"]  # BLIP looks nowhere else; how BLIP-2 takes one differs by version
        with self.torch.no_grad():
            captions: list[str] = self.model.generate(
                {"image": pixels}, num_beams=question["num_beams"], max_length=question["max_tokens"]
            )
        return {"captions": captions}


def load(path: str, precision: str) -> Model:
    """The model of a configuration."""
    return Model(path, precision)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("salesforce-lavis")
    except PackageNotFoundError:
        return "none"
