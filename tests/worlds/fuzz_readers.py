"""Spoilt inputs of every reader of what people bring: nothing but a sentence or what was read, and nothing lost."""

import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from data_prep import ingest
from data_prep.sources import lists
from data_prep.sources.admission import Limits
from eval.inputs import coco, coco_results, detections, ground_truth_files
from flows.serving import settings
from instdiff.config import compose
from instdiff.files.texts import read_json
from instdiff.layouts import files, masks
from instdiff.networks import weight_files
from instdiff.work.outcomes import Failure

LIMITS = Limits(**mutations.LIMITS)
GONE = "stray_polygon"  # a reason that leaves its instance


def sources(folder: Path, draw: random.Random) -> str:
    """A source of ingest: every record is a picture or a row, every annotation an instance or a row."""
    kind = draw.choice(mutations.KINDS)
    source = mutations.written(folder / "in", kind, draw)
    mutations.spoilt(folder / "in", draw)
    train = source["train"]
    try:
        match kind:
            case "coco":
                records = lists.coco(**train)
            case "labelled":
                records = lists.labelled(train)
            case _:
                records = lists.captioned(train["path"], train["root"])
    except ValueError as error:
        return _sentence(error, str(folder))
    for job in ingest.keyed(records):
        answer = ingest.admitted(job, LIMITS)
        whole = [failure for index, failure in answer.failures if index == -1]
        assert len(answer.rows) + len(whole) == 1
        if answer.rows:
            loaded = job.record.load()
            assert not isinstance(loaded, Failure)
            lost = [failure for _, failure in answer.failures if failure.reason != GONE]
            assert len(answer.rows[0]["given"]) + len(lost) == len(loaded.annotations)
            assert "None" not in answer.rows[0]["caption"]
            assert all(row["category"] != "None" for row in answer.rows[0]["given"])
    if kind == "coco":
        _all_annotations_are_there(Path(train["instances"]), records)
    return "read"


def _all_annotations_are_there(path: Path, records: list[Any]) -> None:
    stated = len(read_json(path)["annotations"])
    with_pictures = sum(len(record.annotations) for record in records if hasattr(record, "annotations"))
    alone = sum(f"{path}: annotations." in record.name for record in records)
    assert stated == with_pictures + alone


def archives(folder: Path, draw: random.Random) -> str:
    """A tar whose members are named, ordered and packed at random: every picture is in a record, or its key is."""
    stems = ["a", "b", "deep/a", "a.05", "a.06", "._a", "v1.0/x"]
    kinds = ["png", "PNG", "jpg", "jfif", "avif", "heic", "txt", "TXT", "json", "png.gz", "cls"]
    contents = [*mutations.pictures(draw), b"words", b'{"caption": "words"}', b"\xff\xfe", b"", b"\x1f\x8b\x08"]
    names = [f"{draw.choice(stems)}.{draw.choice(kinds)}" for _ in range(draw.randint(1, 12))]
    with tarfile.open(folder / "some.tar", "w") as tar:
        for name in names:
            member, content = tarfile.TarInfo(name), draw.choice(contents)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    if draw.random() < 0.3:
        whole = (folder / "some.tar").read_bytes()
        (folder / "some.tar").write_bytes(draw.choice(mutations.BYTES)(whole, draw))
        records = lists.captioned(f"{folder}/some.tar", None)
    else:
        records = lists.captioned(f"{folder}/some.tar", None)
        keys = {name.rpartition("/")[0] + "/" + name.rpartition("/")[2].partition(".")[0] for name in names}
        visible = {key.removeprefix("/") for key in keys if not key.endswith("/")}
        assert visible == {
            record.name.removeprefix("some.tar/").removesuffix(".05").removesuffix(".06") for record in records
        }
    for job in ingest.keyed(records):
        answer = ingest.admitted(job, LIMITS)
        assert len(answer.rows) + len(answer.failures) == 1
    return "read"


def layouts(folder: Path, draw: random.Random) -> str:
    """A file of layouts in either form: layouts, or faults of one line that name the file."""
    mask = {"size": [4, 4], "counts": masks.encode(np.eye(4, dtype=bool)).counts}
    Image.fromarray(np.eye(4, dtype=np.uint8) * draw.choice([1, 3, 255])).save(folder / "mask.png")
    ours = {"prompt": "p", "instances": [{"phrase": "a", "box": [0, 0, 1, 1], "mask": draw.choice([mask, "mask.png"])}]}
    anno = {"caption": "a", "bbox": [1, 2, 30, 40], "point": [5, 5], "mask": mask, "scribble": [1, 2, 3, 4]}
    page: Any = [ours, {**ours, "key": "k"}, {"caption": "c", "width": 64, "height": 64, "annos": [anno]}]
    path = _written(folder / "scene.json", page, draw)
    checked = files.check(path)
    assert checked.faults or checked.layouts
    for line in checked.faults + checked.remarks:
        _sentence(ValueError(line), str(folder))
    return "faults" if checked.faults else "read"


