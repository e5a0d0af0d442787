"""Which location formats a training sample keeps: withholding them lets one model read any mix of formats.

Shapes: B pictures; the ten uniforms of a picture stand in the order of the fields of `DropChances`.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from instdiff.layouts.formats import LOCATION_FORMATS
from instdiff.model.conditions import Conditions
from instdiff.schema import Share, Strict


class DropChances(Strict):
    """Chances of withholding a format, then of keeping a format alone, then of withholding everything.

    A format that the table of formats says is withheld with another has no chance of its own: the outline goes with
    the mask. `no_scribble` keeps all but the scribble if the mask is kept (the released code calls it "segment only").
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


class Keep(NamedTuple):
    """(B,) bool each: what stays of a picture's conditions."""

    box: Tensor
    point: Tensor
    scribble: Tensor
    mask: Tensor
    anything: Tensor


def keep_from_draws(uniforms_B10: Tensor, chances: DropChances) -> Keep:
    """What stays, given the draws: a mask implies box and point, a box implies a point, and something always stays.

    Of several patterns drawn the last wins. Source: the released training code, by truth table.
    """
    hit = {name: uniforms_B10[:, place] < getattr(chances, name) for place, name in enumerate(DropChances.model_fields)}
    mask = ~hit["mask"]
    box = ~hit["box"] | mask
    keeps_B4 = torch.stack([box, ~hit["point"] | box, ~hit["scribble"], mask], dim=1)
    for name, pattern in _PATTERNS.items():
        fires = hit[name] & keeps_B4[:, 3] if name == "no_scribble" else hit[name]
        keeps_B4 = torch.where(fires[:, None], torch.tensor(pattern, device=keeps_B4.device), keeps_B4)
    box, point, scribble, mask = keeps_B4.unbind(1)
    return Keep(box | ~keeps_B4.any(1), point, scribble, mask, ~hit["everything"])


def withhold(conditions: Conditions, keep: Keep) -> Conditions:
    """The conditions with what does not stay marked as not given."""
    changes = {"filled_BN": conditions.filled_BN & keep.anything[:, None]}
    for entry in LOCATION_FORMATS:
        stays_B = getattr(keep, entry.withheld_with or entry.name) & keep.anything
        changes[f"{entry.name}_given_BN"] = conditions.given(entry.name) & stays_B[:, None]
    return replace(conditions, **changes)


_PATTERNS = {  # box, point, scribble, mask
    "only_point": (False, True, False, False),
    "only_scribble": (False, False, True, False),
    "only_mask": (False, False, False, True),
    "no_scribble": (True, True, False, True),
    "only_box": (True, False, False, False),
}
