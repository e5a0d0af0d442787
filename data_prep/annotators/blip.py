"""BLIP and BLIP-2 as describers, through transformers."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from data_prep.annotators.crops import ModelParams, Pixels
from instdiff.files.provenance import fingerprint
from instdiff.networks import loading
from instdiff.networks.device import resolve
from instdiff.work.outcomes import Failure


class Blip:
    """Asks a BLIP of local files; runs on the device of `params`."""

    def __init__(self, params: ModelParams) -> None:
        self._params, device = params, resolve(params.device)
        self._processor: Any = AutoProcessor.from_pretrained(params.weights, local_files_only=True)
        self._model: Any = loading.from_folder(
            AutoModelForImageTextToText, params.weights, dtype=getattr(torch, params.precision)
        )
        self._model.to(device)
        self.name = f"transformers:{self._model.config.model_type}@{fingerprint(params.weights)}"

    @torch.no_grad()
    def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
        """What each crop shows, without the prompt that led to it."""
        prompt = self._params.prompt
        inputs = self._processor(images=list(crops), text=[prompt] * len(crops), return_tensors="pt", padding=True)
        inputs = inputs.to(self._model.device, self._model.dtype)  # the pixels; ids stay whole numbers
        ids = self._model.generate(
            **inputs, num_beams=self._params.num_beams, max_new_tokens=self._params.max_tokens, do_sample=False
        )
        texts = self._processor.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.split()).removeprefix(prompt.lower().strip()).strip() for text in texts]
