"""The paper's table from COCO's files and the published weights: `make paper COCO=<folder> WEIGHTS=<folder>`.

Written is a folder of its own (<out>, in this repository): dvc.yaml, drawn from flows/paper.yaml, params.yaml, and what
the stages make, which end in paper.html and paper.json. The same words again go on where a kill ended, or add a row
that configs/rows/paper.yaml has since. flows/paper_flow.py is the same under Prefect.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flows import repro
from flows.graph import dag
from instdiff.config import compose, values
from instdiff.files import atomic

DRAWING = Path(__file__).with_name("paper.yaml")
GRAPH = Path("dvc.yaml")
LAST = "paper"  # the stage that writes the page, of the seconds that the others took
SECONDS = "seconds.json"
PACKAGES = ("instdiff", "data_prep", "eval")
CODE = {  # of the stages that dvc.yaml does not have: what else they run is among the deps of those that it has
    "weights": ("instdiff/app/import_weights.py", "instdiff/checkpoints"),
    "real": ("eval/benchmarks/build_coco_control.py", "eval/benchmarks/coco_control.py"),
    "truth": ("eval/benchmarks/build_coco_control.py", "eval/benchmarks/coco_control.py"),
    "self_test": ("eval/self_test.py", "eval/detect.py", "eval/inputs", "eval/metrics/average_precision.py"),
    "paper": ("eval/paper.py", "eval/benchmarks/published.py", "eval/pages/paper.html.j2"),
}


class Kind(NamedTuple):
    """A published file or folder by the names it goes under; of a folder, what must be in it."""

    option: str  # of `instdiff import-weights`
    names: tuple[str, ...]
    holds: str = ""


KINDS = (
    Kind("base", ("v1-5-pruned-emaonly.safetensors", "v1-5-pruned-emaonly.ckpt", "stable-diffusion-v1-5")),
    Kind("tokenizer", ("clip-vit-large-patch14",), "merges.txt"),
    Kind("instance", ("instancediffusion_sd15.pth",)),
    Kind("judge", ("CLIP-ViT-L-14-laion2B-s32B-b82K", "open_clip_pytorch_model.bin", "open_clip_model.safetensors")),
    Kind("inception", ("pt_inception-2015-12-05-6726825d.pth",)),
    Kind("detector", ("yolov8m-seg.pt",)),
)
OPTIONAL = {"tokenizer"}  # a folder of diffusers and one of transformers bring theirs


ANNOTATIONS = ("instances_val2017.json", "captions_val2017.json")


class Coco(NamedTuple):
    """COCO's files."""

    pictures: Path
    instances: Path
    captions: Path


def coco_files(folder: Path) -> Coco:
    """COCO's validation set in a folder, unpacked as it comes; ValueError says all that is not there."""
    files = Coco(folder / "val2017", *(folder / "annotations" / name for name in ANNOTATIONS))
    lacking = [path.relative_to(folder).as_posix() for path in files if not path.exists()]
    if lacking:
        raise ValueError(
            f"{folder}: {', '.join(lacking)} not there; val2017.zip and annotations_trainval2017.zip, unpacked there,"
            " hold them"
        )
    return files


def weight_files(folder: Path, features: str) -> dict[str, Path]:
    """The published files by the option that brings them in; ValueError says all that are not there."""
    by_option = {}
    lacking = []
    for kind in KINDS:
        there = [folder / name for name in kind.names if (folder / name / kind.holds).exists()]
        if there:
            by_option[kind.option] = there[0]
        elif kind.option not in OPTIONAL and not (kind.option == "inception" and features == "judge"):
            lacking.append(" or ".join(kind.names))
    if lacking:
        raise ValueError(f"{folder}: not there: {', '.join(lacking)}")
    return by_option


def workers(text: str | None) -> list[str]:
    """The overrides of WORKERS: a number of processes, `slurm`, or the address of a Dask scheduler."""
    if text is None:
        return []
    if text.isdecimal() and int(text) > 0:
        return ["work.workers.executor=processes", f"work.workers.processes={text}", f"paper.gpus={text}"]
    if text == "slurm":
        return ["work.workers.executor=slurm"]
    if text.startswith(("tcp://", "tls://")):
        return ["work.workers.executor=dask", f"work.workers.dask='{text}'"]
    raise ValueError(f"WORKERS={text}: neither a number of processes, nor slurm, nor a scheduler's tcp:// address")


