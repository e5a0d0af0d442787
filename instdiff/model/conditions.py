"""Conditions: the instances of a batch of pictures, as tensors with a slot for each instance.

Shapes: B pictures, N slots for instances, D features of a phrase, S = 2 x scribble points, P = 2 x outline points
(x, y, x, y, ...), H and W of the masks. Coordinates are fractions, x right and y down.

A format that is not given is False in its `*_given_BN`; what its numbers then are does not matter. The released
model knew absence only as an empty slot: layouts completed with `compat="reference"` give box, point, scribble and
outline of every filled slot, zeros where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from instdiff.layouts.complete import CompleteLayout
from instdiff.layouts.formats import BY_NAME, FORMATS, LOCATION_FORMATS, Format, Kind, LocationFormat, Slots


@dataclass(frozen=True)
class Conditions:
    """A batch of layouts; floats but for the masks and what is filled or given, which are bool."""

    text_BND: Tensor
    filled_BN: Tensor
    box_BN4: Tensor
    box_given_BN: Tensor
    point_BN2: Tensor
    point_given_BN: Tensor
    scribble_BNS: Tensor
    scribble_given_BN: Tensor
    outline_BNP: Tensor
    outline_given_BN: Tensor
    mask_BNHW: Tensor
    mask_given_BN: Tensor

    def given(self, name: Format) -> Tensor:
        """(B, N): where the format is given."""
        is_given_BN: Tensor = getattr(self, f"{name}_given_BN")
        return is_given_BN

    def numbers(self, name: Format) -> Tensor:
        """(B, N, ...): the numbers of the format."""
        numbers: Tensor = getattr(self, BY_NAME[name].tensor)
        return numbers

    @property
    def formats(self) -> tuple[LocationFormat, ...]:
        """The formats that have numbers here: those of the model."""
        return tuple(entry for entry in LOCATION_FORMATS if self.numbers(entry.name).shape[-1])

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | slice | Sequence[int]) -> Conditions:
        """The pictures at `index`."""
        return self.map(lambda tensor: tensor[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditions:
        """`change` applied to every tensor."""
        return Conditions(**{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def __len__(self) -> int:
        return len(self.filled_BN)


def collate(layouts: Sequence[CompleteLayout], phrase_features: Mapping[str, Tensor], slots: Slots) -> Conditions:
    """Stack the instances of layouts that were completed for these slots, empty slots after them.

    `phrase_features` holds a (D,) tensor for every phrase; ValueError names the layout and the phrase without features.
    """
    if not phrase_features:
        raise ValueError("no phrase features: not even their width is known")
    batch = _empty(len(layouts), slots, next(iter(phrase_features.values())).shape[-1])
    for row, layout in enumerate(layouts):
        for slot, instance in enumerate(layout.instances):
            if instance.phrase not in phrase_features:
                raise ValueError(f"{layout.key}: instance {slot}: no features of the phrase {instance.phrase!r}")
            batch.text_BND[row, slot] = phrase_features[instance.phrase].detach().float().cpu()
            batch.filled_BN[row, slot] = True
            for name, numbers in instance.numbers.items():
                batch.numbers(name)[row, slot] = torch.from_numpy(numbers)
                batch.given(name)[row, slot] = True
    return batch


def null(like: Conditions) -> Conditions:
    """The conditions of a picture without instances, in the shapes of `like`."""
    return like.map(torch.zeros_like)


def keep(conditions: Conditions, formats: Collection[Format]) -> Conditions:
    """Only these formats stay given; phrases and numbers are untouched. ValueError for an unknown format."""
    if unknown := set(formats) - set(FORMATS):
        raise ValueError(f"unknown formats {sorted(unknown)}; there are {', '.join(FORMATS)}")
    dropped = [name for name in FORMATS if name not in formats]
    return replace(conditions, **{f"{name}_given_BN": torch.zeros_like(conditions.given(name)) for name in dropped})


def mirrored(conditions: Conditions) -> Conditions:
    """The conditions of the pictures mirrored left to right."""
    changes = {entry.tensor: _MIRRORED[entry.kind](conditions.numbers(entry.name)) for entry in conditions.formats}
    return replace(conditions, **changes)


def where(choice_B: Tensor, first: Conditions, second: Conditions) -> Conditions:
    """Of each picture the first conditions where `choice_B` is True, else the second."""
    names = [field.name for field in fields(Conditions)]
    chosen = {name: _where(choice_B, getattr(first, name), getattr(second, name)) for name in names}
    return Conditions(**chosen)


def select(conditions: Conditions, instance: int) -> Conditions:
    """Each picture's instance of this number alone, in slot 0."""
    alone = null(conditions)
    for field in fields(Conditions):
        getattr(alone, field.name)[:, 0] = getattr(conditions, field.name)[:, instance]
    return alone


def cat(batches: Sequence[Conditions]) -> Conditions:
    """The pictures of several batches in one."""
    names = [field.name for field in fields(Conditions)]
    return Conditions(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names})


def _empty(num_pictures: int, slots: Slots, text_width: int) -> Conditions:
    text_BND = torch.zeros(num_pictures, slots.max_instances, text_width)
    filled_BN = torch.zeros(num_pictures, slots.max_instances, dtype=torch.bool)
    parts = {}
    for entry in LOCATION_FORMATS:
        dtype = torch.bool if entry.kind == "mask" else torch.float32
        parts[entry.tensor] = torch.zeros(*filled_BN.shape, *entry.shape(slots), dtype=dtype)
        parts[f"{entry.name}_given_BN"] = torch.zeros_like(filled_BN)
    return Conditions(text_BND=text_BND, filled_BN=filled_BN, **parts)


def _where(choice_B: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(choice_B.view(-1, *[1] * (first.ndim - 1)), first, second)


def _mirrored_box(box_BN4: Tensor) -> Tensor:
    exchanged_BN4 = box_BN4[..., [2, 1, 0, 3]]
    across_4 = torch.tensor([True, False, True, False], device=box_BN4.device)
    return torch.where(across_4, 1 - exchanged_BN4, exchanged_BN4)


def _mirrored_points(points_BNF: Tensor) -> Tensor:
    """x, y, x, y, ... with each x measured from the right, and in the order of strokes: by distance from the origin."""
    points_BNK2 = points_BNF.unflatten(-1, (-1, 2)) * points_BNF.new_tensor([-1, 1]) + points_BNF.new_tensor([1, 0])
    order_BNK = points_BNK2.square().sum(-1).argsort(dim=-1, stable=True)
    ordered_BNF: Tensor = points_BNK2.gather(2, order_BNK[..., None].expand_as(points_BNK2)).flatten(-2)
    return ordered_BNF


_MIRRORED: dict[Kind, Callable[[Tensor], Tensor]] = {
    "box": _mirrored_box,
    "point": _mirrored_points,
    "points": _mirrored_points,
    "mask": lambda mask_BNHW: mask_BNHW.flip(-1),
}
