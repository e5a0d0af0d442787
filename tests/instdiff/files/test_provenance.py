"""Hashes of files and folders: whatever can change a number changes them, and nothing else does."""

import shutil
from pathlib import Path

import pytest

from instdiff.files import provenance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files at the top, in a folder and in a folder of that."""
    whole = tmp_path / "judge"
    for name in ("config.json", "text/weights.bin", "text/deep/merges.txt"):
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).write_bytes(name.encode())
    return whole


@pytest.mark.parametrize("name", ["config.json", "text/weights.bin", "text/deep/merges.txt"])
def test_one_byte_of_any_file_changes_the_hash_of_its_folder(folder: Path, name: str) -> None:
    before = provenance.of_folder(folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert provenance.of_folder(folder) != before


@pytest.mark.parametrize("name", ["more.txt", "text/config.json", "text/deep/deeper/more.txt"])
def test_so_does_another_file_and_a_file_at_another_place(folder: Path, name: str) -> None:
    before = provenance.of_folder(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(folder / "config.json", folder / name)
    more = provenance.of_folder(folder)
    (folder / "config.json").unlink()
    assert len({before, more, provenance.of_folder(folder)}) == 3


def test_where_a_folder_lies_and_in_what_order_it_was_written_does_not(folder: Path, tmp_path: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            copy = tmp_path / "elsewhere" / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (tmp_path / "elsewhere" / "empty").mkdir()
    assert provenance.of_folder(tmp_path / "elsewhere") == provenance.of_folder(folder)


def test_a_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "within").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty: no files"):
        provenance.of_folder(tmp_path / "empty")


def test_a_file_under_a_published_name_is_the_published_one_or_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "text" / "weights.bin").rename(folder / "text" / "net-0a1b2c3d.pth")
    with pytest.raises(ValueError, match=r"net-0a1b2c3d\.pth: is not the file published.*, not 0a1b2c3d$"):
        provenance.checked(folder)
    digest = provenance.of_file(folder / "text" / "net-0a1b2c3d.pth")
    named = (folder / "text" / "net-0a1b2c3d.pth").rename(folder / "text" / f"net-{digest[:8]}.pth")
    names = ("judge/config.json", "judge/text/deep/merges.txt", f"judge/text/{named.name}")
    assert provenance.checked(folder) == {name: provenance.of_file(folder.parent / name) for name in names}
    assert provenance.checked(named) == {named.name: digest}
    monkeypatch.setitem(provenance.PUBLISHED, "config.json", "0" * 64)
    with pytest.raises(ValueError, match=rf"config\.json: is not the file published.*, not {'0' * 64}$"):
        provenance.checked(folder)


def test_a_record_is_of_the_pictures_beside_it_and_is_read_without_its_lists(folder: Path) -> None:
    assert provenance.read(folder) is None
    line = provenance.picture_line(folder, "config.json", "a layout")
    assert line == {"file": "config.json", "layout": "a layout", "sha256": provenance.of_file(folder / "config.json")}
    provenance.write(folder, [line], layouts=[{"key": "k"}], options={"seed": 3})
    assert provenance.read(folder) == {"options": {"seed": 3}, "libraries": provenance.versions()}
    (folder / "config.json").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"provenance\.json: config\.json is not the picture that was drawn then"):
        provenance.read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json is not the picture"):
        provenance.read(folder)


def test_versions_are_of_python_and_of_every_library_that_can_change_a_number() -> None:
    assert list(provenance.versions()) == [
        *("python", "instdiff", "torch", "diffusers", "transformers", "ultralytics", "pycocotools"),
        *("numpy", "pandas", "pillow"),
    ]
