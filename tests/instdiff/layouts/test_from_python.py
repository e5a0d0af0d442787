"""Laws of layouts from a program: masks of any kind are the same mask, and a place in pixels is refused."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from instdiff.layouts import from_python, masks
from instdiff.schema import Instance, Layout

INSIDE = np.zeros((6, 8), dtype=bool)
INSIDE[1:4, 2:7] = True


def mask_of(mask: Any) -> Any:
    (layout,) = from_python.layouts("a cat", [{"phrase": "a cat", "mask": mask}])
    return layout.instances[0].mask


@pytest.mark.parametrize(
    "mask",
    [
        INSIDE,
        INSIDE.astype(np.uint8),
        INSIDE.astype(np.uint8) * 255,
        INSIDE.astype(np.float32),
        INSIDE.astype(np.int64),
        Image.fromarray(INSIDE.astype(np.uint8) * 255),
        Image.fromarray(INSIDE),
        masks.encode(INSIDE),
        masks.encode(INSIDE).model_dump(mode="json"),
    ],
    ids=lambda mask: f"{type(mask).__name__}-{getattr(mask, 'dtype', getattr(mask, 'mode', ''))}",
)
def test_a_mask_is_the_same_in_every_form(mask: Any) -> None:
    assert mask_of(mask) == masks.encode(INSIDE)


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        ({"phrase": "a", "box": (10, 20, 200, 300)}, "layout 0: instances.0.box: (10, 20, 200, 300) lies far outside"),
        ({"phrase": "a", "point": (12, 7)}, "layout 0: instances.0.point: (12, 7) lies outside the picture"),
        ({"phrase": "a", "bbox": (0, 0, 1, 1)}, "layout 0: instances.0.bbox: Extra inputs"),
        ({"phrase": "a", "mask": np.zeros((2, 3, 4))}, "layout 0: instances.0.mask: an array of the shape (2, 3, 4)"),
        ({"phrase": "a", "mask": 5}, "layout 0: instances.0.mask: an array of the shape ()"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(instance: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        from_python.layouts("a", [instance])
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        (np.array([[0.5, 0.51, 1.0]]), [False, True, True]),
        (np.array([[0, 1, 1]]), [False, True, True]),
        (np.array([[0, 2, 1]]), [False, True, True]),
        (np.array([[127, 128, 255]]), [False, True, True]),
        (np.array([[32767, 32768, 65535]]), [False, True, True]),
        (np.array([[0, 256, 0]]), [False, True, False]),
        (np.zeros((1, 3)), [False] * 3),
    ],
)
def test_an_array_is_of_fractions_or_of_greys_by_its_kind_and_its_largest_value(
    values: np.ndarray, inside: list[bool]
) -> None:
    assert masks.decode(mask_of(values)).tolist() == [inside]


def test_prompts_and_lists_of_instances_go_in_pairs() -> None:
    a, b = Instance(phrase="a"), Instance(phrase="b")
    read = from_python.layouts(["p", "q"], [[a, {"phrase": "b"}], []])
    assert read == [
        Layout(key="layout 0", prompt="p", instances=(a, b)),
        Layout(key="layout 1", prompt="q", instances=()),
    ]
    assert from_python.layouts(["p", "q"], ()) == [layout.model_copy(update={"instances": ()}) for layout in read]
    assert from_python.layouts(read[0], ()) == from_python.layouts([read[0]], ()) == read[:1]
    for prompts, lists in (([], ()), ([], [[a]]), (["p"], [[a], [b]])):
        with pytest.raises(ValueError, match=f"^{len(prompts)} prompts and {len(lists)} lists of instances$"):
            from_python.layouts(prompts, lists)
    with pytest.raises(ValueError, match="a Layout has its own instances"):
        from_python.layouts(read[0], [a])
    with pytest.raises(ValueError, match=r"^layout 1: instances\.1\.point: \(2, 0\) lies outside"):
        from_python.layouts(["p", "q"], [[], [a, {"phrase": "b", "point": (2, 0)}]])
