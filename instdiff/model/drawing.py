"""How pictures are best drawn with instance layers: it stands in the layers' config.json, and who draws takes it there.

A value that is given by hand goes before; `chosen` says in one sentence which differ.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import PositiveInt

from instdiff.schema import Share, Strict

SolverName = Literal["plms", "dpm", "unipc", "lcm"]  # PLMS, DPM-Solver++, UniPC, or few steps of a consistency model
Merge = Literal["mean", "regions"]  # of the latents of instances that were drawn alone
MaskedAttention = bool | Literal["finest"]  # at every level, or the one of the most tokens, as the released code's


class Sampler(Strict):
    """The sampler that suits some layers."""

    solver: SolverName  # PLMS, DPM-Solver++, UniPC, or few steps of a consistency model
    steps: PositiveInt  # of the solver
    guidance: float  # scale of classifier-free guidance; 1 is none
    negative_prompt: str  # what guidance leads away from
    alpha: Share  # share of the steps, from the noisiest on, in which instances count
    mis: Share  # share of the steps in which instances are drawn apart (the multi-instance sampler)
    merge: Merge  # of instances drawn alone: the mean, or each instance in its own place


class Drawing(Sampler):
    """The sampler, and the attention as it was in training."""

    masked_attention: MaskedAttention  # whether a place of the picture attends only to instances it lies in


AS_RELEASED = Drawing(  # of the released script
    solver="plms",
    steps=50,
    guidance=7.5,
    negative_prompt=(
        "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
        "low quality"
    ),
    alpha=0.75,
    mis=0.36,
    merge="mean",
    masked_attention=False,
)


def chosen(own: Drawing, by_hand: Mapping[str, Any]) -> Drawing:
    """The layers' own values, but for those given by hand, unchecked; None is not given."""
    return own.model_copy(update={name: value for name, value in by_hand.items() if value is not None})


def remark(own: Drawing, taken: Drawing) -> str | None:
    """One sentence on the values that are not the layers' own; None where all are."""
    names = [name for name in Drawing.model_fields if getattr(own, name) != getattr(taken, name)]
    if not names:
        return None
    return f"{_listed(taken, names)} as given by hand; these layers are best drawn with {_listed(own, names)}"


def _listed(values: Drawing, names: list[str]) -> str:
    return ", ".join(f"{name} {getattr(values, name)!r}" for name in names)
