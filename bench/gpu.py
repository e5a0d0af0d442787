"""What a GPU does with the pipeline, in at most 8 minutes: one table and a JSON file. See bench/gpu.sh.

Each part has a share of the time and is left out, with a word, where that is spent; a part that fails says so and the
others go on. FLOP are counted by torch on the same calls; the limit beside them is the card's, of dense half precision.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

PEAKS = {  # FLOP a second in dense half precision, by NVIDIA's data sheets
    "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "L4": 121e12, "V100": 125e12,
    "T4": 65e12,
}  # fmt: skip
AIMS = {"sampling": 0.5, "training": 0.45}  # share of the peak
Row = dict[str, Any]


class Clock:
    """Time, memory and the end of the budget on a device."""

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device, self.ends = device, time.monotonic() + budget

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Of one run."""
        self.wait()
        began = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began

    def median(self, run: Callable[[], object], rounds: int = 3) -> float:
        """Of some runs, after one that is not counted."""
        run()
        return statistics.median(self.seconds(run) for _ in range(rounds))

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    @contextmanager
    def peak(self, row: Row) -> Iterator[None]:
        """Writes the most memory that was held, in GiB, into the row."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        row["GiB"] = (
            round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2) if self.device.type == "cuda" else None
        )


def peak_of(device: torch.device) -> float | None:
    """FLOP a second of the card, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def flops(run: Callable[[], object]) -> int:
    """Of one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def share(count: float, seconds: float, peak: float | None) -> float | None:
    """Of the card's peak."""
    return None if peak is None else round(count / seconds / peak, 3)


def sampling(clock: Clock, small: bool, dtype: torch.dtype) -> Iterator[Row]:
    """Ours against the plain rendering of the released schedule: the same weights, noise and inputs."""
    import test_sampling as plain

    unet = plain.network().to(clock.device, dtype)
    width, side = unet.config.cross_attention_dim, 16 if small else unet.config.sample_size
    plain.STEPS, plain.MAX_ROWS = (4, 16) if small else (50, 62)
    for instances in (1, 4) if small else (1, 4, 12, 30):
        if clock.left() < 60 and not small:
            yield {"part": f"sampling, {instances} instances", "left out": "no time"}
            continue
        layouts = plain.alone_conditions(unet, instances).to(clock.device)
        layouts = layouts.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
        text, null = (torch.randn(n, 77, width, device=clock.device, dtype=dtype) for n in (len(layouts), 1))
        noise = torch.randn(1, 4, side, side, device=clock.device)
        ends: list[Tensor] = []
        row: Row = {"part": f"sampling, PLMS {plain.STEPS}, {instances} instances, {dtype}"}

        def run(
            schedule: Any,
            inputs: Any = (layouts, text, null, noise),
            into: list[Tensor] = ends,
        ) -> Callable[[], object]:
            return lambda: into.append(schedule(unet, *inputs))

        with clock.peak(row):
            row["s"] = round(clock.median(run(plain.our_schedule), 2), 3)
        ours = ends[-1]
        row["plain s"] = round(clock.seconds(run(plain.released_schedule)), 3)
        row["ratio"] = round(row["plain s"] / row["s"], 2)
        row["apart"] = float((ours.float() - ends[-1].float()).abs().max() / ours.float().std())
        row["of peak"] = share(flops(run(plain.our_schedule)), row["s"], peak_of(clock.device))
        row["aim"] = AIMS["sampling"]
        yield row


