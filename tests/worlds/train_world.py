"""A very small training: drawn samples, a random base of the real classes, and the recipe the tests change."""

import multiprocessing
import os
import signal
import socket
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from data_world import INGEST, SKETCH, prepared, sharded
from diffusers import UNet2DConditionModel

from instdiff.data import embeddings, shards, source
from instdiff.data.embeddings import Embedded, Empty
from instdiff.data.format_dropout import DropChances
from instdiff.layouts.prompts import Prompts
from instdiff.model.drawing import Sampler
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig
from instdiff.training import train
from instdiff.training.accelerated import Accelerated, Hardware
from instdiff.training.engine import Engine, Loss, Optimisation
from instdiff.training.initial_weights import Start
from instdiff.training.loop import Diverged, Training
from instdiff.training.probe import Models

WIDTH = 8
ODDS = {"box": 0.1, "point": 0.1, "scribble": 0.5, "mask": 0.5, "only_point": 0.1, "only_scribble": 0.1}
PARAMS = train.Params(
    source="train",
    seed=5,
    unifusion=UniFusionConfig(
        max_instances=12,
        text_width=WIDTH,
        token_width=WIDTH,
        hidden_width=WIDTH,
        num_scribble_points=20,
        num_outline_points=256,
        mask_size=16,
        mask_widths=(4, 8),
        mask_depths=(1, 1),
    ),
    scale_u=True,
    masked_attention=True,
    drawing=Sampler(solver="dpm", steps=2, guidance=3.0, negative_prompt="", alpha=1.0, mis=0.0, merge="mean"),
    compat=None,
    order="epochs",
    window=2,
    mirror=0.5,
    latent_spread=1.0,
    prompts=Prompts(listed="never", count_dup=False, add_inst_cap_2_global=False),
    drop_caption=0.3,
    instance_captions=0.5,
    odds=DropChances(**ODDS, only_mask=0.0, no_scribble=0.1, only_box=0.1, everything=0.1),
    timesteps="stratified",
    min_snr=None,
    batch_size=4,
    start=Start(kind="fresh", weights=None, lora=None),
    optimisation=Optimisation(
        steps=6,
        learning_rate=1e-2,
        weight_decay=0.0,
        warmup=2,
        cooldown="cosine",
        clip=1.0,
        ema=0.9,
        faster={"alpha_": 5},
        save_every=1,
        log_every=2,
    ),
    hardware=Hardware(
        device="cpu",
        parallel="ddp",
        precision="no",
        accumulate=1,
        checkpointing=False,
        compile=False,
        optimiser="adamw",
        betas=(0.9, 0.99),
        trackers=(),
    ),
    data=source.Data(
        source="memory",
        workers=0,
        texts_at_once=4,
        url=None,
        copies=None,
        copies_limit=None,
        mixture=None,
    ),
    probe=None,
)


