"""The page on the full size says what torch counts."""

import re
from pathlib import Path

from bench import counts

PAGE = (Path(__file__).parents[2] / "docs" / "full-size.md").read_text(encoding="utf-8")


def test_the_page_of_the_full_size_holds_what_is_counted_on_its_shapes() -> None:
    work = counts.work()
    for name in ("row", "row at gate 0", "UniFusion of a layout", "text", "decoding", "encoding"):
        assert f"| {name} | {work[name] / 1e12:.3f} |" in PAGE
    assert f"| weights | {work['weights'] * 2 / 1e9:.2f} GB ({work['weights'] * 4 / 1e9:.2f} GB in float32) |" in PAGE
    assert f"| keys and values of a row, held for all steps | {work['bytes of keys a row'] / 1e6:.0f} MB |" in PAGE


def test_the_page_of_the_full_size_holds_what_a_pass_holds() -> None:
    held = counts.memory(rows=(1, 2))
    a_row = held["pass of 2 rows"] - held["pass of 1 rows"]
    (stated,) = re.findall(r"a row in a forward pass \| (\d+) MB", PAGE)
    assert round(a_row / 1e6) == int(stated)
    assert f"| decoding a picture | {held['decoding'] / 1e6:.0f} MB |" in PAGE
