"""The pipeline against the released code's schedule of work, in plain PyTorch on the same weights and noise.

pytest -s bench/test_sampling.py                                   # small networks, 50 steps
INSTDIFF_BENCH=full pytest -s bench/test_sampling.py               # Stable Diffusion 1.5's size, 5 steps
"""

import os
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from instdiff.checkpoints import official
from instdiff.layouts.complete import complete
from instdiff.model import conditions, scaleu
from instdiff.model import grounding as fuser
from instdiff.model.attention import GatedSelfAttention
from instdiff.model.conditions import Conditions
from instdiff.model.grounding import Grounding
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig
from instdiff.sampling import guidance, multi_instance
from instdiff.sampling.plms import Plms
from instdiff.schema import Box, Instance, Layout

FULL = os.environ.get("INSTDIFF_BENCH") == "full"
STEPS = 5 if FULL else 50  # of the walks that are compared
SIDE = 16  # of their latents, which at full size are a quarter of the network's own
MAX_ROWS = 16  # of ours in a pass
ROUNDS = 3  # of passes that are timed in turns
MIS, ALPHA, GUIDANCE, INSTANCES = 0.36, 0.8, 7.5, 4
OPEN_A_CRACK = 1e-30  # a gate at which the fusers are evaluated and add nothing, as at the released scale of 0
SMALL = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
SMALL_UNIFUSION = official.OFFICIAL_UNIFUSION.model_copy(
    update={"text_width": 64, "token_width": 64, "hidden_width": 96, "mask_widths": (16, 32, 64, 128)}
)


@cache
def network() -> InstanceUNet:
    """Random weights, every gate and scale away from zero."""
    torch.manual_seed(0)
    sizes: UniFusionConfig = official.OFFICIAL_UNIFUSION if FULL else SMALL_UNIFUSION
    base = official.SD15_UNET if FULL else SMALL
    unet = InstanceUNet(**base, unifusion_config=sizes.model_dump(mode="json"), scale_u=True).eval()
    with torch.no_grad():
        for name, parameter in unet.instance_layers().items():
            if "alpha_" in name or ".scale_u." in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return unet.requires_grad_(False)


