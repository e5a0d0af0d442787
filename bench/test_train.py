"""The training step against the released one written plainly: time, memory, and what the machinery around it costs."""

import multiprocessing
import random
import resource
import signal
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import train_world
import yaml
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from instdiff.config import compose
from instdiff.data.batches import Batch
from instdiff.data.samples import laid_out
from instdiff.model.noise_schedule import noised
from instdiff.model.unet import InstanceUNet
from instdiff.schema import Box, Instance, Layout
from instdiff.training import train
from instdiff.training.accelerated import Accelerated
from instdiff.training.initial_weights import start
from instdiff.training.loop import Training, advance

ROOT = Path(__file__).parents[1]
STEPS, BATCH, TEXT = 20, 2, 64


def params(*overrides: str) -> train.Params:
    """The miniature's recipe with a small batch."""
    values = yaml.safe_load(compose.composed([f"train.batch_size={BATCH}", *overrides], ROOT / "configs"))
    return train.Params.model_validate(values["train"])


def networks() -> tuple[InstanceUNet, AutoencoderKL, CLIPTextModel]:
    """The full-size networks at a fifth of their width, on pictures of 128 x 128."""
    torch.manual_seed(0)
    sizes = params().unifusion.model_copy(update={"text_width": TEXT, "token_width": TEXT})
    unet = InstanceUNet(
        sample_size=16,
        block_out_channels=(64, 128, 256, 256),
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        unifusion_config=sizes.model_dump(),
        scale_u=True,
    )
    levels = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (32, 64, 128, 128),
    }
    vae = AutoencoderKL(**levels, layers_per_block=2, norm_num_groups=16).requires_grad_(False)
    text = CLIPTextModel(CLIPTextConfig(hidden_size=TEXT, intermediate_size=4 * TEXT, num_attention_heads=4))
    return unet, vae, text.requires_grad_(False)


def batch(vae: AutoencoderKL, text: CLIPTextModel, unet: InstanceUNet) -> tuple[Batch, Tensor, Tensor]:
    """A batch, and the pictures and words its latents and prompts come from."""
    draw = torch.Generator().manual_seed(1)
    pixels = torch.rand(BATCH, 3, 128, 128, generator=draw) * 2 - 1
    words = torch.randint(0, 49000, (BATCH, 77), generator=draw)
    instance = Instance(phrase="a", box=Box(0.1, 0.1, 0.6, 0.7))
    layouts = [Layout(key=str(number), prompt="", instances=(instance,)) for number in range(BATCH)]
    conditions = laid_out(layouts, [torch.ones(1, TEXT)] * BATCH, unet.unifusion.config, None)
    noise = torch.randn(BATCH, 4, 16, 16, generator=draw)
    with torch.no_grad():
        latents, prompts = vae.encode(pixels).latent_dist.mode(), text(words).last_hidden_state
    return Batch(latents, noise, torch.tensor([200, 700]), prompts, conditions), pixels, words


def plainly(unet: InstanceUNet, vae: AutoencoderKL, text: CLIPTextModel, rate: float) -> Callable[[], float]:
    """The released step: gradients of all weights, an average of all weights one by one, VAE and CLIP in every step."""
    inputs, pixels, words = batch(vae, text, unet)
    unet.requires_grad_(True)
    optimiser = torch.optim.AdamW(unet.instance_layers().values(), lr=rate, weight_decay=0.0)
    averaged = deepcopy(unet)
    grid = (16, 16)

    def step() -> float:
        with torch.no_grad():
            latents, prompts = vae.encode(pixels).latent_dist.mode(), text(words).last_hidden_state
        noisy = noised(latents, inputs.noise_BChw, inputs.timesteps_B)
        predicted = unet(noisy, inputs.timesteps_B, prompts, unet.ground(inputs.conditions, masked=grid)).sample
        loss = (predicted - inputs.noise_BChw).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for average, weight in zip(averaged.parameters(), unet.parameters(), strict=True):
                average.copy_(0.9999 * average + 0.0001 * weight)
        return loss.item()

    return step


def ours(unet: InstanceUNet, inputs: Batch, how: train.Params, folder: Path) -> Callable[[], float]:
    """A step of the stage."""
    start(unet, how.start)
    engine = Accelerated(how.hardware, folder)
    objective = engine.prepare(train.Objective(unet, how, (16, 16)))
    training = Training(unet, how.optimisation, engine, folder / "checkpoint.pt")

    def step() -> float:
        before = training.total.clone()
        advance(training, lambda _: objective(inputs), how.optimisation, training.step)
        return (training.total - before).item()

    return step


def cached(unet: InstanceUNet) -> Batch:
    """A batch as it comes from the cache: neither VAE nor CLIP is there."""
    draw = torch.Generator().manual_seed(1)
    layouts = [Layout(key=str(number), prompt="", instances=()) for number in range(BATCH)]
    conditions = laid_out(layouts, [torch.ones(0, TEXT)] * BATCH, unet.unifusion.config, None)
    latents, noise = torch.randn(2, BATCH, 4, 16, 16, generator=draw)
    return Batch(latents, noise, torch.tensor([200, 700]), torch.randn(BATCH, 77, TEXT, generator=draw), conditions)


