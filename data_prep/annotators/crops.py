"""Captions from pixels: what a model says of the crop of each instance, batched across pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from data_prep.annotators.instances import Instance
from instdiff.layouts import geometry
from instdiff.schema import Strict
from instdiff.work.outcomes import Failure

Pixels = NDArray[np.uint8]  # (height, width, 3)


class ModelParams(Strict):
    """A model that describes pictures, and what is made of its words."""

    weights: Path  # of transformers: a model's folder; of lavis: a model's YAML file
    python: Path | None  # of lavis: the interpreter of its environment
    prompt: str  # the words a caption goes on from; empty: none
    num_beams: PositiveInt  # width of the beam search; 1 is greedy
    max_tokens: PositiveInt  # longest caption
    precision: Literal["float32", "bfloat16"]  # of weights and arithmetic
    min_area: NonNegativeInt  # square pixels of the box; below, the category is the caption
    name_category: bool  # put the category before a caption that does not say it
    device: str  # auto, cpu, cuda, cuda:N or mps; of transformers (lavis takes the GPU that it sees)


class Describer(Protocol):
    """A model that looks at pixels; `name` says which, with its revision."""

    name: str

    def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
        """What each crop shows."""
        ...


class Crops:
    """Shows a model the crops of the instances."""

    def __init__(self, describer: Describer, params: ModelParams) -> None:
        self._describer, self._params = describer, params

    def caption(self, batch: Sequence[Instance]) -> list[tuple[str, str] | Failure]:
        """What the model says of each; of a crop too small to see, its category, as in the released training data."""
        captions: list[tuple[str, str] | Failure] = [self._by_category(instance) for instance in batch]
        large = [place for place, instance in enumerate(batch) if area(instance) >= self._params.min_area]
        if not large:
            return captions
        pixels = {instance.picture.key: instance.picture for instance in (batch[place] for place in large)}
        decoded = {key: picture.pixels() for key, picture in pixels.items()}
        crops = [geometry.crop(decoded[batch[place].picture.key], batch[place].box) for place in large]
        for place, text in zip(large, self._describer.describe(crops), strict=True):
            captions[place] = text if isinstance(text, Failure) else self._named(text, batch[place].category)
        return captions

    def _by_category(self, instance: Instance) -> tuple[str, str] | Failure:
        if instance.category is None:
            return Failure("no_category", f"smaller than {self._params.min_area} pixels and without a category")
        return instance.category, "category"

    def _named(self, text: str, category: str | None) -> tuple[str, str] | Failure:
        if not text:
            return Failure("no_words", f"{self._describer.name} said nothing")
        if self._params.name_category and category is not None and category.lower() not in text.lower():
            text = f"{category}. {text}"
        return text, self._describer.name


def area(instance: Instance) -> int:
    """Of the box, in pixels, its sides cut to whole ones."""
    down, across = geometry.sides(instance.box, instance.picture.height, instance.picture.width)
    return down * across
