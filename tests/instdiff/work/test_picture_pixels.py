"""A picture is the one its table describes, or unreadable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from instdiff.work.pictures import Picture, UnreadablePicture, pictures_of


def saved(path: Path, height: int, width: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_pixels_are_the_files_rows_first(tmp_path: Path) -> None:
    pixels = saved(tmp_path / "wide.png", 4, 9)
    assert np.array_equal(Picture("k", tmp_path / "wide.png", 4, 9, "").pixels(), pixels)


@pytest.mark.parametrize("size", [(9, 4), (4, 8), (5, 9), (36, 1)])
def test_a_picture_of_another_size_is_unreadable_and_both_sizes_are_said(tmp_path: Path, size: tuple[int, int]) -> None:
    saved(tmp_path / "wide.png", 4, 9)
    height, width = size
    with pytest.raises(UnreadablePicture, match=rf"wide\.png: 9x4, not {width}x{height}"):
        Picture("k", tmp_path / "wide.png", height, width, "").pixels()


def test_grey_and_transparent_pictures_have_three_channels(tmp_path: Path) -> None:
    for mode in ("L", "LA", "RGBA", "P", "1"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (5, 3)).save(path)
        assert Picture("k", path, 3, 5, "").pixels().shape == (3, 5, 3)


def test_pictures_come_in_the_order_of_their_table() -> None:
    rows = [
        {"key": key, "file": f"{key}.png", "height": 2, "width": number, "caption": key.upper()}
        for number, key in enumerate("ba")
    ]
    assert pictures_of(Path("folder"), pd.DataFrame(rows)) == [
        Picture("b", Path("folder/b.png"), 2, 0, "B"),
        Picture("a", Path("folder/a.png"), 2, 1, "A"),
    ]
