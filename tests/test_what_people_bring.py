"""Two rules of every reader of what people bring: how text is encoded, and that true and false are no numbers."""

import base64
import copy
import io
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import bench_world
import numpy as np
import pytest
import yaml
from PIL import Image

from data_prep.annotators import tags
from data_prep.sources import instances, lists
from eval import evaluate
from eval.benchmarks import registry, t2i_compbench
from eval.inputs import coco, coco_results, detections
from flows import grid
from flows.serving import settings
from instdiff.app import launch
from instdiff.config import values
from instdiff.layouts import files, masks
from instdiff.work.outcomes import Failure

ROOT = Path(__file__).parents[1]

# ---- encodings ------------------------------------------------------------------------------------------------------

READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # what is read, and by what; its é must come through
    "vocabulary": ("café\n# a comment\n", tags.words),
    "prompts": ("a café\n", lambda path: t2i_compbench.read([path]).cases),
    "layouts": ('{"prompt": "a café", "instances": []}', files.read),
    "captions": (
        '{"annotations": [{"id": 1, "image_id": 1, "caption": "a café"}]}',
        coco.read_captions,
    ),
    "list of labels": ("café.json\n", lambda path: lists.labelled(str(path))),
    "coco-mig": (
        'a red café:\n  coco_id: "1"\n  a red café: [[0, 0, 1, 1]]\n',
        lambda path: registry.load("coco-mig").read([path]),
    ),
    "a grid": ("metrics: [café]\nvariants: {}\n", grid.read),
    "deployments": ("push: café\nmessage: null\ndeployments: {}\n", settings.read),
}
SUFFIX = {"layouts": ".json", "captions": ".json", "a grid": ".yaml", "deployments": ".yaml", "coco-mig": ".yaml"}


@pytest.mark.parametrize("reader", READERS)
def test_a_text_says_the_same_in_every_encoding_that_marks_itself(tmp_path: Path, reader: str) -> None:
    text, read = READERS[reader]
    path = tmp_path / f"color_val{SUFFIX.get(reader, '.txt')}"
    seen = []
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        seen.append(repr(read(path)))
    assert "café" in seen[0]
    assert set(seen) == {seen[0]}


@pytest.mark.parametrize(
    ("reader", "encoding"),
    [
        (reader, encoding)
        for reader in READERS
        for encoding in ("cp1252", "utf-16-le")
        if encoding == "cp1252" or SUFFIX.get(reader) != ".json"  # JSON may be UTF-16 without a mark
    ],
)
def test_a_text_in_an_unknown_encoding_is_one_sentence_with_the_file(
    tmp_path: Path, reader: str, encoding: str
) -> None:
    text, read = READERS[reader]
    path = tmp_path / f"color_val{SUFFIX.get(reader, '.txt')}"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match="save (the file|it) as UTF-8") as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "read", [launch.read, grid.read, settings.read, lambda path: evaluate.read_settings(path, None)]
)
def test_yaml_that_is_not_there_or_is_none_is_one_sentence_with_the_file(tmp_path: Path, read: Any) -> None:
    (tmp_path / "open.yaml").write_text("a: [")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "open.yaml"):
        with pytest.raises(ValueError, match="not a readable YAML file") as refused:
            read(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


# ---- numbers --------------------------------------------------------------------------------------------------------

MASK = masks.encode(np.eye(4, dtype=bool)).model_dump(mode="json")
PLACES = {"box": [0, 0, 1, 1], "point": [0, 1], "scribble": [[0, 0], [1, 1]], "outline": [[0, 0], [1, 0], [1, 1]]}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4}
TRUTH = {
    "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
    "categories": [{"id": 1, "name": "disc"}],
    "annotations": [
        ANNOTATION | {"segmentation": [[1, 1, 3, 1, 3, 3]], "point": [1, 1], "scribble": [1, 1, 2, 2]},
        ANNOTATION | {"id": 2, "segmentation": {"size": [4, 4], "counts": [1, 15]}},
    ],
}
FOUND = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1, "segmentation": MASK}
ANNO = {"caption": "a", "bbox": [1, 2, 3, 4], "point": [1, 1], "scribble": [1, 2, 3, 4], "mask": MASK}


