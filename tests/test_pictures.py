"""The door for pictures: what does not fit is refused by name, and the real pictures are never scored by mistake."""

import shutil
from pathlib import Path

import eval_world
import pytest
from PIL import Image

from eval.inputs import pictures
from instdiff import tables
from instdiff.tables import IMAGES


@pytest.fixture
def world(tmp_path: Path) -> Path:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {}, background=90)
    return tmp_path


def _find(world: Path, folder: str, square: int | None = None) -> pictures.Pictures:
    return pictures.find(world / folder, tables.read(world / "images.parquet", IMAGES), square)


def test_pictures_come_in_the_order_of_the_table(world: Path) -> None:
    found = _find(world, "drawn")
    assert found.keys == ("a", "b", "c", "d")
    assert found.load(1).shape == (32, 32, 3)


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
    Image.new("RGB", (20, 32)).save(world / "drawn" / "b.png")
    with pytest.raises(ValueError, match=r"wrongly sized .* b\.png is 20x32"):
        _find(world, "drawn")


def test_a_model_may_draw_squares_of_its_own_size_but_then_all_of_them(world: Path) -> None:
    for key in "abcd":
        Image.new("RGB", (48, 48), (0, 0, 9)).save(world / "drawn" / f"{key}.png")
    assert _find(world, "drawn", square=48).sizes == ((48, 48),) * 4
    with pytest.raises(ValueError, match="wrongly sized"):
        _find(world, "drawn")
    Image.new("RGB", (32, 32)).save(world / "drawn" / "a.png")
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
    shutil.copy(world / "real" / "a.png", world / "drawn" / "b.png")
    with pytest.raises(ValueError, match=r"1 of 4 pictures are the real ones \(b\)"):
        pictures.refuse_real(_find(world, "drawn"), _find(world, "real"))


def test_the_hash_of_a_set_sees_one_pixel_and_which_picture_is_whose(world: Path) -> None:
    before = _find(world, "drawn").digest
    one = Image.open(world / "drawn" / "a.png")
    one.putpixel((0, 0), (1, 2, 3))
    one.save(world / "drawn" / "a.png")
    changed = _find(world, "drawn").digest
    shutil.move(world / "drawn" / "a.png", world / "drawn" / "x.png")
    shutil.move(world / "drawn" / "b.png", world / "drawn" / "a.png")
    shutil.move(world / "drawn" / "x.png", world / "drawn" / "b.png")
    assert len({before, changed, _find(world, "drawn").digest}) == 3