def alone_conditions(unet: InstanceUNet, count: int) -> Conditions:
    """A layout of `count` instances with boxes and masks, then each of them alone."""
    sizes = unet.unifusion.config
    instances = tuple(Instance(phrase=str(n), box=Box(n / count, 0.2, (n + 1) / count, 0.9)) for n in range(count))
    words = {str(n): torch.randn(sizes.text_width) for n in range(count)}
    layout = complete(Layout(key="k", prompt="", instances=instances), sizes)
    whole = conditions.collate([layout], words, sizes)
    for slot, instance in enumerate(instances):
        assert instance.box is not None
        left, right = (round(edge * sizes.mask_size) for edge in (instance.box.x0, instance.box.x1))
        whole.mask_BNHW[0, slot, sizes.mask_size // 5 : sizes.mask_size * 9 // 10, left:right] = True
        whole.mask_given_BN[0, slot] = True
    return multi_instance.alone_rows(whole, [count])[0]


@contextmanager
def plainly() -> Iterator[None]:
    """Every token asks and is read in the fusers, and ScaleU goes through frequencies, as in the released code."""

    def look(layer: GatedSelfAttention, visual_BLC: Tensor, grounding: Grounding) -> Tensor:
        tokens_BKC = layer.norm1(torch.cat([visual_BLC, layer.linear(grounding.tokens_BTW)], dim=1))
        parts = (layer.attn.to_q, layer.attn.to_k, layer.attn.to_v)
        q, k, v = (fuser.heads(layer.attn, part(tokens_BKC)) for part in parts)
        taken = F.scaled_dot_product_attention(q, k, v)
        looked: Tensor = layer.attn.to_out[0](taken.transpose(1, 2).flatten(2))[:, : visual_BLC.shape[1]]
        return looked

    def scaled(map_BCHW: Tensor, scale: Tensor) -> Tensor:
        height, width = map_BCHW.shape[-2:]
        mask_HW = torch.ones(height, width, device=map_BCHW.device)
        mask_HW[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = scale
        waves = torch.fft.fftshift(torch.fft.fft2(map_BCHW.float()), dim=(-2, -1)) * mask_HW
        return torch.fft.ifft2(torch.fft.ifftshift(waves, dim=(-2, -1))).real.to(map_BCHW.dtype)

    with ExitStack() as stack:
        stack.enter_context(patch.object(GatedSelfAttention, "_attend", look))
        stack.enter_context(patch.object(scaleu, "scale_low_frequencies", scaled))
        yield


def released_schedule(
    unet: InstanceUNet, layouts: Conditions, text_RLD: Tensor, null_1LD: Tensor, noise_1CHW: Tensor
) -> Tensor:
    """One input after the other, two forward passes of one row an evaluation, UniFusion and fusers in each of them."""
    solver, nothing = Plms.of(STEPS), conditions.null(layouts.rows([0]))
    gates = guidance.gates(solver.num_steps, ALPHA)
    split = multi_instance.num_separate_steps(solver.num_steps, MIS)

    def guided(row: int) -> Callable[[Tensor, Tensor, float], Tensor]:
        def denoise(x_1CHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
            gate = gate or OPEN_A_CRACK
            latents = x_1CHW.to(unet.dtype)
            conditional = unet(latents, timestep, text_RLD[[row]], unet.ground(layouts.rows([row]), gate=gate)).sample
            unconditional = unet(latents, timestep, null_1LD, unet.ground(nothing, gate=gate)).sample
            mixed: Tensor = (unconditional + GUIDANCE * (conditional - unconditional)).to(x_1CHW.dtype)
            return mixed

        return denoise

    ends, states = [], []
    with plainly():
        for row in range(len(layouts)):
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
    unet: InstanceUNet, layouts: Conditions, text_RLD: Tensor, null_1LD: Tensor, noise_1CHW: Tensor
) -> Tensor:
    """What the pipeline does between the text encoder and the autoencoder."""
    solver, picture_R = Plms.of(STEPS), torch.zeros(len(layouts), dtype=torch.long, device=text_RLD.device)
    grounding, null = unet.ground(layouts), unet.ground(conditions.null(layouts.rows([0])))
    denoise = guidance.with_guidance(
        unet,
        text_RLD,
        grounding,
        null_1LD,
        null,
        guidance=GUIDANCE,
        max_rows=MAX_ROWS,
        picture_R=picture_R,
        num_pictures=1,
    )
    gates = guidance.gates(solver.num_steps, ALPHA)
    return multi_instance.sample_multi_instance(
        denoise, denoise, noise_1CHW, solver, gates, picture_R=picture_R, share=MIS
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
    layouts = alone_conditions(unet, INSTANCES)
    width = unet.config.cross_attention_dim
    text, null = torch.randn(len(layouts), 77, width), torch.randn(1, 77, width)
    noise = torch.randn(1, 4, SIDE, SIDE)
    ends, seconds = [], []
    for schedule in (released_schedule, our_schedule):
        with counted(unet) as rows, counted(unet.unifusion) as grounded:
            began = time.process_time()
            ends.append(schedule(unet, layouts, text, null, noise))
            seconds.append(time.process_time() - began)
        print(
            f"\n{schedule.__name__}, {STEPS} steps: UNet {sum(rows)} rows in {len(rows)} passes, UniFusion "
            f"{sum(grounded)} rows in {len(grounded)} passes, {seconds[-1]:.1f} s of CPU time"
        )
    apart = float((ends[0] - ends[1]).abs().max() / ends[0].std())
    print(f"{seconds[0] / seconds[1]:.2f}x; the latents differ by {apart:.1e} of their spread")
    assert apart < 1e-3


@torch.no_grad()
def test_one_row_with_less_work() -> None:
    """Print the time of a row of each kind, in turns (ours in passes of two), and what 50 steps of these rows cost."""
    unet, side = network(), network().config.sample_size
    layouts = alone_conditions(unet, INSTANCES).rows([0])
    x, text = torch.randn(1, 4, side, side), torch.randn(1, 77, unet.config.cross_attention_dim)
    once = unet.with_cached_keys(text, unet.ground(layouts)).rows([0, 0])
    twice = x[[0, 0]]

    def plain() -> Tensor:
        with plainly():
            noise: Tensor = unet(x, 500, text, unet.ground(layouts)).sample
        return noise

    compiled = torch.compile(unet, dynamic=False, options={"freezing": True})
    kinds: dict[str, Callable[[], Tensor]] = {
        "plain": plain,
        "ours": lambda: unet(twice, 500, once.text_RLD, once.grounding, once.keys).sample,
        "gate 0": lambda: unet(twice, 500, once.text_RLD, None, once.keys).sample,
        "ours, compiled": lambda: compiled(twice, 500, once.text_RLD, once.grounding, once.keys).sample,
        "gate 0, compiled": lambda: compiled(twice, 500, once.text_RLD, None, once.keys).sample,
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    ends = {name: kind() for name, kind in kinds.items()}  # in which the compiler works
    for _ in range(ROUNDS):
        for name, kind in kinds.items():
            began = time.process_time()
            kind()
            seconds[name].append((time.process_time() - began) / len(ends[name]))
        print("\n" + "; ".join(f"{name} {took[-1]:.2f} s" for name, took in seconds.items()), end="", flush=True)
    middle = {name: statistics.median(took) for name, took in seconds.items()}
    rows = rows_of_a_walk(50)
    print(f"\n{dict(rows)} of 50 steps")
    for how in ("", ", compiled"):
        apart = float((ends["plain"] - ends[f"ours{how}"]).abs().max() / ends["plain"].std())
        ours = sum(rows[name] * middle[name + how] for name in ("ours", "gate 0"))
        print(f"ours{how}: {rows['plain'] * middle['plain'] / ours:.2f}x, {apart:.1e} of its spread apart")
        assert apart < 1e-3


def rows_of_a_walk(num_steps: int) -> Counter[str]:
    """How many rows of each kind a walk of the setting takes."""
    solver = Plms.of(num_steps)
    gates, split = guidance.gates(num_steps, ALPHA), multi_instance.num_separate_steps(num_steps, MIS)
    rows: Counter[str] = Counter()
    for index, gate in enumerate(gates):
        apart = INSTANCES + 1 if index < split else 1
        evaluations = 2 if index == 0 else 1
        rows["plain"] += 2 * apart * evaluations
        rows["ours" if gate else "gate 0"] += 2 * apart * evaluations - (INSTANCES if index == 0 else 0)
    assert solver.num_steps == num_steps
    return rows


@torch.no_grad()
def test_memory_grows_with_the_instances() -> None:
    """Print the most memory this process has held after one pass of 2 rows, with all rows of a layout told."""
    unet, side = network(), network().config.sample_size
    print()
    for count in (1, 4, 12, 30):
        layouts = alone_conditions(unet, count)
        parts = [unet.ground(layouts.rows(slice(start, start + 4))) for start in range(0, len(layouts), 4)]
        text = torch.randn(len(layouts), 77, unet.config.cross_attention_dim)
        null = unet.ground(conditions.null(layouts.rows([0])))
        denoise = guidance.with_guidance(unet, text, fuser.cat(parts), text[:1], null, guidance=GUIDANCE, max_rows=2)
        denoise(torch.randn(1, 4, side, side), torch.tensor(500), 1.0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{count} instances, {len(layouts)} rows: {peak:.2f} GiB")
        assert all(part.tokens_BTW.isfinite().all() for part in parts)
