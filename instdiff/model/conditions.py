"""Conditions: what the layers are told about the instances of a batch of pictures.

Shapes: B pictures, N slots for instances, D features of a phrase, S = 2 x scribble points, P = 2 x outline points
(x, y, x, y, ...), H and W of the masks. Coordinates are fractions, x right and y down.

A format that is not given is False in its `*_given_BN`; what its numbers then are does not matter. The released
model knew absence only as an empty slot: `compat="reference"` marks box, point, scribble and outline of every filled
slot as given and reads zeros where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from instdiff.layouts import geometry, masks, strokes
from instdiff.randomness import generator as stream
from instdiff.schema import Instance, Layout, Point

Compat = Literal["reference"]
Format = Literal["box", "point", "scribble", "outline", "mask"]
FORMATS: tuple[Format, ...] = get_args(Format)


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
        given: Tensor = getattr(self, f"{name}_given_BN")
        return given

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


def collate(
    layouts: Sequence[Layout],
    phrase_features: Mapping[str, Tensor],
    *,
    max_instances: int,
    mask_size: int,
    num_scribble_points: int,
    num_outline_points: int,
    compat: Compat | None = None,
) -> Conditions:
    """Pad the instances of each layout to `max_instances` slots and stack; masks come as mask_size x mask_size.

    `phrase_features` holds a (D,) tensor for every phrase. An outline that is not given is drawn from the mask if there
    is one. Boxes are cut at the picture's border (not under compat); a box or mask without area counts as not given.
    ValueError names the layout that has too many instances, or the phrase without features.
    """
    if not phrase_features:
        raise ValueError("no phrase features: not even their width is known")
    width = next(iter(phrase_features.values())).shape[-1]
    sizes = (width, 4, 2, 2 * num_scribble_points, 2 * num_outline_points)
    batch = _empty(len(layouts), max_instances, sizes, mask_size)
    for row, layout in enumerate(layouts):
        if len(layout.instances) > max_instances:
            count = len(layout.instances)
            raise ValueError(f"{layout.key}: {count} instances, but the model has slots for {max_instances}")
        for slot, instance in enumerate(layout.instances):
            if instance.phrase not in phrase_features:
                raise ValueError(f"{layout.key}: instance {slot}: no features of the phrase {instance.phrase!r}")
            batch.text_BND[row, slot] = phrase_features[instance.phrase].detach().float().cpu()
            batch.filled_BN[row, slot] = True
            _place(batch, (row, slot), instance, layout.key, compat)
    return _zeros_are_given(batch) if compat == "reference" else batch


def complete(layout: Layout, compat: Compat | None = None) -> Layout:
    """Fill in what follows from what is given: a box around the mask, and the box's centre as the point.

    The layers never saw a mask without a box, nor a box without a point, in training. A box of which nothing can be
    seen counts as not given. The released code takes the centre of the box as it stands, beyond the border, too
    (compat).
    """
    return layout.model_copy(update={"instances": tuple(_completed(one, compat) for one in layout.instances)})


def null(like: Conditions) -> Conditions:
    """The condition of a picture about which nothing is said, in the shapes of `like`."""
    return like.map(torch.zeros_like)


def keep(conditions: Conditions, formats: Collection[Format]) -> Conditions:
    """Only these formats stay given; phrases and numbers are untouched. ValueError for a format there is not."""
    if unknown := set(formats) - set(FORMATS):
        raise ValueError(f"unknown formats {sorted(unknown)}; there are {', '.join(FORMATS)}")
    dropped = [name for name in FORMATS if name not in formats]
    return replace(conditions, **{f"{name}_given_BN": torch.zeros_like(conditions.given(name)) for name in dropped})


def mirrored(conditions: Conditions) -> Conditions:
    """The conditions of the pictures mirrored left to right."""
    box_BN4 = conditions.box_BN4[..., [2, 1, 0, 3]]
    across_4 = torch.tensor([True, False, True, False])
    changes = {
        name: _mirrored_points(getattr(conditions, name)) for name in ("point_BN2", "scribble_BNS", "outline_BNP")
    }
    box_BN4 = torch.where(across_4.to(box_BN4.device), 1 - box_BN4, box_BN4)
    return replace(conditions, box_BN4=box_BN4, mask_BNHW=conditions.mask_BNHW.flip(-1), **changes)


def _mirrored_points(points_BNF: Tensor) -> Tensor:
    """x, y, x, y, ... with each x measured from the right, and in the order of strokes: by distance from the origin."""
    points_BNK2 = points_BNF.unflatten(-1, (-1, 2)) * points_BNF.new_tensor([-1, 1]) + points_BNF.new_tensor([1, 0])
    order_BNK = points_BNK2.square().sum(-1).argsort(dim=-1, stable=True)
    ordered_BNF: Tensor = points_BNK2.gather(2, order_BNK[..., None].expand_as(points_BNK2)).flatten(-2)
    return ordered_BNF


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


def _empty(num_pictures: int, num_slots: int, sizes: tuple[int, ...], mask_size: int) -> Conditions:
    text, box, point, scribble, outline = (torch.zeros(num_pictures, num_slots, size) for size in sizes)
    given = torch.zeros(6, num_pictures, num_slots, dtype=torch.bool)
    mask = torch.zeros(num_pictures, num_slots, mask_size, mask_size, dtype=torch.bool)
    return Conditions(
        text, given[0], box, given[1], point, given[2], scribble, given[3], outline, given[4], mask, given[5]
    )


def _place(batch: Conditions, at: tuple[int, int], instance: Instance, key: str, compat: Compat | None) -> None:
    """Write where the instance is into its slot."""
    if instance.box is not None:
        box = instance.box if compat == "reference" else geometry.clamp(instance.box)
        if box.area > 0:
            _give(batch.box_BN4, batch.box_given_BN, at, [box])
    if instance.point is not None:
        _give(batch.point_BN2, batch.point_given_BN, at, [instance.point])
    if instance.scribble:
        count = batch.scribble_BNS.shape[-1] // 2
        _give(batch.scribble_BNS, batch.scribble_given_BN, at, _counted(instance.scribble, count))
    mask_HW = None if instance.mask is None else masks.decode(instance.mask)
    count = batch.outline_BNP.shape[-1] // 2
    if instance.outline:
        _give(batch.outline_BNP, batch.outline_given_BN, at, _counted(instance.outline, count))
    elif (
        mask_HW is not None and (drawn := strokes.outline(mask_HW, count, stream(0, "outline", key, at[1]))) is not None
    ):
        _give(batch.outline_BNP, batch.outline_given_BN, at, drawn)
    if mask_HW is not None and mask_HW.any():
        batch.mask_BNHW[at] = torch.from_numpy(_resized(mask_HW, batch.mask_BNHW.shape[-1]))
        batch.mask_given_BN[at] = True


def _give(
    values_BNF: Tensor, given_BN: Tensor, at: tuple[int, int], points: Sequence[tuple[float, ...]] | strokes.Points
) -> None:
    values_BNF[at] = torch.as_tensor(np.asarray(points, dtype=np.float32)).flatten()
    given_BN[at] = True


def _counted(points: Sequence[Point], count: int) -> Sequence[Point] | strokes.Points:
    """As they are if there are `count`, otherwise thinned or repeated."""
    return points if len(points) == count else strokes.reorder(np.asarray(points, dtype=np.float64), count)


def _resized(mask_HW: masks.Mask, size: int) -> masks.Mask:
    """The mask at size x size, each pixel that of the mask at its upper left corner."""
    height, width = mask_HW.shape
    resized: masks.Mask = mask_HW[(np.arange(size) * height) // size][:, (np.arange(size) * width) // size]
    return resized


def _zeros_are_given(batch: Conditions) -> Conditions:
    names = [name for name in FORMATS if name != "mask"]
    return replace(batch, **{f"{name}_given_BN": batch.filled_BN.clone() for name in names})


def _completed(instance: Instance, compat: Compat | None) -> Instance:
    box = instance.box
    if compat is None and box is not None and geometry.clamp(box).area == 0:
        box = None  # as `collate` reads it
    if box is None and instance.mask is not None and (mask_HW := masks.decode(instance.mask)).any():
        box = masks.box_of(mask_HW)
    point = instance.point
    if point is None and box is not None:
        point = box.centre if compat == "reference" else geometry.clamp(box).centre
    return instance.model_copy(update={"box": box, "point": point})
