"""The door for pictures: what does not fit is refused by name, and the real pictures are never scored by mistake."""

import shutil
from pathlib import Path

import eval_world
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eval.inputs import pictures
from instdiff.files import tables
from instdiff.layouts.columns import IMAGES


@pytest.fixture
def world(tmp_path: Path) -> Path:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {}, background=90)
    return tmp_path


def _find(world: Path, folder: str, square: int | None = None) -> pictures.Pictures:
    return pictures.find(world / folder, tables.read(world / "images.parquet", IMAGES), square)


def _squares(folder: Path, side: int) -> None:
    """The pictures stretched to one size, so that one can take the place of another."""
    for path in folder.iterdir():
        Image.open(path).resize((side, side), Image.Resampling.BILINEAR).save(path)


def test_pictures_come_in_the_order_of_the_table(world: Path) -> None:
    picture_set = _find(world, "drawn")
    assert picture_set.keys == ("a", "b", "c", "d")
    assert picture_set.sizes == eval_world.SIZES
    assert [picture_set.load(place).shape[:2] for place in range(4)] == list(eval_world.SIZES)


def test_a_missing_picture_is_named(world: Path) -> None:
    (world / "drawn" / "c.png").unlink()
    with pytest.raises(ValueError, match="1 missing pictures: c"):
        _find(world, "drawn")


def test_an_extra_picture_is_named(world: Path) -> None:
    shutil.copy(world / "drawn" / "c.png", world / "drawn" / "e.png")
    with pytest.raises(ValueError, match=r"1 extra pictures: e\.png"):
        _find(world, "drawn")


def test_two_pictures_of_one_key_are_named(world: Path) -> None:
    Image.open(world / "drawn" / "c.png").save(world / "drawn" / "c.jpg")
    with pytest.raises(ValueError, match=r"duplicate pictures: c\.jpg, c\.png"):
        _find(world, "drawn")


def test_a_wrongly_sized_picture_is_named_with_its_size(world: Path) -> None:
    Image.new("RGB", (20, 36)).save(world / "drawn" / "b.png")  # width and height exchanged
    with pytest.raises(ValueError, match=r"wrongly sized .* b\.png is 20x36"):
        _find(world, "drawn")


def test_a_model_may_draw_squares_of_its_own_size_but_then_all_of_them(world: Path) -> None:
    for key in "abcd":
        Image.new("RGB", (48, 48), (0, 0, 9)).save(world / "drawn" / f"{key}.png")
    assert _find(world, "drawn", square=48).sizes == ((48, 48),) * 4
    with pytest.raises(ValueError, match="wrongly sized"):
        _find(world, "drawn")
    Image.new("RGB", (24, 40)).save(world / "drawn" / "a.png")  # as its row states
    with pytest.raises(ValueError, match="wrongly sized"):
        _find(world, "drawn", square=48)


def test_what_is_no_picture_is_named(world: Path) -> None:
    (world / "drawn" / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"d\.png: not a readable picture"):
        _find(world, "drawn")


def test_a_folder_that_is_not_there_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        _find(world, "nowhere")


def test_the_real_pictures_are_refused_under_another_name_and_format(world: Path) -> None:
    real = _find(world, "real")
    (world / "saved_again").mkdir()
    for key in "abcd":
        Image.open(world / "real" / f"{key}.png").save(world / "saved_again" / f"{key}.bmp")
    with pytest.raises(ValueError, match=r"4 of 4 pictures are the real ones \(a, b, c, d\)"):
        pictures.refuse_real(_find(world, "saved_again"), real)
    pictures.refuse_real(_find(world, "drawn"), real)


def test_one_real_picture_among_others_is_refused_even_under_another_key(world: Path) -> None:
    for folder in ("real", "drawn"):
        _squares(world / folder, 48)
    shutil.copy(world / "real" / "a.png", world / "drawn" / "b.png")
    with pytest.raises(ValueError, match=r"1 of 4 pictures are the real ones \(b\)"):
        pictures.refuse_real(_find(world, "drawn", square=48), _find(world, "real", square=48))


def test_the_hash_of_a_set_sees_one_pixel_and_which_picture_is_whose(world: Path) -> None:
    _squares(world / "drawn", 48)
    before = _find(world, "drawn", square=48).digest
    picture = Image.open(world / "drawn" / "a.png")
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(world / "drawn" / "a.png")
    changed = _find(world, "drawn", square=48).digest
    shutil.move(world / "drawn" / "a.png", world / "drawn" / "x.png")
    shutil.move(world / "drawn" / "b.png", world / "drawn" / "a.png")
    shutil.move(world / "drawn" / "x.png", world / "drawn" / "b.png")
    assert len({before, changed, _find(world, "drawn", square=48).digest}) == 3