def passes(clock: Clock, small: bool) -> Iterator[Row]:
    """One pass of many rows: eager, in channels-last order, with compiled blocks, compiled whole."""
    import test_sampling as plain

    dtype = torch.float32 if small else torch.bfloat16
    unet = plain.network().to(clock.device, dtype)
    count, side = (4, 16) if small else (62, 64)
    layouts = plain.alone_conditions(unet, 1).rows([0] * count).to(clock.device)
    text = torch.randn(count, 77, unet.config.cross_attention_dim, device=clock.device, dtype=dtype)
    x, timestep = (
        torch.randn(count, 4, side, side, device=clock.device, dtype=dtype),
        torch.full((), 500, device=clock.device),
    )
    cached = unet.with_cached_keys(
        text, unet.ground(layouts.map(lambda o: o.to(dtype) if o.is_floating_point() else o))
    )

    def run() -> Tensor:
        out: Tensor = unet(x, timestep, cached.text_RLD, cached.grounding, cached.keys).sample
        return out

    count_of_flops, exact = flops(run), run().float()
    kinds: dict[str, Callable[[], object]] = {
        "eager": lambda: None,
        "channels last": lambda: torch.nn.Module.to(unet, memory_format=torch.channels_last),
        "and blocks compiled": lambda: unet.compile_repeated_blocks(dynamic=False),
        "and whole": lambda: unet.compile(dynamic=False),
    }
    for name, change in kinds.items():
        if "whole" in name and (small or clock.left() < 90):
            yield {"part": f"pass of {count} rows, {name}", "left out": "no time"}
            continue
        change()
        row: Row = {"part": f"pass of {count} rows, {dtype}, {name}", "first s": round(clock.seconds(run), 2)}
        with clock.peak(row):
            row["s"] = round(clock.median(run), 4)
        row["apart"] = float((run().float() - exact).abs().max() / exact.std())
        yield row | {"of peak": share(count_of_flops, row["s"], peak_of(clock.device)), "aim": AIMS["sampling"]}
    plain.network.cache_clear()


def solvers(clock: Clock, small: bool) -> Iterator[Row]:
    """PLMS with 50 steps and DPM-Solver++ with 20, four instances, a whole walk."""
    import test_sampling as plain

    from instdiff.model import conditions
    from instdiff.sampling import guidance, multi_instance
    from instdiff.sampling.solvers import scheduler, solver

    dtype = torch.float32 if small else torch.bfloat16
    unet = plain.network().to(clock.device, dtype)
    layouts = plain.alone_conditions(unet, 4).to(clock.device)
    layouts = layouts.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
    width, side = unet.config.cross_attention_dim, 16 if small else 64
    text, null = (torch.randn(n, 77, width, device=clock.device, dtype=dtype) for n in (len(layouts), 1))
    noise, rows = (
        torch.randn(1, 4, side, side, device=clock.device),
        torch.zeros(len(layouts), dtype=torch.long, device=clock.device),
    )
    for name, steps in (("plms", 50), ("dpm", 20)):
        walk = solver(scheduler(name), 4 if small else steps)
        arguments = text, unet.ground(layouts), null, unet.ground(conditions.null(layouts.rows([0])))
        denoise = guidance.with_guidance(unet, *arguments, guidance=7.5, max_rows=62, picture_R=rows, num_pictures=1)
        opened = guidance.gates(walk.num_steps, 0.8)

        def run(denoise: Any = denoise, walk: Any = walk, opened: Any = opened) -> Tensor:
            return multi_instance.sample_multi_instance(
                denoise, denoise, noise, walk, opened, picture_R=rows, share=0.36
            )

        row: Row = {"part": f"{name}, {walk.num_steps} steps, 4 instances, {dtype}"}
        with clock.peak(row):
            row["s"] = round(clock.median(run, 1), 3)
        yield row


def training(clock: Clock, small: bool) -> Iterator[Row]:
    """A step of the instance layers: plainly in float32, then in bfloat16 with and without kept activations."""
    import test_sampling as plain

    from instdiff.data.batches import Batch
    from instdiff.training.train import Objective

    unet = plain.network().float().to(clock.device).freeze_base().train()
    side, size = (16, 2) if small else (64, 8)
    layouts = plain.alone_conditions(unet, 4).rows([0] * size).to(clock.device)
    width = unet.config.cross_attention_dim
    latents, prompts = (
        torch.randn(size, 4, side, side, device=clock.device),
        torch.randn(size, 77, width, device=clock.device),
    )
    batch = Batch(latents, torch.randn_like(latents), torch.full((size,), 500, device=clock.device), prompts, layouts)
    objective = Objective(unet, SimpleNamespace(masked_attention=False, compat=None, min_snr=None), (side, side))
    optimiser = torch.optim.AdamW(unet.instance_layers().values(), lr=1e-5)
    for name, half, checkpointing in (
        ("float32", False, False),
        ("bf16", True, False),
        ("bf16, checkpointing", True, True),
    ):
        (unet.enable_gradient_checkpointing if checkpointing else unet.disable_gradient_checkpointing)()

        def step(half: bool = half) -> None:
            optimiser.zero_grad()
            with torch.autocast(clock.device.type, torch.bfloat16, enabled=half):
                loss = objective(batch)
            loss.backward()
            optimiser.step()

        row: Row = {"part": f"training step of {size}, {name}"}
        with clock.peak(row):
            row["s"] = round(clock.median(step, 2), 3)
        yield row | {"of peak": share(flops(step), row["s"], peak_of(clock.device)), "aim": AIMS["training"]}


