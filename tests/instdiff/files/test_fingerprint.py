"""Weights are told apart by names, sizes and the ends of their files."""

from pathlib import Path

import pytest

from instdiff.files.provenance import EDGE, fingerprint


def write(path: Path, size: int, *places: int) -> None:
    """A file of zeros with a one at these places; places below zero count from the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)
        for place in places:
            stream.seek(place % size)
            stream.write(b"1")


@pytest.mark.parametrize("place", [0, EDGE - 1, -EDGE, -1])
@pytest.mark.parametrize("size", [EDGE, EDGE + 1, 3 * EDGE])
def test_a_byte_at_either_end_is_seen(tmp_path: Path, size: int, place: int) -> None:
    write(tmp_path / "plain", size)
    write(tmp_path / "changed", size, place)
    assert fingerprint(tmp_path / "plain") != fingerprint(tmp_path / "changed")


def test_names_sizes_and_every_file_of_a_folder_are_seen_and_nothing_else(tmp_path: Path) -> None:
    folders = {
        "plain": {"a": 3, "sub/b": 4},
        "another_name": {"a": 3, "sub/c": 4},
        "another_folder": {"a": 3, "b": 4},
        "another_size": {"a": 3, "sub/b": 5},
        "exchanged": {"a": 4, "sub/b": 3},
        "fewer": {"a": 3},
    }
    for folder, files in folders.items():
        for name, size in files.items():
            write(tmp_path / folder / name, size)
    for name, size in reversed(folders["plain"].items()):
        write(tmp_path / "same" / name, size)
    assert len({fingerprint(tmp_path / folder) for folder in folders}) == len(folders)
    assert fingerprint(tmp_path / "same") == fingerprint(tmp_path / "plain")


def test_what_holds_no_weights_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"{path.name}: no weights there"):
            fingerprint(path)