def _looking(*looks: float) -> pictures.Pictures:
    """Pictures known by their looks alone, each of one mean."""
    grey = [np.full((pictures.THUMBNAIL_SIDE, pictures.THUMBNAIL_SIDE), int(level), np.uint8) for level in looks]
    for picture, level in zip(grey, looks, strict=True):
        picture[: round((level % 1) * pictures.THUMBNAIL_SIDE)] += 1  # so many rows are a level brighter
    keys = tuple("abcdefghij"[: len(looks)])
    return pictures.Pictures(keys, (), (), tuple(f"{id(thumbnail)}" for thumbnail in grey), tuple(grey), ())


@pytest.mark.parametrize(
    ("apart", "refused"),
    [
        ((0, 0, 0, 9), True),
        ((0, 0, 9, 9), False),  # half of them is not most of them
        ((0, 0, 0, 9, 9), True),
        ((0, 0, 9, 9, 9), False),
        ((1.9375, 1.9375, 9), True),
        ((2, 2, 9), False),  # as far apart as another picture of a layout may be
        ((2.0625, 2.0625, 9), False),
    ],
)
def test_real_pictures_are_refused_when_more_than_half_look_like_their_own_real_ones(
    apart: tuple[float, ...], refused: bool
) -> None:
    real, judged = _looking(*[100] * len(apart)), _looking(*(100 + level for level in apart))
    if refused:
        with pytest.raises(ValueError, match="look like the real ones"):
            pictures.refuse_real(judged, real)
    else:
        pictures.refuse_real(judged, real)


@pytest.mark.parametrize("resized", [2, 3])
def test_real_pictures_at_another_size_are_refused_when_they_are_more_than_half(world: Path, resized: int) -> None:
    for key in "abcd"[:resized]:
        shutil.copy(world / "real" / f"{key}.png", world / "drawn")
    _squares(world / "drawn", 64)
    judged, real = _find(world, "drawn", square=64), _find(world, "real")
    if resized == 2:
        pictures.refuse_real(judged, real)
    else:
        with pytest.raises(ValueError, match=f"{resized} of 4 pictures look like the real ones, resized"):
            pictures.refuse_real(judged, real)


def test_a_picture_twice_under_two_names_is_refused_and_the_same_picture_on_its_side_is_another(world: Path) -> None:
    _squares(world / "drawn", 48)
    pictures.refuse_duplicates(_find(world, "drawn", square=48))
    shutil.copy(world / "drawn" / "a.png", world / "drawn" / "c.png")
    with pytest.raises(ValueError, match="2 pictures have the pixels of another of their set: a, c"):
        pictures.refuse_duplicates(_find(world, "drawn", square=48))
    images = pd.DataFrame([{"key": key, "height": h, "width": w} for key, h, w in (("e", 4, 9), ("f", 9, 4))])
    (world / "flat").mkdir()
    for row in images.to_dict("records"):
        Image.new("RGB", (row["width"], row["height"]), (7, 7, 7)).save(world / "flat" / f"{row['key']}.png")
    pictures.refuse_duplicates(pictures.find(world / "flat", images, None))


@pytest.mark.parametrize(("count", "names"), [(5, "a, b, c, d, e"), (6, "a, b, c, d, e, ...")])
def test_five_names_are_said_and_that_there_are_more(world: Path, count: int, names: str) -> None:
    (world / "none").mkdir()
    images = pd.DataFrame([{"key": key, "height": 4, "width": 4} for key in "abcdefgh"[:count]])
    with pytest.raises(ValueError, match=f"{count} missing pictures: {names}$"):
        pictures.find(world / "none", images, None)


def test_the_order_of_the_table_changes_neither_the_hash_of_a_set_nor_whose_a_picture_is(world: Path) -> None:
    images = tables.read(world / "images.parquet", IMAGES)
    there, back = (
        pictures.find(world / "drawn", table, None) for table in (images, images[::-1].reset_index(drop=True))
    )
    assert there.digest == back.digest
    assert dict(zip(there.keys, there.digests, strict=True)) == dict(zip(back.keys, back.digests, strict=True))
    assert dict(zip(there.keys, there.sizes, strict=True)) == dict(zip("abcd", eval_world.SIZES, strict=True))