def peak(which: str, folder: Path, queue: "multiprocessing.Queue[int]") -> None:
    """Most bytes that three steps took in this process, beyond those of the imports."""
    torch.set_num_threads(1)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    if which == "plain":
        step = plainly(*networks(), 1e-4)
    else:
        unet = networks()[0]
        step = ours(unet, cached(unet), params(), folder)
    for _ in range(3):
        step()
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def test_memory(tmp_path: Path) -> None:
    """Print the peak of each, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    peaks = {}
    for which in ("plain", "ours"):
        queue = spawn.Queue()
        process = spawn.Process(target=peak, args=(which, tmp_path / which, queue))
        process.start()
        peaks[which] = queue.get() / 1e6
        process.join()
    plain, small = peaks["plain"], peaks["ours"]
    print(f"\nmemory of a step: {plain:.0f} MB plainly, {small:.0f} MB here: {small / plain:.2f} of it")


def test_fifty_kills(tmp_path: Path) -> None:
    """Print how a run ends that is killed fifty times: in the bits and the log of one that is left alone."""
    train_world.made(tmp_path)
    how = train_world.changed(optimisation={"steps": 60, "save_every": 3})
    began = time.perf_counter()
    for name in ("whole", "killed"):  # a folder each, in which its checkpoints lie
        (tmp_path / name).mkdir()
        for step in sorted(random.Random(0).sample(range(60), 50)) if name == "killed" else ():
            ended = train_world.run(tmp_path, tmp_path / name / "out", params=how, killed_at=step)
            assert ended == [-signal.SIGKILL]
        assert train_world.run(tmp_path, tmp_path / name / "out", params=how) == [0]
    whole, killed = (tmp_path / name / "out" for name in ("whole", "killed"))
    assert (whole / train.LOG).read_bytes() == (killed / train.LOG).read_bytes()
    weights = Path("layers/instance_layers.safetensors")
    assert (whole / weights).read_bytes() == (killed / weights).read_bytes()
    print(
        f"\n50 kills in 60 steps, a checkpoint each third: same weights, same log; {time.perf_counter() - began:.0f} s"
    )


def seconds(step: Callable[[], float], times: int = 1) -> float:
    """CPU seconds of a step."""
    began = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - began) / times


def test_against_the_released_step(tmp_path: Path) -> None:
    """Print the ratio; the losses must agree for 20 steps."""
    unet, vae, text = networks()
    constant = ("warmup=0", "cooldown=0.0", "clip=1e9", "learning_rate=1e-4", "faster={alpha_:1,scale_u:1}")
    how = params(
        "train.min_snr=null",
        "train.hardware.betas=[0.9,0.999]",
        *(f"train.optimisation.{setting}" for setting in constant),
    )
    theirs = plainly(deepcopy(unet), vae, text, 1e-4)
    inputs, _, _ = batch(vae, text, unet)
    fast = ours(deepcopy(unet), inputs, how, tmp_path)
    spent, losses = {"plain": [], "ours": []}, {"plain": [], "ours": []}
    for _ in range(STEPS):
        for name, step in (("plain", theirs), ("ours", fast)):
            began = time.process_time()
            losses[name].append(step())
            spent[name].append(time.process_time() - began)
    plain, quick = (statistics.median(spent[name]) for name in ("plain", "ours"))
    apart = max(abs(a - b) for a, b in zip(losses["plain"], losses["ours"], strict=True))
    print(f"\ntraining step: {plain:.3f} s plainly, {quick:.3f} s here: {plain / quick:.2f}x; losses {apart:.1e} apart")
    assert losses["plain"] == pytest.approx(losses["ours"], abs=1e-4)


def test_what_the_machinery_costs(tmp_path: Path) -> None:
    """Print what a step of the stage adds to a bare loop of the same arithmetic."""
    unet, vae, text = networks()
    how = params()
    inputs, _, _ = batch(vae, text, unet)
    bare_unet = deepcopy(unet).freeze_base()
    objective = train.Objective(bare_unet, how, (16, 16))
    weights = [weight for weight in bare_unet.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW([{"params": [weight]} for weight in weights], lr=1e-3)
    averaged = [weight.detach().clone() for weight in weights]

    def bare() -> float:
        optimiser.zero_grad()
        loss = objective(inputs)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 0.01)
        return float(loss.item())

    full = ours(unet, inputs, how, tmp_path)
    spent: dict[str, list[float]] = {"bare": [], "full": []}
    for _ in range(STEPS):
        spent["bare"].append(seconds(bare))
        spent["full"].append(seconds(full))
    plain, whole = statistics.median(spent["bare"]), statistics.median(spent["full"])
    print(f"\nmachinery: {plain:.4f} s bare, {whole:.4f} s with it: {whole / plain - 1:+.1%}")
