import pandas as pd

from instdiff.layouts import from_tables, masks
from instdiff.schema import Box, Instance, Layout, Point, Rle

IMAGES = pd.DataFrame(
    [
        {"key": "two", "group": "mixed", "file": "2.png", "width": 4, "height": 2, "caption": "Both.", "sha256": "0"},
        {"key": "none", "group": "mixed", "file": "0.png", "width": 1, "height": 1, "caption": "Bare.", "sha256": "0"},
    ]
)
FULL = {
    "key": "two",
    "index": 1,
    "category": "ring",
    "box": [0.0, 0.5, 1.0, 1.0],
    "score": 1.0,
    "mask": "44",
    "caption": "a red ring",
    "backend": "template",
    "point": [0.25, 0.75],
    "scribble": [0.0, 0.5, 0.25, 0.5],
    "outline": [0.0, 0.0, 0.5, 1.0],
    "colour": "red",
    "texture": None,
}
BARE = {**dict.fromkeys(FULL), "key": "two", "index": 0, "caption": "something"}


def test_tables_become_layouts_and_null_becomes_none() -> None:
    two, none = from_tables.from_tables(IMAGES, pd.DataFrame([FULL, BARE], dtype=object))
    assert none == Layout(key="none", prompt="Bare.", instances=())
    assert two.prompt == "Both."
    assert two.instances == (
        Instance(phrase="something"),
        Instance(
            phrase="a red ring",
            category="ring",
            box=Box(0, 0.5, 1, 1),
            point=Point(0.25, 0.75),
            scribble=(Point(0, 0.5), Point(0.25, 0.5)),
            mask=Rle(size=(2, 4), counts="44"),
            outline=(Point(0, 0), Point(0.5, 1)),
        ),
    )
    assert masks.decode(two.instances[1].mask).tolist() == [[False, False, True, True]] * 2
