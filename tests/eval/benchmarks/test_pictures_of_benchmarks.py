"""Which file is which picture of a benchmark, how large it is, and what stands for those that are missing."""

from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from eval.benchmarks import coco_mig, geneval, overlaybench, pictures, t2i_compbench
from eval.benchmarks.case import Case, ExpectedInstance, PictureFiles, PictureName, by_stem
from eval.inputs.pictures import digest_of

ORIENTATION = 0x0112


def _case(key: str, height: int = 8, width: int = 6) -> Case:
    dog, cat, bare = (ExpectedInstance(phrase="it", category=name) for name in ("dog", "cat", None))
    return Case(key=key, prompt="", instances=(dog, bare, dog), height=height, width=width, excluded=(cat, dog))


def _paint(path: Path, level: int = 0, orientation: int = 1) -> None:
    """Six wide and four high, the left half darker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((4, 6, 3), level, np.uint8)
    pixels[:, 3:] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_has_the_size_at_which_it_is_read_whatever_way_its_camera_was_held(
    tmp_path: Path, orientation: int
) -> None:
    _paint(tmp_path / "a.png", orientation=orientation)
    (found,) = pictures.find(tmp_path, [_case("a")], PictureFiles())
    assert found.size == ((6, 4) if orientation >= 5 else (4, 6))
    read = pictures.whole([found])
    assert read.sizes == read.stated == (found.size,)
    assert pictures.identities([found]) == {"a": read.digests[0]} == {"a": digest_of(read.load(0))}


def _by_folder(path: PurePath) -> PictureName | None:
    return PictureName(path.parts[0], path.stem) if len(path.parts) == 2 else None


SEVERAL = PictureFiles(named=_by_folder, left_aside=lambda path: path.parts[0] == "aside", repeats=3)


def test_pictures_stand_case_by_case_and_those_that_are_missing_have_the_size_of_their_case(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/10.PNG", "a/2.png"):
        _paint(tmp_path / name)
    for name in ("aside/1.png", "a/.3.png"):
        _paint(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    found = pictures.find(tmp_path, [_case("b"), _case("a")], SEVERAL)
    assert [picture.name for picture in found] == ["b/10", "b/2", "b/missing-2", "a/10", "a/2", "a/missing-2"]
    assert [picture.place for picture in found] == [0, 0, 0, 1, 1, 1]
    assert [picture.path is None for picture in found] == [True, False, True, False, False, True]
    assert [picture.size for picture in found] == [(8, 6), (4, 6), (8, 6), (4, 6), (4, 6), (8, 6)]
    assert found[0].texts == ["dog", "cat"]
    present = pictures.whole(found)
    assert present.keys == ("b/2", "a/10", "a/2")


def test_the_hash_of_a_set_sees_whose_each_file_is_and_neither_order_nor_what_is_missing(tmp_path: Path) -> None:
    for level, key in enumerate("ab"):
        _paint(tmp_path / f"{key}.png", level)
    cases = [_case(key) for key in "abc"]
    digest = pictures.digest(pictures.find(tmp_path, cases, PictureFiles()))
    assert digest == pictures.digest(pictures.find(tmp_path, cases[1::-1], PictureFiles()))
    (tmp_path / "a.png").rename(tmp_path / "x.png")
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    (tmp_path / "x.png").rename(tmp_path / "b.png")
    assert pictures.digest(pictures.find(tmp_path, cases, PictureFiles())) != digest


@pytest.mark.parametrize(
    ("count", "names"), [(5, "1.png, 2.png, 3.png, 4.png, 5.png"), (6, "1.png, 2.png, 3.png, 4.png, 5.png, ...")]
)
def test_five_pictures_of_no_layout_are_named_and_that_there_are_more(tmp_path: Path, count: int, names: str) -> None:
    for number in range(1, count + 1):
        _paint(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match=f": {count} pictures of no layout of this benchmark: {names}$"):
        pictures.find(tmp_path, [_case("a")], PictureFiles())


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none: no such folder of pictures"):
        pictures.find(tmp_path / "none", [_case("a")], PictureFiles())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: is a file, where a folder of pictures is expected"):
        pictures.find(tmp_path / "file", [_case("a")], PictureFiles())


@pytest.mark.parametrize(
    ("named", "path", "name"),
    [
        (by_stem, "a.b.png", ("a.b", "")),
        (by_stem, "x/a.png", None),
        (coco_mig.named, "0012.png", ("12", "")),
        (coco_mig.named, "red_dog_7.png", ("7", "")),
        (coco_mig.named, "dog7.png", None),
        (coco_mig.named, "7_dog.png", None),
        (coco_mig.named, "x/7.png", None),
        (geneval.named, "00012/samples/0003.png", ("00012", "0003")),
        (geneval.named, "7/samples/0.png", ("00007", "0")),
        (geneval.named, "7/grids/0.png", None),
        (geneval.named, "x/samples/0.png", None),
        (geneval.named, "\u0663/samples/0.png", None),
        (geneval.named, "00007.png", ("00007", "")),
        (overlaybench.named, "hard/3/0001.png", ("complex-0001", "3")),
        (overlaybench.named, "medium/1/0001.png", ("regular-0001", "1")),
        (overlaybench.named, "other/1/0001.png", None),
        (overlaybench.named, "simple/0001.png", None),
        (overlaybench.named, "simple-0001.png", ("simple-0001", "")),
        (t2i_compbench.named, "A red car, and a dog_000012.png", ("a-red-car-and-a-dog", "000012")),
        (t2i_compbench.named, "a-red-car_12.png", ("a-red-car-12", "")),
        (t2i_compbench.named, "a-red-car.png", ("a-red-car", "")),
        (t2i_compbench.named, "x/a-red-car.png", None),
    ],
)  # fmt: skip
def test_a_files_name_says_the_case_and_which_of_its_pictures_it_is(
    named: object, path: str, name: tuple[str, str] | None
) -> None:
    assert callable(named)
    assert named(PurePath(path)) == name