def judged(folder: Path, draw: random.Random) -> str:
    """COCO's ground truth and a list of results against it."""
    runs = {"size": [24, 32], "counts": [48, 24, 696]}
    form = draw.choice([runs, [[4.0, 2.0, 12.0, 2.0, 12.0, 10.0]], []])
    detection = {"image_id": 1, "category_id": 3, "bbox": [4, 2, 8, 8]}
    page = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}],
        "categories": [{"id": 3, "name": "kite"}],
        "annotations": [{**detection, "id": n, "segmentation": form, "iscrowd": 0} for n in range(3)],
    }
    path = _written(folder / "truth.json", page, draw)
    results = [
        {**detection, "score": 0.5, "segmentation": {"size": [24, 32], "counts": masks.encode(mutations.MASK).counts}}
    ]
    results_path = _written(folder / "found.json", results, draw)
    try:
        truth = ground_truth_files.read(path, None, 32)
        if coco.is_coco(path):
            assert len(truth.instances) == len(read_json(path)["annotations"])
        names = coco_results.of_coco(coco.read_instances(path)) if coco_results.has_ids(path) else (None, {})
        sizes = tuple(zip(truth.images["height"], truth.images["width"], strict=True))
        pictures = _Pictures(tuple(truth.images["key"]), sizes)
        read = coco_results.read(results_path, pictures, *names)  # type: ignore[arg-type]
        assert isinstance(read, detections.Detections)
    except ValueError as error:
        return _sentence(error, str(folder))
    return "read"


def weights(folder: Path, draw: random.Random) -> str:
    """A file of weights in each form, most of them with other bytes: tensors, or what the file is instead."""
    tensors = {"a.weight": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
    path = folder / f"some.{draw.choice(['safetensors', 'pth', 'ckpt', 'bin'])}"
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(draw.choice([tensors, {"state_dict": tensors}, {"model": tensors, "step": 3}]), path)
    if draw.random() < 0.8:
        path.write_bytes(draw.choice(mutations.BYTES)(path.read_bytes(), draw))
    try:
        weight_files.read(path)
    except ValueError as error:
        return _sentence(error, str(path))
    return "read"


WORDS = ("train.batch_size=4", "experiment=smoke", "~rows.mask", "+generate.x=1", "score.words={a: [b]}", "clip=train")
CHARACTERS = ("", "=", "{", "]", "'", '"', "\\", "$", "${", "\n", "\ud800", " ", "é", ",")


def overrides(_: Path, draw: random.Random) -> str:
    """Hydra's words, some with other characters: values, or one sentence about the word."""
    word = draw.choice(WORDS)
    if draw.random() < 0.8:
        place = draw.randrange(len(word))
        word = word[:place] + draw.choice(CHARACTERS) + word[place + 1 :]
    try:
        compose.composed([word])
    except ValueError as error:
        return _sentence(error, "")
    return "read"


def deployments(folder: Path, draw: random.Random) -> str:
    """The settings of what is served: read, or a sentence that names the file."""
    entry = {
        "targets": ["report"],
        "experiment": "default",
        "overrides": [],
        "schedule": "0 3 * * *",
        "timezone": "UTC",
    }
    page = {"push": None, "message": "slack-webhook/team", "deployments": {"rebuild": entry, "nightly": dict(entry)}}
    try:
        settings.read(_written(folder / "deployments.yaml", page, draw))
    except ValueError as error:
        return _sentence(error, str(folder))
    return "read"


class _Pictures:
    def __init__(self, keys: tuple[str, ...], sizes: Any) -> None:
        self.keys, self.sizes = keys, sizes


def _written(path: Path, page: Any, draw: random.Random) -> Path:
    """A JSON file, spoilt in what it says or in its bytes, or whole in another encoding."""
    for _ in range(draw.randint(0, 2)):
        mutations._inside(page, draw)
    content = json.dumps(page).encode(draw.choice(["utf-8", "utf-8-sig", "utf-16"]))
    path.write_bytes(draw.choice(mutations.BYTES)(content, draw) if draw.random() < 0.2 else content)
    return path


def _sentence(error: ValueError, where: str) -> str:
    assert where in str(error), error
    assert "\n" not in str(error), error
    return "refused"


READERS: dict[str, Callable[[Path, random.Random], str]] = {
    "sources": sources,
    "archives": archives,
    "layouts": layouts,
    "judged": judged,
    "weights": weights,
    "overrides": overrides,
    "deployments": deployments,
}


def tried(folder: Path, reader: str, number: int) -> str:
    """Input number so-and-so of a reader; what became of it."""
    folder.mkdir()
    return READERS[reader](folder, random.Random(f"{reader} {number}"))


def outcomes(folder: Path, reader: str, count: int) -> Counter[str]:
    """What became of the first inputs of a reader."""
    return Counter(tried(folder / f"{reader}-{number}", reader, number) for number in range(count))
