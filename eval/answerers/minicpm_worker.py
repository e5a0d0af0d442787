"""MiniCPM-V-2.6, as instdiff/isolated/line_server.py serves it in an environment of its own; imports nothing of ours.

    python line_server.py IN OUT minicpm_worker.py WEIGHTS PRECISION

Its class comes with its weights, as code that the folder holds: an environment of its own, and only a folder that you
trust. A question is {"pictures": base64 PNG, "texts", "systems", "decoding"}, the answer {"answers": [...]}.
"""

import base64
import io
from typing import Any


class Model:
    """MiniCPM-V and its tokenizer."""

    def __init__(self, weights: str, precision: str) -> None:
        import torch
        import transformers

        self.torch: Any = torch
        options: dict[str, Any] = {"trust_remote_code": True, "local_files_only": True}
        model = transformers.AutoModel.from_pretrained(weights, torch_dtype=getattr(torch, precision), **options)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(weights, **options)
        versions = {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}
        self.hello = {"model": str(model.config.model_type), "versions": versions}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """One answer a picture, one after the other as the benchmarks ask."""
        inputs = zip(question["pictures"], question["texts"], question["systems"])  # noqa: B905 - old Pythons
        return {"answers": [self.chat(picture, text, system, question["decoding"]) for picture, text, system in inputs]}

    def chat(self, picture: str, text: str, system: str, decoding: dict[str, Any]) -> str:
        """The model's own method; it takes sampling's numbers by these names, and drops others."""
        from PIL import Image

        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        how: dict[str, Any] = {"sampling": decoding["temperature"] > 0, "max_new_tokens": decoding["max_tokens"]}
        if how["sampling"]:
            how.update({name: decoding[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty")})
            self.torch.manual_seed(decoding["seed"])
        else:
            how.update({"num_beams": 1, "repetition_penalty": decoding["repetition_penalty"]})
        messages = [{"role": "user", "content": [image, text]}]
        more = {"system_prompt": system} if system else {}
        return str(self.model.chat(image=None, msgs=messages, tokenizer=self.tokenizer, **how, **more))


load = Model
