"""Each option of `instdiff import-weights` reaches what it is for, and what it came from is recorded beside it."""

from pathlib import Path
from typing import Any

import pytest

from instdiff.app import import_weights as importer
from instdiff.app.import_weights import Source
from instdiff.checkpoints.sizes import Sizes
from instdiff.files import recipes

NAMES = ("base", "tokenizer", "instance", "judge", "inception", "detector")


@pytest.fixture
def importer_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Files of every name, and what was asked for instead of reading them."""
    calls: list[tuple[Any, ...]] = []
    for name in NAMES:
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(importer, "stable_diffusion", lambda *args: calls.append(("base", *args)))
    monkeypatch.setattr(importer, "judge", lambda *args: calls.append(("judge", *args[:2])))
    monkeypatch.setattr(importer.detector, "imported", lambda path, _, how: calls.append(("detector", path, how)))
    monkeypatch.setattr(importer.provenance, "checked", lambda path: {path.name: f"sum of {path.name}"})
    return calls


def bring_in(root: Path, *names: str, more: tuple[str, ...] = (), sizes: Sizes | None = None) -> Path:
    words = [word for name in names for word in (f"--{name}", str(root / name))]
    importer.main(["--out", str(root / "out"), *words, *more], sizes)
    return root / "out"


def recorded(folder: Path) -> dict[str, str]:
    files: dict[str, str] = recipes.read(folder)["params"]["files"]
    return files


def sums(*names: str) -> dict[str, str]:
    return {name: f"sum of {name}" for name in names}


def test_a_base_comes_with_its_words_its_layers_and_its_sizes(
    tmp_path: Path, importer_calls: list[tuple[Any, ...]]
) -> None:
    sizes = Sizes(unet={"sample_size": 8})
    out = bring_in(tmp_path, "base", "tokenizer", "instance", sizes=sizes)
    paths = (tmp_path / "base", tmp_path / "tokenizer", tmp_path / "instance")
    sources = {name: Source(files=sums(name)) for name in ("base", "tokenizer", "instance")}
    assert importer_calls == [("base", *paths, out, sizes, sources)]


def test_without_sizes_a_base_is_a_stable_diffusion(tmp_path: Path, importer_calls: list[tuple[Any, ...]]) -> None:
    bring_in(tmp_path, "base")
    assert importer_calls[0][1:4] == (tmp_path / "base", None, None)
    assert importer_calls[0][5] == Sizes()


def test_a_judge_has_its_words_and_inception_beside_it(tmp_path: Path, importer_calls: list[tuple[Any, ...]]) -> None:
    out = bring_in(tmp_path, "judge", "tokenizer", "inception")
    assert importer_calls == [("judge", tmp_path / "judge", tmp_path / "tokenizer")]
    assert (out / "clip" / "judge" / importer.INCEPTION).read_text() == "inception"
    assert recorded(out / "clip" / "judge") == sums("judge", "tokenizer", "inception")


@pytest.mark.parametrize(("more", "side"), [((), 640), (("--image-size", "96"), 96)])
def test_a_detector_scales_pictures_to_the_side_asked_for(
    more: tuple[str, ...], side: int, tmp_path: Path, importer_calls: list[tuple[Any, ...]]
) -> None:
    out = bring_in(tmp_path, "detector", more=more)
    assert importer_calls == [
        ("detector", tmp_path / "detector", {"image_size": side, "min_score": 0.001, "nms_iou": 0.7})
    ]
    assert recorded(out / "detector") == sums("detector")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "nothing to bring in"),
        (("tokenizer",), "nothing to bring in"),
        (("base", "inception"), "name --judge, too"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(
    names: tuple[str, ...], sentence: str, tmp_path: Path, importer_calls: list[tuple[Any, ...]]
) -> None:
    with pytest.raises(ValueError, match=sentence):
        bring_in(tmp_path, *names)
    assert importer_calls == [] and not (tmp_path / "out").exists()


def test_all_that_is_not_there_is_named(tmp_path: Path, importer_calls: list[tuple[Any, ...]]) -> None:
    for name in ("base", "detector"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"not there: --base .*base, --detector .*detector$"):
        bring_in(tmp_path, "base", "judge", "detector")
    assert importer_calls == []


def test_no_option_is_left_without_a_law() -> None:
    options = {action.dest for action in importer.parser()._actions} - {"help", "out", "image_size"}
    assert options == set(NAMES)
