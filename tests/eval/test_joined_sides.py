"""Two pictures beside each other, and the frame of an instance in a picture that is not square."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval import compare


def test_pictures_stand_side_by_side_on_white_with_a_gap() -> None:
    joined = np.asarray(compare._joined([Image.new("RGB", (5, 3), "red"), Image.new("RGB", (2, 7), "blue")]))
    assert joined.shape == (7, 5 + 4 + 2, 3)
    assert (joined[:3, :5] == (255, 0, 0)).all() and (joined[:, 9:] == (0, 0, 255)).all()
    assert (joined[3:, :5] == 255).all() and (joined[:, 5:9] == 255).all()


def compared(folders: list[tuple[Path, Path]] | None) -> Any:
    return SimpleNamespace(pictures=folders)


@pytest.mark.parametrize(
    ("box", "edges"),
    [((0.25, 0.5, 0.75, 1.0), (5, 5, 14, 9)), ((0, 0, 1, 1), (0, 0, 19, 9))],
)
def test_the_frame_is_that_of_the_instances_box(box: tuple[float, ...], edges: tuple[int, ...], tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        Image.new("RGB", (20, 10)).save(tmp_path / side / "k.png")
    sides = compare._side_by_side(compared([(tmp_path / "a", tmp_path / "b")]), {"seed": 0, "key": "k", "box": box})
    assert len(sides) == 2
    for picture in sides:
        framed = np.argwhere((np.asarray(picture) == compare.LINE).all(-1))
        left, top, right, bottom = edges
        assert framed.min(0).tolist() == [top, left] and framed.max(0).tolist() == [bottom, right]


def test_each_seed_shows_its_own_folders_and_without_a_picture_none(tmp_path: Path) -> None:
    folders = []
    for seed, shade in enumerate((50, 90)):
        pair = tmp_path / f"a{seed}", tmp_path / f"b{seed}"
        for place in pair:
            place.mkdir()
            Image.new("RGB", (4, 4), (shade, shade, shade)).save(place / "k.png")
        folders.append(pair)
    record = {"key": "k", "box": (0, 0, 1, 1)}
    for seed, shade in enumerate((50, 90)):
        assert [
            np.asarray(picture)[1, 1, 0]
            for picture in compare._side_by_side(compared(folders), {**record, "seed": seed})
        ] == [shade] * 2
    (folders[1][1] / "k.png").unlink()
    assert compare._side_by_side(compared(folders), {**record, "seed": 1}) == []
    assert compare._side_by_side(compared(None), {**record, "seed": 0}) == []
