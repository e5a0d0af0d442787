"""Layouts as a program writes them: texts, and instances as `Instance` or as dictionaries of its fields."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from instdiff.files.texts import first_fault
from instdiff.layouts import faults, mask_pictures, masks
from instdiff.schema import Instance, Layout, Rle


def layouts(prompt: str | Layout | Sequence[str | Layout], instances: Sequence[Any]) -> list[Layout]:
    """Layouts of prompts and instances.

    A mask is run lengths, a picture of PIL, or an array (height, width): of truth values, of fractions, or of greys.
    ValueError in one sentence when lists do not fit each other, an instance is none, or a place is none in a picture.
    """
    if isinstance(prompt, str | Layout):
        prompt, instances = [prompt], [instances]
    if not instances:
        instances = [()] * len(prompt)
    if not prompt or len(prompt) != len(instances):
        raise ValueError(f"{len(prompt)} prompts and {len(instances)} lists of instances")
    pairs = enumerate(zip(prompt, instances, strict=True))
    return [_checked(_layout(text, its_instances, number)) for number, (text, its_instances) in pairs]


def _layout(prompt: str | Layout, instances: Sequence[Instance | Mapping[str, Any]], number: int) -> Layout:
    if isinstance(prompt, Layout):
        if instances:
            raise ValueError("a Layout has its own instances: give no others")
        return prompt
    key = f"layout {number}"
    return Layout(
        key=key, prompt=prompt, instances=tuple(_instance(instance, key, n) for n, instance in enumerate(instances))
    )


def _instance(instance: Instance | Mapping[str, Any], key: str, number: int) -> Instance:
    if isinstance(instance, Instance):
        return instance
    where = f"{key}: instances.{number}"
    try:
        read = instance if instance.get("mask") is None else {**instance, "mask": _mask(instance["mask"])}
        return Instance.model_validate(read)
    except ValidationError as error:
        raise ValueError(f"{where}.{first_fault(error)}") from error
    except ValueError as error:
        raise ValueError(f"{where}.mask: {error}") from error


def _mask(mask: Any) -> Any:
    """Run lengths of whatever shows a mask; what is none is left to be refused as a field."""
    if isinstance(mask, Image.Image):
        return mask_pictures.mask_of(mask).mask
    if isinstance(mask, Rle | Mapping | str):
        return mask
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise ValueError(f"an array of the shape {array.shape} and {array.dtype}, expected (height, width) of numbers")
    if array.dtype.kind == "f":
        return masks.encode(array > 0.5)
    if array.dtype.kind == "b" or array.max() <= 1:
        return masks.encode(array > 0)
    return mask_pictures.mask_of(Image.fromarray(array.astype(np.uint8 if array.max() <= 255 else np.int32))).mask


def _checked(layout: Layout) -> Layout:
    for number, instance in enumerate(layout.instances):
        for name, fault in faults.of_places(instance):
            raise ValueError(f"{layout.key}: instances.{number}.{name}: {fault}")
    return layout