def changed(**changes: Any) -> train.Params:
    """PARAMS with other values; a dictionary changes some of a part's values."""
    parts = {
        name: getattr(PARAMS, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return PARAMS.model_copy(update=parts)


def made(root: Path) -> None:
    """Shards of ten pictures, embeddings drawn at random, and a base."""
    prepared(root, ingest=INGEST.model_copy(update={"num_train": 10}), sketch=SKETCH)
    sharded(root)
    draw = torch.Generator().manual_seed(0)
    words = cache(lambda _: torch.randn(WIDTH, generator=draw))
    (root / "embeddings").mkdir()
    for name, rows in shards.read_index(root / "shards").groupby("shard", sort=False):
        layouts = [shards.read_one(root / "shards", row).layout for row in rows.to_dict("records")]
        instances = [instance for layout in layouts for instance in layout.instances]
        latents = torch.randn(2, len(layouts), 2, 4, 8, 8, generator=draw)
        start = torch.tensor([0, *(len(layout.instances) for layout in layouts)]).cumsum(0)
        embedded = Embedded(
            tuple(layout.key for layout in layouts),
            latents[0],
            latents[1].abs(),
            torch.randn(len(layouts), 3, WIDTH, generator=draw),
            torch.stack([words(instance.phrase) for instance in instances]),
            torch.stack([words(instance.category) for instance in instances]),
            start,
        )
        embeddings.write_one(root / "embeddings" / f"{Path(str(name)).stem}.safetensors", embedded)
    embeddings.write_empty(root / "embeddings", Empty(torch.zeros(3, WIDTH), torch.zeros(WIDTH)))
    torch.manual_seed(1)
    base().save_pretrained(root / "unet")


def base() -> UNet2DConditionModel:
    """A random base of the real class, as small as it gets."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def trained(root: Path, out: Path, params: train.Params = PARAMS, models: Models | None = None) -> bytes:
    """The weights that a run of the stage ends with; `models` where it reads any."""
    folders = {name: root / name for name in ("shipped", "shards", "embeddings", "unet")}
    models = models or Models(root / "text", root / "vae", root / "detector", root / "judge")
    train.run(**folders, **models._asdict(), instance=out, params=params)
    return (out / "layers" / "instance_layers.safetensors").read_bytes()


def instance_unet() -> InstanceUNet:
    """The base with fresh instance layers."""
    torch.manual_seed(2)
    return InstanceUNet.from_base(base(), PARAMS.unifusion, scale_u=True)


def engine(root: Path, **changes: Any) -> Accelerated:
    """One process."""
    return Accelerated(PARAMS.hardware.model_copy(update=changes), root / "trackers")


def forget_processes() -> None:
    """Let accelerate look anew at how many processes there are and in what precision they work."""
    AcceleratorState._reset_state(reset_partial_state=True)


def run(
    root: Path,
    out: Path,
    *,
    params: train.Params = PARAMS,
    models: Models | None = None,
    processes: int = 1,
    killed_at: int | None = None,
    nan_at: int | None = None,
    full_at: int | None = None,
) -> list[int | None]:
    """The stage in processes of its own; how they ended.

    Each is killed hard when it begins a step, or the last one's loss is not a number there, or the first one's disk is
    full when it has made that many steps.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    clean = multiprocessing.get_context("forkserver")  # imports once, and holds no threads that a fork would lose
    clean.set_forkserver_preload([__name__, "instdiff.training.train"])
    places = [shared | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(processes)]
    faults = (killed_at, nan_at, full_at)
    ranks = [clean.Process(target=rank, args=(root, out, params, models, place, *faults)) for place in places]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return [process.exitcode for process in ranks]


def rank(
    root: Path,
    out: Path,
    params: train.Params,
    models: Models | None,
    environment: dict[str, str],
    killed_at: int | None,
    nan_at: int | None,
    full_at: int | None,
) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    os.chdir(out.parent)
    os.environ |= environment if environment["WORLD_SIZE"] != "1" else {}
    gradients, backward = Engine.gradients, Accelerated.backward

    def deadly(self: Engine, loss: Loss, step: int) -> torch.Tensor:
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return gradients(self, loss, step)

    def broken(self: Accelerated, loss: Loss, number: int, *, last: bool) -> torch.Tensor:
        value = backward(self, loss, number, last=last)
        return value * float("nan") if number == nan_at and self.rank == self.num_processes - 1 else value

    write = Training._write

    def full(self: Training, state: dict[str, Any]) -> None:
        if self.step == full_at:
            raise OSError(f"{self.checkpoint}: no space left at step {self.step}")
        write(self, state)

    Engine.gradients, Accelerated.backward = deadly, broken  # type: ignore[method-assign]
    Training._write = full  # type: ignore[method-assign]
    try:
        trained(root, out, params, models)
    except (Diverged, OSError) as error:
        (out.parent / f"said-{environment['RANK']}.txt").write_text(str(error))
        raise
