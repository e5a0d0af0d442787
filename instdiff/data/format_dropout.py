"""Which formats a training sample keeps: the schedule that lets one model read any mix of formats.

Shapes: B pictures; the ten uniforms of a picture stand in the order of the fields of `Odds`.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from instdiff.model.conditions import FORMATS, Compat, Conditions
from instdiff.schema import Share, Strict


class Odds(Strict):
    """Chances of dropping a format, then of keeping a format alone, then of dropping everything.

    `mask` drops outline and mask together. `no_scribble` keeps all but the scribble if the mask is kept (the released
    code calls it "segment only").
    """

    box: Share  # chance that the box goes, if the mask goes too
    point: Share  # chance that the point goes, if the box goes too
    scribble: Share  # chance that the scribble goes
    mask: Share  # chance that mask and outline go
    only_point: Share  # chance that the point alone stays
    only_scribble: Share  # chance that the scribble alone stays
    only_mask: Share  # chance that mask and outline alone stay
    no_scribble: Share  # chance that all but the scribble stays, if the mask stays
    only_box: Share  # chance that box and point alone stay
    everything: Share  # chance that all instances go


class Kept(NamedTuple):
    """(B,) bool each: what stays of a picture's conditions."""

    box: Tensor
    point: Tensor
    scribble: Tensor
    outline: Tensor
    mask: Tensor
    anything: Tensor


def drop(conditions: Conditions, odds: Odds, generator: torch.Generator, compat: Compat | None = None) -> Conditions:
    """Draw for each picture what it keeps (for the whole batch at once under compat); draws happen on the CPU."""
    count = 1 if compat == "reference" else len(conditions)
    uniforms = torch.rand(count, len(Odds.model_fields), generator=generator).expand(len(conditions), -1)
    return apply(conditions, kept(uniforms.to(conditions.filled_BN.device), odds))


def kept(uniforms_B10: Tensor, odds: Odds) -> Kept:
    """What is kept given the draws: a mask implies box and point, a box implies a point, and something always stays.

    Of several patterns drawn the last wins. Source: the released training code, by truth table.
    """
    hit = {name: uniforms_B10[:, column] < getattr(odds, name) for column, name in enumerate(Odds.model_fields)}
    mask = ~hit["mask"]
    box = ~hit["box"] | mask
    keeps_B4 = torch.stack([box, ~hit["point"] | box, ~hit["scribble"], mask], dim=1)
    for name, pattern in _PATTERNS.items():
        fires = hit[name] & keeps_B4[:, 3] if name == "no_scribble" else hit[name]
        keeps_B4 = torch.where(fires[:, None], torch.tensor(pattern, device=keeps_B4.device), keeps_B4)
    box, point, scribble, mask = keeps_B4.unbind(1)
    return Kept(box | ~keeps_B4.any(1), point, scribble, mask, mask, ~hit["everything"])


def apply(conditions: Conditions, keeps: Kept) -> Conditions:
    """Take away what is not kept."""
    given = {f"{name}_given_BN": getattr(keeps, name) & keeps.anything for name in FORMATS}
    changes = {name: getattr(conditions, name) & stays[:, None] for name, stays in given.items()}
    return replace(conditions, filled_BN=conditions.filled_BN & keeps.anything[:, None], **changes)


_PATTERNS = {  # box, point, scribble, mask (and outline)
    "only_point": (False, True, False, False),
    "only_scribble": (False, False, True, False),
    "only_mask": (False, False, False, True),
    "no_scribble": (True, True, False, True),
    "only_box": (True, False, False, False),
}
