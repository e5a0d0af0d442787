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
