"""YOLO's text files: a class and a box a line, or a class and a polygon; names of classes in a file for all.

    data.yaml or classes.txt    the names
    images/0001.png             labels/0001.txt    0 0.5 0.5 0.25 0.5     class, centre x, y, width, height

Numbers are fractions. There is no caption, and no phrase.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.exchange.placed import Edges, Place, Placed, Polygons, edges
from data_prep.exchange.sample import Sample, box_of, category_of
from data_prep.sources import urls
from data_prep.sources.records import Record, Wrong
from instdiff.files.picture_files import SUFFIXES
from instdiff.files.texts import one_line
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

NAMES = ("data.yaml", "classes.txt")
_BOX, _TRIANGLE = 4, 6  # numbers of a box, and of the smallest polygon


def read(path: str) -> list[Record]:
    """The pictures below a folder; their labels lie beside them, or below `labels` where they are below `images`."""
    files = urls.files(path, "a folder with data.yaml or classes.txt")
    by_name = {urls.relative(url, path): url for url in files}
    listed = next((by_name[name] for name in NAMES if name in by_name), None)
    if listed is None:
        raise ValueError(f"{path}: neither data.yaml nor classes.txt names the classes")
    names = _names(listed)
    labels = {
        name.rpartition(".")[0]: url
        for name, url in by_name.items()
        if urls.suffix(url) == ".txt" and name not in NAMES
    }
    records: list[Record] = []
    used = set()
    for name, url in by_name.items():
        if urls.suffix(url) not in SUFFIXES:
            continue
        stem = name.rpartition(".")[0]
        label = next((name for name in (_beside(stem), stem) if name in labels), None)
        used.add(label)
        try:
            places = () if label is None else tuple(_places(labels[label], names))
        except ValueError as error:
            records.append(Wrong(name, Failure("bad_record", str(error))))
            continue
        records.append(Placed(name, url, "", places=places))
    for stem in sorted(labels.keys() - used):
        failure = Failure("no_picture", f"{labels[stem]}: no picture of the same name")
        records.append(Wrong(urls.relative(labels[stem], path), failure))
    return records


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures, labels with boxes, and data.yaml."""
    names: dict[str, int] = {}
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for sample in samples:
        lines = []
        for index in range(len(sample.layout.instances)):
            box = box_of(sample, index, failed)
            if box is None:
                continue
            number = names.setdefault(category_of(sample, index, failed), len(names))
            sides = (*box.centre, box.x1 - box.x0, box.y1 - box.y0)
            lines.append(" ".join([str(number), *(f"{value:.9g}" for value in sides)]))
        (folder / "images" / sample.file).write_bytes(sample.encoded)
        (folder / "labels" / f"{sample.key}.txt").write_text("".join(f"{line}\n" for line in lines))
    listed = {
        "path": ".",
        "train": "images",
        "val": "images",
        "names": {number: name for name, number in names.items()},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(listed, sort_keys=False, allow_unicode=True), encoding="utf-8")


def centred(words: Sequence[str], field: str) -> Edges:
    """The edges of `centre x, centre y, width, height`; ValueError names the field."""
    values = _fractions(words, field)
    if len(values) != _BOX:
        raise ValueError(f"{field}: {len(values)} numbers, where centre x, centre y, width, height are expected")
    x, y, width, height = values
    return edges((x - width / 2, y - height / 2, x + width / 2, y + height / 2), field)


def _fractions(words: Sequence[str], field: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{field}: {' '.join(words)[:60]!r} are no numbers") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{field}: {' '.join(words)[:60]!r} are no finite numbers")
    return values


def _beside(stem: str) -> str:
    """`labels/a/b` of `images/a/b`: the last folder of this name is exchanged."""
    folders = stem.split("/")
    for place in range(len(folders) - 2, -1, -1):
        if folders[place] == "images":
            return "/".join([*folders[:place], "labels", *folders[place + 1 :]])
    return stem


def _places(url: str, names: Mapping[int, str]) -> Iterable[Place | Failure]:
    for number, line in enumerate(urls.text(url, "label file").splitlines()):
        if not line.strip():
            continue
        name = f"{url}: line {number + 1}"
        try:
            yield _place(line.split(), names, name)
        except ValueError as error:
            yield Failure("bad_annotation", f"{name}: {error}")


def _place(words: Sequence[str], names: Mapping[int, str], name: str) -> Place:
    number = int(words[0]) if words[0].isdecimal() else -1
    if number not in names:
        raise ValueError(f"class: {words[0]!r} is not one of the {len(names)} named classes")
    if len(words) == 1 + _BOX:
        return Place(name, names[number], None, centred(words[1:], "box"), None)
    values = _fractions(words[1:], "polygon")
    if len(values) < _TRIANGLE or len(values) % 2:
        raise ValueError(f"{len(values)} numbers after the class: 4 are a box, 6 and more in pairs a polygon")
    box = edges((min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), "polygon")
    return Place(name, names[number], None, box, Polygons((tuple(values),)))


def _names(url: str) -> dict[int, str]:
    """Class number -> name."""
    text = urls.text(url, "list of classes")
    if not url.endswith(".yaml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    try:
        written: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{url}: not a readable YAML file ({one_line(error)})") from error
    names = written.get("names") if isinstance(written, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise ValueError(f"{url}: names: a list of the classes, or a map from numbers to names, is expected")
    return {number: str(name) for number, name in names.items()}
