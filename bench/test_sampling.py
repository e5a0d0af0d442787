"""The pipeline against the released code's schedule of work, in plain PyTorch on the same weights and noise.

pytest -s bench/test_sampling.py                                   # small networks, 50 steps
INSTDIFF_BENCH=full pytest -s bench/test_sampling.py               # Stable Diffusion 1.5's size, 2 steps
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from instdiff import checkpoint, conditions, sampling
from instdiff.conditions import Conditions
from instdiff.schema import Box, Instance, Layout
from instdiff.solvers import Plms
from instdiff.unet import InstanceUNet
from instdiff.unifusion import UniFusionConfig

FULL = os.environ.get("INSTDIFF_BENCH") == "full"
STEPS = 2 if FULL else 50
MIS = 0.5 if FULL else 0.36
ALPHA, GUIDANCE, INSTANCES = 0.8, 7.5, 4
OPEN_A_CRACK = 1e-30  # a gate at which the fusers are evaluated and add nothing, as at the released scale of 0
SMALL = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
SMALL_UNIFUSION = checkpoint.OFFICIAL_UNIFUSION.model_copy(
    update={"text_width": 64, "token_width": 64, "hidden_width": 96, "mask_widths": (16, 32, 64, 128)}
)


def network() -> InstanceUNet:
    """Random weights, every gate and scale away from zero."""
    torch.manual_seed(0)
    sizes: UniFusionConfig = checkpoint.OFFICIAL_UNIFUSION if FULL else SMALL_UNIFUSION
    base = checkpoint.SD15_UNET if FULL else SMALL
    unet = InstanceUNet(**base, unifusion_config=sizes.model_dump(mode="json"), scale_u=True).eval()
    with torch.no_grad():
        for name, parameter in unet.instance_layers().items():
            if "alpha_" in name or ".scale_u." in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return unet.requires_grad_(False)


def told(unet: InstanceUNet, count: int) -> Conditions:
    """A layout of `count` instances with boxes and masks, then each of them alone."""
    sizes = unet.unifusion.config
    instances = tuple(Instance(phrase=str(n), box=Box(n / count, 0.2, (n + 1) / count, 0.9)) for n in range(count))
    words = {str(n): torch.randn(sizes.text_width) for n in range(count)}
    layout = conditions.complete(Layout(key="k", prompt="", instances=instances))
    whole = conditions.collate(
        [layout],
        words,
        max_instances=sizes.max_instances,
        mask_size=sizes.mask_size,
        num_scribble_points=sizes.num_scribble_points,
        num_outline_points=sizes.num_outline_points,
    )
    for slot, one in enumerate(instances):
        assert one.box is not None
        left, right = (round(edge * sizes.mask_size) for edge in (one.box.x0, one.box.x1))
        whole.mask_BNHW[0, slot, sizes.mask_size // 5 : sizes.mask_size * 9 // 10, left:right] = True
        whole.mask_given_BN[0, slot] = True
    return sampling.apart(whole)[0]


def released_schedule(
    unet: InstanceUNet, given: Conditions, text_RLD: Tensor, null_1LD: Tensor, noise_1CHW: Tensor
) -> Tensor:
    """One input after the other, two forward passes of one row an evaluation, UniFusion and fusers in each of them."""
    solver, nothing = Plms.of(STEPS), conditions.null(given.rows([0]))
    gates = sampling.gates(solver.num_steps, ALPHA)
    split = sampling.num_steps_apart(solver.num_steps, MIS)

    def guided(row: int) -> Callable[[Tensor, Tensor, float], Tensor]:
        def denoise(x_1CHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
            gate = gate or OPEN_A_CRACK
            asked = unet(x_1CHW, timestep, text_RLD[[row]], unet.ground(given.rows([row]), gate=gate)).sample
            unasked = unet(x_1CHW, timestep, null_1LD, unet.ground(nothing, gate=gate)).sample
            mixed: Tensor = unasked + GUIDANCE * (asked - unasked)
            return mixed

        return denoise

    ends, states = [], []
    for row in range(len(given)):
        x, state = solver.start(noise_1CHW)
        for index in range(split):
            x, state = solver.step(guided(row), x, index, gates[index], state)
        ends.append(x)
        states.append(state)
    x, state = torch.stack(ends).mean(0), states[0]
    for index in range(split, solver.num_steps):
        x, state = solver.step(guided(0), x, index, gates[index], state)
    return x


def our_schedule(
    unet: InstanceUNet, given: Conditions, text_RLD: Tensor, null_1LD: Tensor, noise_1CHW: Tensor
) -> Tensor:
    """What the pipeline does between the text encoder and the autoencoder."""
    solver = Plms.of(STEPS)
    grounding, null = unet.ground(given), unet.ground(conditions.null(given.rows([0])))

    def denoise(rows: slice) -> Callable[[Tensor, Tensor, float], Tensor]:
        return sampling.guided(
            unet, text_RLD[rows], grounding.rows(rows), null_1LD, null, guidance=GUIDANCE, max_rows=16
        )

    return sampling.sample_multi_instance(
        denoise(slice(None)),
        denoise(slice(1)),
        noise_1CHW,
        solver,
        sampling.gates(solver.num_steps, ALPHA),
        picture_R=torch.zeros(len(given), dtype=torch.long),
        share=MIS,
    )


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of each forward pass of the module."""
    rows: list[int] = []
    handle = module.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    yield rows
    handle.remove()


@torch.no_grad()
def test_the_same_latents_with_less_work() -> None:
    """Print forward passes, time and the difference of the two schedules."""
    unet = network()
    given = told(unet, INSTANCES)
    width = unet.config.cross_attention_dim
    text, null = torch.randn(len(given), 77, width), torch.randn(1, 77, width)
    noise = torch.randn(1, 4, unet.config.sample_size, unet.config.sample_size)
    ends, seconds = [], []
    for schedule in (released_schedule, our_schedule):
        with counted(unet) as rows, counted(unet.unifusion) as grounded:
            began = time.process_time()
            ends.append(schedule(unet, given, text, null, noise))
            seconds.append(time.process_time() - began)
        print(
            f"\n{schedule.__name__}: UNet {sum(rows)} rows in {len(rows)} passes, UniFusion {sum(grounded)} rows in "
            f"{len(grounded)} passes, {seconds[-1]:.1f} s of CPU time"
        )
    apart = float((ends[0] - ends[1]).abs().max() / ends[0].std())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds[0] / seconds[1]:.2f}x; the latents differ by {apart:.1e} of their spread; peak {peak:.1f} GiB")
    assert apart < 1e-3
