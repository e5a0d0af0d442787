"""A scene belongs to its seed, its group and its number, and what is said of it is what was painted."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from instdiff.world import scenes
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.arrangements import ARRANGEMENTS, GROUPS, SIZE, Placed
from instdiff.world.scenes import MIN_PIXELS, scene


def test_scenes_that_differ_in_seed_number_or_group_alone_are_drawn_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arranged by one rule, the groups at one number differ only if their streams do."""
    for group in GROUPS:
        monkeypatch.setitem(ARRANGEMENTS, group, ARRANGEMENTS["mixed"])
    parts = [(seed, index, group) for seed in (0, 1) for index in (0, 1, 2) for group in GROUPS]
    assert len({scene(*part).picture.tobytes() for part in parts}) == len(parts)


def test_a_scene_is_the_same_whatever_ran_before() -> None:
    first = scene(3, 1, "crowded")
    scene(3, 0, "crowded")
    again = scene(3, 1, "crowded")
    assert np.array_equal(first.picture, again.picture)
    assert first.caption == again.caption


@pytest.mark.parametrize("group", GROUPS)
def test_instances_share_no_pixel_and_their_boxes_are_tight(group: str) -> None:
    for index in range(4):
        painted = scene(7, index, group)
        assert np.sum([instance.mask for instance in painted.instances], axis=0).max() == 1
        for instance in painted.instances:
            rows, columns = np.nonzero(instance.mask)
            assert len(rows) >= MIN_PIXELS
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert tuple(np.multiply(instance.box, SIZE)) == tight
            assert instance.caption == f"a {instance.colour} {instance.texture} {instance.category}"
            assert instance.caption in painted.caption


def test_a_scene_of_which_too_little_of_an_instance_is_seen_is_not_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """At exactly the least share that must stay uncovered it is, and just below it is not."""
    rng = np.random.default_rng(0)
    back = Placed("square", "red", "rubber", 20, 32, 20, 20, 0.0)
    front = Placed("square", "blue", "rubber", 30, 32, 20, 20, 0.0)  # over half of it
    painted = scenes.paint([back], "plain", rng)
    assert painted is not None
    whole = int(painted.instances[0].mask.sum())
    monkeypatch.setattr(scenes, "MIN_VISIBLE", 0.0)
    covered = scenes.paint([back, front], "plain", rng)
    assert covered is not None
    share = int(covered.instances[0].mask.sum()) / whole
    assert 0.4 < share < 0.6
    for least, seen in ((share - 0.01, True), (share, True), (share + 0.01, False)):
        monkeypatch.setattr(scenes, "MIN_VISIBLE", least)
        assert (scenes.paint([back, front], "plain", rng) is not None) is seen
    monkeypatch.setattr(scenes, "MIN_VISIBLE", 0.0)
    for least, seen in ((share * whole - 1, True), (share * whole, True), (share * whole + 1, False)):
        monkeypatch.setattr(scenes, "MIN_PIXELS", round(least))
        assert (scenes.paint([back, front], "plain", rng) is not None) is seen


SHOWN = Path(__file__).with_name("scenes.png")  # how the scenes looked when the shipped networks were trained on them


def test_scenes_look_as_when_the_shipped_networks_were_trained_on_them() -> None:
    """A change that is meant wants new networks; `python tests/instdiff/world/test_scenes.py` then writes it anew."""
    painted = drawn_by_every_group()
    instances = [instance for row in painted for each in row for instance in each.instances]
    assert {instance.category for instance in instances} == set(SHAPES)
    assert {instance.texture for instance in instances} == set(TEXTURES)
    assert {instance.colour for instance in instances} == set(COLOURS)
    assert {each.background for row in painted for each in row} == set(scenes.BACKGROUNDS)
    with Image.open(SHOWN) as picture:
        before = np.asarray(picture).astype(int)
    assert np.abs(montage(painted).astype(int) - before).max() <= 1  # of 255


def drawn_by_every_group() -> list[list[scenes.Scene]]:
    return [[scene(11, index, group) for index in range(8)] for group in GROUPS]


def montage(painted: list[list[scenes.Scene]]) -> NDArray[np.uint8]:
    return np.concatenate([np.concatenate([each.picture for each in row], axis=1) for row in painted])


if __name__ == "__main__":
    Image.fromarray(montage(drawn_by_every_group())).save(SHOWN, optimize=True)