def rows_to_draw(rows: Sequence[str], with_attributes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Every row on the plain ground truth, and some with a colour, and with a texture, in each phrase."""
    pairs = [("plain", row) for row in rows] + [(t, row) for t in ("colour", "texture") for row in with_attributes]
    return {f"{truth}-{row}": {"truth": truth, "row": row} for truth, row in pairs}


def prepare(
    coco: Path, weights: Path, subset: int | None, executor: str | None, overrides: Sequence[str], out: Path
) -> None:
    """Check the files, and write values and drawing; ValueError, and nothing written, where something is wrong."""
    if not out.resolve().is_relative_to(Path.cwd()) or out.resolve() == Path.cwd():
        raise ValueError(f"{out}: must be a folder within {Path.cwd()}, where DVC keeps what it knows")
    of_coco = Coco(*(path.resolve() for path in coco_files(coco)))
    text = compose.composed(["experiment=sd15", "+paper=default", *workers(executor), *overrides])
    composed = yaml.safe_load(text)
    values.check(composed)
    files = {
        name: path.resolve() for name, path in weight_files(weights, composed["score"]["sets"]["features"]).items()
    }
    benchmark = composed.pop("benchmark")
    unknown = [row for row in benchmark["attribute_rows"] if row not in composed["rows"]]
    if unknown:
        raise ValueError(f"benchmark.attribute_rows: no row {unknown[0]!r}; there are {', '.join(composed['rows'])}")
    part = [] if subset is None else ["--subset", str(subset)]
    options = ["--size", str(benchmark["size"]), "--seed", str(benchmark["seed"]), "--compat", "reference", *part]
    composed["here"] = {
        "weights": shlex.join(word for name, path in files.items() for word in (f"--{name}", str(path))),
        "coco": shlex.join(["--instances", str(of_coco.instances), "--captions", str(of_coco.captions)]),
        "pictures": shlex.quote(str(of_coco.pictures)),
        "annotations": shlex.quote(str(of_coco.instances)),
        "truths": {
            name: shlex.join([*options, *(["--attributes", name] if name != "plain" else [])])
            for name in ("plain", "colour", "texture")
        },
        "drawn": rows_to_draw(list(composed["rows"]), benchmark["attribute_rows"]),
    }
    page = drawing(of_coco, files, os.path.relpath(Path.cwd(), out.resolve()))
    out.mkdir(parents=True, exist_ok=True)
    written(out / "params.yaml", yaml.safe_dump(composed, sort_keys=False, allow_unicode=True))
    written(out / "dvc.yaml", yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=120))


def drawing(coco: Coco, weights: Mapping[str, Path], root: str) -> dict[str, Any]:
    """The page of stages, each with the files given and its code, seen from a folder `root` below this one."""
    page: dict[str, Any] = yaml.safe_load(DRAWING.read_text(encoding="utf-8"))
    stages = yaml.safe_load(GRAPH.read_text(encoding="utf-8"))["stages"]
    annotations = [str(coco.instances), str(coco.captions)]
    inputs = {
        "weights": [str(path) for path in weights.values()],
        "real": [*annotations, str(coco.pictures)],
        "truth": annotations,
        "self_test": [str(coco.pictures), str(coco.instances)],
    }
    for name, entry in page["stages"].items():
        stage = entry.get("do", entry)
        of_graph = stages.get(name, {})
        deps = [str(dep) for dep in of_graph.get("do", of_graph).get("deps", [])]
        code = CODE.get(name, tuple(dep for dep in deps if dep.partition("/")[0] in PACKAGES))
        stage["deps"] = [*stage.get("deps", []), *inputs.get(name, []), *(f"{root}/{dep}" for dep in code)]
    return page


def written(path: Path, text: str) -> None:
    """Write a file unless it says the same already."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic.file(path) as part:
            part.write_text(text, encoding="utf-8")


def timed(out: Path, took: Mapping[str, float]) -> None:
    """Add how long stages took to what is known, for the page."""
    path = out / SECONDS
    seconds = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    written(path, json.dumps(seconds | {name: round(taken, 1) for name, taken in took.items()}, indent=1) + "\n")


def halves(out: Path) -> Iterator[dag.Graph]:
    """The graph without the page, then the page, which reads how long the others took."""
    for is_last in (False, True):
        yield {name: node for name, node in dag.load(out).items() if (name == LAST) is is_last}


def make(out: Path) -> int:
    """Bring the folder up to date with DVC, line by line; its exit status."""
    for graph in halves(out):
        status, took = repro.run(list(graph), [name for name, node in graph.items() if node.stale], out)
        timed(out, took)
        if status:
            return status
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Check what is given, then draw, judge and write the page; one sentence where something is wrong."""
    args = parser().parse_args(arguments)
    try:
        prepare(args.coco, args.weights, args.subset, args.workers, args.overrides, args.out)
    except ValueError as error:
        sys.exit(f"paper: {error}")
    status = make(args.out)
    if status == 0:
        print(f"the paper's table: {(args.out / 'paper.html').resolve()}")
    sys.exit(status)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="make paper", description=main.__doc__)
    add = options.add_argument
    add("--coco", type=Path, required=True, help="the folder with COCO's val2017 and annotations")
    add("--weights", type=Path, required=True, help="the folder with the published weights")
    add("--subset", type=int, help="that many pictures, stratified: not comparable to the paper")
    add("--workers", help="who draws and judges: a number of processes, slurm, or a Dask scheduler's address")
    add("--out", type=Path, default=Path("paper"), help="the folder to work in, within this repository")
    add("overrides", nargs="*", help="Hydra overrides, e.g. generate.solver=dpm generate.steps=20")
    return options


if __name__ == "__main__":
    main()
