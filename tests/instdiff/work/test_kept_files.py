"""Files that answers bring: those of a retry replace the earlier ones, and the others stay."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from instdiff.work import parts
from instdiff.work.ledger import LEDGER
from instdiff.work.outcomes import Failure
from instdiff.work.parts import Answer, Part


class Numbered(NamedTuple):
    key: str


ITEMS = (Numbered("good"), Numbered("bad"), Numbered("other"))


def part(folder: Path, content: bytes, failing: set[str], retry: tuple[str, ...] = ()) -> Part:
    """A part whose answers bring a file each, and one that all of them bring."""

    def annotate(items: Sequence[Numbered]) -> Iterator[Answer]:
        for item in items:
            failures = [(-1, Failure("broken", "why"))] if item.key in failing else []
            yield Answer(item.key, [], failures, ((item.key, content), ("shared", content)))

    return Part(folder / "000000", ITEMS, annotate, LEDGER, retry)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "000000" / parts.FILES).iterdir()}


def test_what_is_made_again_replaces_its_file_and_no_other(tmp_path: Path) -> None:
    assert parts.make([part(tmp_path, b"first", {"bad"})]) == len(ITEMS)
    assert contents(tmp_path) == dict.fromkeys(("good", "bad", "other", "shared"), b"first")
    assert parts.make([part(tmp_path, b"again", set(), ("broken",))]) == len(ITEMS)
    assert contents(tmp_path) == {"good": b"first", "bad": b"again", "other": b"first", "shared": b"again"}


def test_what_failed_for_another_reason_is_left_as_it_is(tmp_path: Path) -> None:
    parts.make([part(tmp_path, b"first", {"bad"})])
    parts.make([part(tmp_path, b"again", set(), ("another",))])
    assert set(contents(tmp_path).values()) == {b"first"}
