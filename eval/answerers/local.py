"""A vision-language model of transformers from a local folder: Qwen2.5-VL, Qwen3-VL, all with a chat template.

Whichever class config.json names: what AutoModelForImageTextToText knows of the installed version.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from eval.answerers.answerer import Decoding, Pixels, Question, settings_of
from instdiff.files.provenance import fingerprint
from instdiff.networks import loading
from instdiff.work.outcomes import Failure

Precision = Literal["float32", "bfloat16"]


class LocalModel:
    """Answers a batch at once, or question by question where answers are sampled; on a GPU where there is one."""

    def __init__(self, weights: Path, decoding: Decoding, precision: Precision) -> None:
        """Load the folder; ValueError where it holds no such model, or one without a chat template."""
        named = loading.config(weights).get("model_type")
        self._processor = _processor(weights)
        self._model = loading.from_folder(AutoModelForImageTextToText, weights, dtype=getattr(torch, precision))
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._decoding = decoding
        self.judge = f"{named}@{fingerprint(weights)}"
        self.settings = settings_of(decoding, precision=precision)

    def answer(self, pictures: Sequence[Pixels], questions: Sequence[Question]) -> list[str | Failure]:
        """What the model says of each picture or part."""
        if self._decoding.is_greedy:
            return [*self._generated(pictures, questions)]
        answers: list[str | Failure] = []
        for pixels, question in zip(pictures, questions, strict=True):
            with torch.random.fork_rng():
                torch.manual_seed(_seed(self._decoding.seed, question))
                answers += self._generated([pixels], [question])
        return answers

    @torch.no_grad()
    def _generated(self, pictures: Sequence[Pixels], questions: Sequence[Question]) -> list[str]:
        conversations = [_conversation(pixels, each) for pixels, each in zip(pictures, questions, strict=True)]
        inputs = self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self._model.device, self._model.dtype)
        ids_BT = self._model.generate(**inputs, generation_config=self._generation())
        new_BT = ids_BT[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._processor.batch_decode(new_BT, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _generation(self) -> GenerationConfig:
        """Ours alone: a model's folder may ask for sampling."""
        own, how = self._model.generation_config, self._decoding
        tokenizer = self._processor.tokenizer
        sampled = {} if how.is_greedy else {"temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k}
        return GenerationConfig(
            max_new_tokens=how.max_tokens,
            do_sample=not how.is_greedy,
            repetition_penalty=how.repetition_penalty,
            eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **sampled,
        )


def _processor(weights: Path) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(weights, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{weights}: its processor cannot be read ({type(error).__name__})") from error
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(f"{weights}: its processor has no chat template, so it does not say how it is asked")
    processor.tokenizer.padding_side = "left"  # answers go on from the end of each question
    return processor


def _conversation(pixels: Pixels, question: Question) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": Image.fromarray(pixels)}, {"type": "text", "text": question.text}]
    before = [{"role": "system", "content": [{"type": "text", "text": question.system}]}] if question.system else []
    return [*before, {"role": "user", "content": content}]


def _seed(seed: int, question: Question) -> int:
    """Of the question's own draw, whatever is asked beside it."""
    text = "\n".join([str(seed), *question.key])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") >> 1