class Pictures:
    """What a list of results is held to."""

    keys, sizes = ("a",), ((4, 4),)


def _labels(path: Path) -> Any:
    folder = path.parent / "labels"
    folder.mkdir(exist_ok=True)
    path.rename(folder / "label_1.json")
    (record,) = lists.labelled(str(folder))
    loaded = record.load()
    if isinstance(loaded, Failure):
        raise ValueError(loaded.detail)
    rows, failures = instances.rows_of(loaded.annotations, "a", 4, 4)
    if failures:
        raise ValueError(f"{path}: {failures[0][1].detail}")
    return rows


def _png() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


LABEL = {"image": _png(), "caption": "c", "annos": [{"bbox": [1, 1, 2, 2], "mask": MASK, "category_name": "disc"}]}
PAGES: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "layouts": ({"prompt": "p", "instances": [{"phrase": "a", **PLACES, "mask": MASK}]}, files.read),
    "polylines": ({"prompt": "p", "instances": [{"phrase": "a", "polyline": [[0, 0], [1, 1]]}]}, files.read),
    "the released demos": ({"caption": "c", "width": 8, "height": 8, "annos": [ANNO]}, files.read),
    "COCO's ground truth": (TRUTH, coco.ground_truth),
    "detections": (
        {"provenance": {}, "categories": [{"id": 1, "name": "disc"}], "annotations": [FOUND]},
        lambda path: detections.read(path, [(4, 4)]).annotations,
    ),
    "results": ([FOUND], lambda path: coco_results.read(path, Pictures(), {1: "disc"}, {1: "a"}).annotations),  # type: ignore[arg-type]
    "labels": (LABEL, _labels),
}


def numbers(node: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every number."""
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, (*where, name))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield where


def changed(node: Any, where: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value there."""
    whole = copy.deepcopy(node)
    inner = whole
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    return whole


@pytest.mark.parametrize("name", PAGES)
def test_true_is_no_number_wherever_one_is_read(tmp_path: Path, name: str) -> None:
    """As good is a field that nothing reads: then another number there makes no difference, either."""
    page, read = PAGES[name]
    path = tmp_path / "page.json"

    def outcome(content: Any) -> str:
        path.write_text(json.dumps(content))
        return repr(read(path))

    good = outcome(page)
    refused = 0
    for where in numbers(page):
        for truth in (True, False):
            try:
                seen = outcome(changed(page, where, truth))
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error)
            else:
                assert seen == good == outcome(changed(page, where, 0.375)), where
    assert refused > 3


@pytest.mark.parametrize("name", ["coco-mig", "coco-position", "deig", "denselayout", "layoutbench-coco", "geneval"])
def test_true_is_no_number_in_the_files_of_benchmarks(tmp_path: Path, name: str) -> None:
    pages = bench_world.PAGES[name]
    (file, content), *_ = pages.items()
    places = list(numbers(content))
    for number, where in enumerate(places[:40]):
        paths = bench_world.write(tmp_path / str(number), name, {**pages, file: changed(content, where, True)})
        try:
            cases = registry.load(name).read(paths).cases
        except ValueError as error:
            assert "\n" not in str(error)
        else:  # a field that nothing reads
            paths = bench_world.write(tmp_path / f"{number}-7", name, {**pages, file: changed(content, where, 7)})
            assert cases == registry.load(name).read(paths).cases, where


def test_true_is_no_number_of_any_stage() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, module in values.modules().items():
        if section not in params:
            continue
        own = values.section(params, section)
        kind = import_module(module).Params
        for where in numbers(own):
            with pytest.raises(ValueError, match="true is no number"):
                kind.model_validate(changed(own, where, True))
