"""Each arrangement stresses what it is named after, within its bounds, and the corpus takes groups in turn."""

from itertools import combinations

import numpy as np
import pytest

from instdiff.layouts.geometry import iou
from instdiff.randomness import generator
from instdiff.world import corpus
from instdiff.world.arrangements import ARRANGEMENTS, GROUPS, SIZE, Placed
from instdiff.world.scenes import scene

COUNTS = {  # least and most instances
    "mixed": (1, 6),
    "single": (1, 1),
    "crowded": (4, 4),
    "overlapping": (2, 4),
    "same_shape": (2, 4),
    "small": (2, 5),
    "large": (1, 2),
    "off_centre": (1, 3),
}
OVERLAPS = {  # least and most of the largest overlap of two
    "mixed": (0.0, 0.2),
    "overlapping": (0.12, 0.3),
    "same_shape": (0.0, 0.1),
    "small": (0.0, 0.05),
    "large": (0.0, 0.3),
}
each_group = pytest.mark.parametrize("group", ARRANGEMENTS)


def drawn(group: str, number: int = 60) -> list[list[Placed]]:
    return [ARRANGEMENTS[group](generator(seed, "law", group)) for seed in range(number)]


@each_group
def test_a_group_has_its_number_of_instances_and_every_number_occurs(group: str) -> None:
    least, most = COUNTS[group]
    assert {len(placed) for placed in drawn(group)} == set(range(least, most + 1))


@each_group
def test_instances_lie_in_the_picture(group: str) -> None:
    for placed in drawn(group):
        for instance in placed:
            assert instance.box.x0 >= 0 and instance.box.y0 >= 0
            assert instance.box.x1 <= SIZE and instance.box.y1 <= SIZE


@pytest.mark.parametrize("group", OVERLAPS)
def test_the_largest_overlap_lies_within_the_groups_bounds(group: str) -> None:
    least, most = OVERLAPS[group]
    for placed in drawn(group):
        worst = max((iou(a.box, b.box) for a, b in combinations(placed, 2)), default=None)
        assert worst is None or least <= worst <= most + 1e-12


SIDES = {  # least and most of an instance's side, by the number of instances in the picture
    "single": {1: (22, 50)},
    "mixed": {1: (20, 46), 2: (20, 40), 3: (20, 34), 4: (20, 30), 5: (20, 27), 6: (20, 25)},
}


@pytest.mark.parametrize("group", SIDES)
def test_instances_are_as_large_as_their_number_allows_and_no_smaller_than_can_be_seen(group: str) -> None:
    """A side is the root of the area: what is longer one way is shorter the other."""
    whole = drawn(group, 700)
    for count, (least, most) in SIDES[group].items():
        sides = [(each.width * each.height) ** 0.5 for placed in whole if len(placed) == count for each in placed]
        assert least - 1e-9 <= min(sides) < least + 0.9
        assert most - 0.9 < max(sides) <= most + 1e-9


def test_crowded_tiles_are_alike_but_for_their_colours_and_touch() -> None:
    for placed in drawn("crowded", 20):
        assert len({(instance.category, instance.texture, instance.width, instance.height) for instance in placed}) == 1
        assert len({instance.colour for instance in placed}) == 4
        side = placed[0].width
        assert sorted({round(instance.x - placed[0].x, 9) for instance in placed}) == [0, round(side, 9)]
        assert sorted({round(instance.y - placed[0].y, 9) for instance in placed}) == [0, round(side, 9)]


def test_same_shapes_are_of_other_colours() -> None:
    for placed in drawn("same_shape", 20):
        assert len({instance.category for instance in placed}) == 1
        assert len({instance.colour for instance in placed}) == len(placed)


def test_what_is_off_centre_stands_in_a_corner_of_its_own() -> None:
    corners = [
        [(instance.x > SIZE / 2, instance.y > SIZE / 2) for instance in placed] for placed in drawn("off_centre")
    ]
    assert all(len(set(own)) == len(own) for own in corners)
    assert len({corner for own in corners for corner in own}) == 4


def test_every_group_has_its_arrangement() -> None:
    assert set(GROUPS) | {"single"} == set(ARRANGEMENTS)


def test_a_corpus_takes_its_groups_in_turn_and_counts_on_within_each() -> None:
    scenes = corpus.rendered(5, 7, ("small", "large", "mixed"), workers=1)
    expected = [scene(5, number // 3, ("small", "large", "mixed")[number % 3]) for number in range(7)]
    assert scenes.captions == [item.caption for item in expected]
    assert np.array_equal(scenes.pictures_NHWC, np.stack([item.picture for item in expected]))
    assert len({picture.tobytes() for picture in scenes.pictures_NHWC}) == 7