def judges(clock: Clock, small: bool) -> Iterator[Row]:
    """Pictures a second of detector, judge and Inception, with random weights of the real classes."""
    from transformers import CLIPConfig, CLIPModel

    from instdiff.networks import inception
    from instdiff.networks.clip import Clip
    from instdiff.networks.detector import Detector, private_settings, yolo
    from instdiff.networks.device import PLAIN

    where = PLAIN.model_copy(update={"name": str(clock.device)})
    count, side = (2, 64) if small else (64, 512)
    pictures = [np.random.default_rng(n).integers(0, 255, (side, side, 3), dtype=np.uint8) for n in range(count)]
    with private_settings():
        model = yolo("yolov8n-seg.yaml" if small else "yolov8m-seg.yaml")
    detector = Detector(model, tuple(map(str, range(80))), 64 if small else 640, 0.25, 0.6, where)
    big = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    little = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=(little if small else big) | {"image_size": 224, "patch_size": 14})
    judge = Clip(CLIPModel(config).eval().requires_grad_(False).to(clock.device), None)  # type: ignore[arg-type]
    network = inception.build().eval().requires_grad_(False).to(clock.device)
    network.fc = torch.nn.Identity()
    kinds = {
        "detect": lambda: detector.detect(pictures),
        "judge": lambda: judge.image_features(pictures),
        "Inception": lambda: inception.Inception(network, where).image_features(pictures),
    }
    for name, run in kinds.items():
        yield {"part": f"{name}, float32", "a second": round(count / clock.median(run, 1), 2)}


def main() -> None:
    """Run all parts and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small networks")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parts", nargs="*", help="names of parts, e.g. passes training; by default all")
    parser.add_argument("--budget", type=float, default=450, help="seconds")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.json")
    options = parser.parse_args()
    os.environ["INSTDIFF_BENCH"] = "small" if options.small else "full"
    from instdiff.networks.device import resolve

    clock = Clock(resolve(options.device), options.budget)
    halves = (torch.float32,) if options.small else (torch.float16, torch.bfloat16)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        part.__name__: lambda part=part: part(clock, options.small) for part in (passes, training, judges, solvers)
    }  # type: ignore[misc]
    # Last, since pictures that are drawn plainly take most of the time.
    parts |= {f"sampling {half}": lambda half=half: sampling(clock, options.small, half) for half in halves}  # type: ignore[misc]
    if options.parts:
        parts = {name: part for name, part in parts.items() if name.split()[0] in options.parts}
    rows: list[Row] = []
    for name, part in parts.items():
        try:
            if clock.left() < 30:
                rows.append({"part": name, "left out": "no time"})
                continue
            with torch.set_grad_enabled(name == "training"):
                for row in part():
                    rows.append(row)
                    print(json.dumps(row), file=sys.stderr, flush=True)
        except Exception as error:  # one part must not take the others with it
            rows.append({"part": name, "failed": f"{type(error).__name__}: {str(error)[:200]}"})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        options.out.write_text(json.dumps({"machine": machine(clock.device), "rows": rows}, indent=2) + "\n")
    print(table(rows))


def machine(device: torch.device) -> Row:
    """What it ran on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {"device": name, "torch": torch.__version__, "peak": peak_of(device)}


def table(rows: list[Row]) -> str:
    """In Markdown."""
    columns = [
        "part",
        "s",
        "plain s",
        "ratio",
        "first s",
        "a second",
        "GiB",
        "of peak",
        "aim",
        "apart",
        "left out",
        "failed",
    ]
    lines = [" | ".join(str(row[name]) if row.get(name) is not None else "" for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in [" | ".join(columns), "|".join("---" for _ in columns), *lines])


if __name__ == "__main__":
    main()
