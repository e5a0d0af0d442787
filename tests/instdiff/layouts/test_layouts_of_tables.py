"""Layouts made of tables: rows by picture and index, absent what is null."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from instdiff.layouts import masks
from instdiff.layouts.from_tables import from_tables, instance, to_json
from instdiff.schema import Box, Layout, Point

NULLS = dict.fromkeys(["category", "box", "mask", "caption", "point", "scribble", "outline"])


def annotated(key: str, index: int, **values: object) -> dict[str, object]:
    return {"key": key, "index": index, **NULLS, "caption": f"{key}-{index}", **values}


IMAGES = pd.DataFrame(
    [
        {"key": "wide", "caption": "w", "height": 6, "width": 10},
        {"key": "bare", "caption": "b", "height": 3, "width": 3},
        {"key": "tall", "caption": "t", "height": 9, "width": 4},
    ]
)
ROWS = [annotated("wide", 0), annotated("wide", 1), annotated("wide", 2), annotated("tall", 0), annotated("tall", 4)]


@given(st.permutations(ROWS))
def test_the_order_of_rows_changes_no_layout(rows: list[dict[str, object]]) -> None:
    layouts = from_tables(IMAGES, pd.DataFrame(rows))
    assert [layout.key for layout in layouts] == ["wide", "bare", "tall"]
    assert [layout.prompt for layout in layouts] == ["w", "b", "t"]
    phrases = [[each.phrase for each in layout.instances] for layout in layouts]
    assert phrases == [["wide-0", "wide-1", "wide-2"], [], ["tall-0", "tall-4"]]


def test_a_row_is_an_instance_of_the_size_of_its_picture() -> None:
    mask = np.zeros((6, 10), dtype=bool)
    mask[1:3, 4:9] = True
    row = annotated(
        "wide",
        0,
        category="kite",
        box=[0.4, 1 / 6, 0.9, 0.5],
        mask=masks.encode(mask).counts,
        point=np.array([0.5, 0.25]),
        scribble=np.array([0.1, 0.2, 0.3, 0.4]),
    )
    kite = instance(row, 6, 10)
    assert kite.mask is not None
    assert np.array_equal(masks.decode(kite.mask), mask)
    assert (kite.category, kite.box, kite.point) == ("kite", Box(0.4, 1 / 6, 0.9, 0.5), Point(0.5, 0.25))
    assert kite.scribble == (Point(0.1, 0.2), Point(0.3, 0.4))
    assert kite.outline is None


def test_what_is_not_given_is_not_in_the_json() -> None:
    layout = Layout(key="k", prompt="p", instances=(instance(annotated("k", 0, point=[0.0, 1.0]), 4, 4),))
    assert to_json(layout) == {"key": "k", "prompt": "p", "instances": [{"phrase": "k-0", "point": [0.0, 1.0]}]}
