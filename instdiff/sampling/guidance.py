"""Guidance: one denoiser of conditional and null rows, and how much instances count in each step.

What a step needs is known before it: nothing here reads a value back from the device, and no row is copied to it.

Shapes: R rows of a batch (pictures, then instances drawn alone), C x H x W latents, L text positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from instdiff.model.grounding import Grounding, TextAndGrounding, cat_rows
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.protocol import Denoise

_SIZES = (1, 2, 3, 4, 6)  # of padded passes, and these doubled: at most a third of the rows is padding


def with_guidance(
    unet: InstanceUNet,
    text_RLD: Tensor,
    grounding: Grounding | None,
    null_text_RLD: Tensor,
    null_grounding: Grounding | None,
    *,
    guidance: float,
    max_rows: int,
    picture_R: Tensor | None = None,
    num_pictures: int | None = None,
    steps: range | None = None,
    reuse: int = 1,
    padded: bool = False,
) -> Guided:
    """Classifier-free guidance, conditional and null rows in one batch, at most `max_rows` of them in a forward pass.

    Keys and values of text and tokens are computed here, once for all steps. Latents may have fewer rows than there are
    texts: the first. `null_text_RLD` may have one row for all; `null_grounding` has one row, from `null(conditions)`.
    Give both groundings or neither. At guidance 1 the null rows are not computed, and neither are they outside `steps`.
    In a step whose rows of one of the `num_pictures` pictures (`picture_R`) begin with the same latents, they share
    one. Latents keep their precision: only the network runs in its own. `reuse` and `padded` as in `Guided`.
    """
    cached = unet.with_cached_keys(text_RLD, grounding)
    if guidance != 1:
        nothing = None if null_grounding is None else null_grounding.rows([0] * len(null_text_RLD))
        cached = cat_rows([cached, unet.with_cached_keys(null_text_RLD, nothing)])
    sharing = None
    if picture_R is not None and num_pictures is not None and num_pictures < len(text_RLD) and len(null_text_RLD) == 1:
        sharing = picture_R, num_pictures
    return Guided(unet, cached, len(text_RLD), guidance, max_rows, sharing, steps, reuse, padded)


@dataclass(frozen=True)
class Guided:
    """A denoiser of conditional and null rows; `at_step` gives that of a step."""

    unet: InstanceUNet
    cached: TextAndGrounding  # conditional rows, then null rows
    num_conditional: int
    guidance: float
    max_rows: int
    sharing: tuple[Tensor, int] | None = None  # the picture of each row, and their number: they can share null rows
    steps: range | None = None  # that are guided; None: all
    reuse: int = 1  # of so many steps only the first evaluates the deep levels of the network
    padded: bool = False  # whether passes are filled up to few sizes, for code compiled for each size
    deep: dict[int, Tensor] = field(default_factory=dict)  # features of the last full step, by the pass

    def __call__(self, x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
        """The guided noise, no row shared."""
        return self._noise(x_RCHW, timestep, gate)

    def at_step(self, index: int, *, begins: bool, alike: bool) -> Denoise:
        """The denoiser of a step; where `alike`, all rows of a picture hold the same latents in its first evaluation.

        The first step of a walk (`begins`) evaluates all levels.
        """
        is_guided = self.steps is None or index in self.steps
        is_full = begins or self.reuse == 1 or index % self.reuse == 0
        firsts = iter([alike and self.reuse == 1])  # features that are kept are those of the same rows

        def denoise(x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
            shares = next(firsts, False)
            return self._noise(x_RCHW, timestep, gate, is_guided=is_guided, shares=shares, is_full=is_full)

        return denoise

    def _noise(
        self,
        x_RCHW: Tensor,
        timestep: Tensor,
        gate: float,
        *,
        is_guided: bool = True,
        shares: bool = False,
        is_full: bool = True,
    ) -> Tensor:
        own_R = torch.arange(len(x_RCHW), device=x_RCHW.device)
        if self.guidance == 1 or not is_guided:
            return self._passes(x_RCHW, own_R, timestep, gate, is_full).to(x_RCHW.dtype)
        shared = self.sharing if shares and len(x_RCHW) == self.num_conditional else None
        null_R = own_R if shared is None else own_R[: shared[1]]
        latents = torch.cat([x_RCHW, x_RCHW[: len(null_R)]])
        rows = torch.cat([own_R, self.num_conditional + null_R % (len(self.cached) - self.num_conditional)])
        noise = self._passes(latents, rows, timestep, gate, is_full).to(x_RCHW.dtype)
        conditional, unconditional = noise[: len(own_R)], noise[len(own_R) :]
        unconditional = unconditional if shared is None else unconditional[shared[0]]
        return unconditional + self.guidance * (conditional - unconditional)

    def _passes(self, x_RCHW: Tensor, rows_R: Tensor, timestep: Tensor, gate: float, is_full: bool) -> Tensor:
        """(R, C, H, W): the network's output for these rows of what is cached, at most `max_rows` at a time."""
        latents, parts = x_RCHW.to(self.unet.conv_in.weight.dtype), []
        for start in range(0, len(rows_R), self.max_rows):
            part, index = latents[start : start + self.max_rows], rows_R[start : start + self.max_rows]
            count = len(part)
            if self.padded:
                part, index = (_filled(each, padded_size(count, self.max_rows)) for each in (part, index))
            rows = self.cached.rows(index)
            seen = None if rows.grounding is None or gate == 0 else rows.grounding.at(gate)
            parts.append(self._pass(start, part, timestep, rows, seen, is_full)[:count])
        return torch.cat(parts)

    def _pass(
        self, start: int, x: Tensor, timestep: Tensor, rows: TextAndGrounding, seen: Grounding | None, is_full: bool
    ) -> Tensor:
        inputs = x, timestep, rows.text_RLD, seen, rows.keys
        if self.reuse == 1:
            noise: Tensor = self.unet(*inputs, return_dict=False)[0]
            return noise
        held = self.deep.get(start)
        if not is_full and held is not None and len(held) == len(x):
            return self.unet.shallow(*inputs, deep=held)
        noise, self.deep[start] = self.unet.with_deep_features(*inputs)
        return noise


