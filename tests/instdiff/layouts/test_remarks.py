"""What is read otherwise than written is said, at exactly the bounds, and nothing else is."""

import numpy as np
import pytest

from instdiff.layouts import masks, remarks
from instdiff.schema import Box, Instance, Layout, Point

SQUARE = remarks.SQUARE


def said(instance: Instance, written_for: tuple[int, int] = SQUARE, drawn_at: tuple[int, int] = SQUARE) -> list[str]:
    return list(remarks.of_layout(Layout(key="k", prompt="", instances=(instance,)), written_for, drawn_at))


def with_box(*edges: float) -> list[str]:
    return said(Instance(phrase="a", box=Box(*edges)))


def test_a_box_inside_the_picture_has_no_remark() -> None:
    assert with_box(0, 0, 1, 1) == []
    assert with_box(0.25, 0.5, 0.5, 0.75) == []


@pytest.mark.parametrize("place", range(4))
def test_a_box_beyond_any_edge_is_cut_and_far_beyond_it_is_asked_about(place: int) -> None:
    for beyond, is_far in ((0.01, False), (0.5, False), (0.51, True), (3, True)):
        edges = [0.25, 0.25, 0.75, 0.75]
        edges[place] = 1 + beyond if place >= 2 else -beyond - (1 if is_far else 0)
        (remark,) = with_box(*edges)
        assert "is cut at the picture's border" in remark
        assert ("percent or pixels" in remark) == is_far


def test_a_box_thinner_than_a_pixel_either_way_is_asked_about() -> None:
    thin, pixel = 0.9 / 512, 1 / 512
    for edges in ((0.5, 0.25, 0.5 + thin, 0.75), (0.25, 0.5, 0.75, 0.5 + thin)):
        (remark,) = with_box(*edges)
        assert "smaller than a pixel" in remark
    assert with_box(0.5, 0.25, 0.5 + pixel, 0.75) == with_box(0.25, 0.5, 0.75, 0.5 + pixel) == []


def test_a_box_without_area_counts_as_not_given() -> None:
    for edges in ((0.5, 0.25, 0.5, 0.75), (1.0, 0.25, 1.2, 0.75), (0.25, -0.5, 0.75, 0.0)):
        (remark,) = with_box(*edges)
        assert "counts as not given" in remark


def test_any_format_says_where_an_instance_is() -> None:
    mask = masks.encode(np.eye(4, dtype=bool))
    for place in (
        {"box": Box(0, 0, 1, 1)},
        {"point": Point(0.5, 0.5)},
        {"scribble": (Point(0.5, 0.5),)},
        {"outline": (Point(0.5, 0.5),)},
        {"mask": mask},
    ):
        assert said(Instance(phrase="a", **place)) == []
    for nowhere in ({}, {"scribble": ()}, {"outline": ()}):
        (remark,) = said(Instance(phrase="a", **nowhere))
        assert "nothing says where it is" in remark


@pytest.mark.parametrize(("pixels", "words"), [(0, "no pixel is inside"), (1, None), (11, None), (12, "inverted")])
def test_only_an_empty_and_a_full_mask_are_remarked_on(pixels: int, words: str | None) -> None:
    mask = (np.arange(12) < pixels).reshape(3, 4)
    lines = said(Instance(phrase="a", mask=masks.encode(mask)), (3, 4), (3, 4))
    assert [words in remark for remark in lines] == ([True] if words else [])


def test_shapes_count_as_the_same_up_to_a_hundredth_of_their_ratio() -> None:
    instance = Instance(phrase="a", point=Point(0.5, 0.5))
    for written, is_same in (((100, 100), True), ((100, 101), True), ((151, 150), True), ((100, 102), False)):
        assert (said(instance, written, (64, 64)) == []) == is_same
        assert (said(instance, written, (512, 512)) == []) == is_same
    (remark,) = said(instance, (100, 200), (1, 1))
    assert "written for 200x100, drawn as a square" in remark


def test_a_mask_of_another_shape_than_the_picture_is_stretched() -> None:
    mask = masks.encode(np.eye(4, 8, dtype=bool))
    assert said(Instance(phrase="a", mask=mask), (40, 80), (40, 80)) == []
    (remark,) = said(Instance(phrase="a", mask=mask), (80, 40), (80, 40))
    assert "is 8x4, and the picture 40x80: it is stretched" in remark


@pytest.mark.parametrize(("length", "lost"), [(4, 0), (5, 0), (6, 1), (17, 12), (18, 13)])
def test_the_words_beyond_what_the_encoder_reads_are_named(length: int, lost: int) -> None:
    words = [f"w{number}" for number in range(length)]
    layout = Layout(key="k", prompt="", instances=(Instance(phrase=" ".join(words)),))
    lines = list(remarks.of_texts(layout, str.split, 5))
    if not lost:
        assert lines == []
        return
    shown = " ".join(words[5:17]) + (" ..." if lost > 12 else "")
    assert lines == [f"instances.0.phrase: has {length} tokens, and the text encoder reads 5: lost is {shown!r}"]


def test_words_are_letters_together_digits_apart_and_signs_together() -> None:
    assert remarks.words("A red-hot caf\u00e9, 12!? a_b") == [
        *("a", "red", "-", "hot", "caf\u00e9", ",", "1", "2", "!?", "a", "_", "b"),
    ]


def test_a_prompt_is_held_to_the_same_and_words_counted_without_a_tokenizer_are_the_least() -> None:
    long = Layout(key="k", prompt="a " * 80, instances=())
    (remark,) = remarks.of_texts(long)
    assert remark.startswith("prompt: has at least 80 tokens, and the text encoder reads 75: lost is 'a a a a a'")
    assert list(remarks.of_texts(long.model_copy(update={"prompt": "a " * 75}))) == []
