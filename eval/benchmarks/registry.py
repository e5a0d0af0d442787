"""The benchmarks by name; adding one is a line here and a file."""

from collections.abc import Mapping
from importlib import import_module

from eval.benchmarks import clip_columns
from eval.benchmarks.benchmark import Benchmark

MODULES: Mapping[str, str] = {  # in the order of the leaderboard
    "coco-mig": "coco_mig",
    "coco-position": "coco_position",
    "deig": "deig",
    "layoutsam": "layoutsam",
    "denselayout": "denselayout",
    "overlaybench": "overlaybench",
    "layoutbench-coco": "layoutbench_coco",
    "geneval": "geneval",
    "t2i-compbench": "t2i_compbench",
    "sacap": "sacap",
    "scenes": "scenes",
}


def load(name: str) -> Benchmark:
    """A benchmark, with the CLIP scores that every one may have; ValueError when there is none of this name."""
    if name not in MODULES:
        raise ValueError(f"there is no benchmark {name!r}; there are {', '.join(MODULES)}")
    benchmark = import_module(f"eval.benchmarks.{MODULES[name]}").BENCHMARK
    assert isinstance(benchmark, Benchmark)
    return clip_columns.added(benchmark)


def every() -> list[Benchmark]:
    """All of them, in order."""
    return [load(name) for name in MODULES]