def padded_size(count: int, most: int) -> int:
    """The smallest of few sizes that takes so many rows, of which a pass has at most `most`."""
    sizes = {min(size << doubled, most) for size in _SIZES for doubled in range(count.bit_length() + 1)}
    return min(size for size in sizes if size >= count)


def _filled(rows: Tensor, size: int) -> Tensor:
    """The rows, and the first of them again up to this number."""
    return rows if len(rows) == size else torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])


def with_reloaded_first_conv(
    own: Denoise, reloaded: Denoise, gates: Sequence[float], split: int, num_pictures: int
) -> Denoise:
    """Reproduces the released bug: the first convolution, reloaded at gate 0, is never restored.

    The released code draws the picture first, then each instance: where a gate of the `split` separate steps is 0, it
    draws every instance with `reloaded` alone. Both denoisers take all rows; the first `num_pictures` are the pictures.
    """
    used_up = 0 in gates[:split]

    def denoise(x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
        if gate == 0:
            return reloaded(x_RCHW, timestep, gate)
        noise_RCHW = own(x_RCHW, timestep, gate)
        if used_up and len(x_RCHW) > num_pictures:
            others_RCHW = reloaded(x_RCHW, timestep, gate)[num_pictures:]
            noise_RCHW = torch.cat([noise_RCHW[:num_pictures], others_RCHW])
        return noise_RCHW

    return denoise


def gates(num_steps: int, on: float, fading: float = 0.0) -> list[float]:
    """One gate a step: 1 for a share `on` of them, falling to 0 over a share `fading`, then 0.

    Steps are counted by rounding down.
    """
    if not (0 <= on <= 1 and 0 <= fading <= 1 and on + fading <= 1 + 1e-9):
        raise ValueError(f"shares of steps {on} and {fading} must lie in 0..1, and so must their sum")
    num_on, num_fading = int(on * num_steps), int(fading * num_steps)
    falling = [number * (1 / num_fading) for number in reversed(range(num_fading))]
    return [1.0] * num_on + falling + [0.0] * (num_steps - num_on - num_fading)


def guided_steps(num_steps: int, interval: tuple[float, float]) -> range | None:
    """The steps of an interval of shares, from the noisiest on; None where they are all (Kynkäänniemi et al. 2024)."""
    start, stop = interval
    if not 0 <= start < stop <= 1:
        raise ValueError(f"guidance_interval {start}, {stop}: two rising shares of the steps in 0..1")
    return None if (start, stop) == (0, 1) else range(round(start * num_steps), round(stop * num_steps))
