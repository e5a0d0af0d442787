"""What a labelled picture becomes on its way into the network is what the released data set makes of it.

Two differences are meant (docs/differences.md): slots are ordered by area there always, here where there are too many;
and the points of a mirrored stroke keep their order there, and are sorted anew here.
"""

import functools
import gzip
import json
import zlib
from typing import Any

import golden_cases as golden
import numpy as np
import pytest
import torch
from torch import Tensor

from instdiff.data.samples import fitting
from instdiff.layouts import geometry, masks, strokes
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import RELEASED
from instdiff.layouts.prompts import Prompts, prompt
from instdiff.model import attention_mask
from instdiff.model.conditions import Conditions, collate, mirrored
from instdiff.schema import Box, Instance, Layout, Point, Rle

SIDE, CELLS = 512, 64  # pixels of a picture, cells of an attention mask, a side
FACTS = json.loads(gzip.decompress((golden.FOLDER / "dataset.json.gz").read_bytes()))
CASES = {case["tag"]: case for case in FACTS["decode_cases"]}
each_case = pytest.mark.parametrize("tag", CASES)
PIXEL = 1e-6  # of fractions: a pixel of 512 is two thousand times as much


def points(flat: strokes.Points | None) -> tuple[Point, ...]:
    assert flat is not None
    return tuple(Point(x, y) for x, y in flat.tolist())


@functools.cache
def layout(tag: str) -> Layout:
    """The picture's instances, the largest first, their scribbles drawn in the order of the file."""
    sample, case = FACTS["samples"][int(tag[4])], CASES[tag]
    draw = np.random.RandomState(case["np_random_seed"])
    instances = []
    for anno in sample["annos"]:
        x, y, width, height = anno["bbox"]
        mask = Rle(**anno["mask"])
        mask_HW = masks.decode(mask)
        place: dict[str, Any] = {
            "box": geometry.from_pixels(x, y, x + width, y + height, height=SIDE, width=SIDE),
            "mask": mask,
            "scribble": points(strokes.scribble(mask_HW, RELEASED.num_scribble_points, draw)),
        }
        instances.append(Instance(phrase=anno["caption"], category=anno["category_name"], **place))
    ordered = sorted(instances, key=lambda instance: -(instance.box or Box(0, 0, 0, 0)).area)
    largest = ordered[: case["params"]["max_boxes_per_data"]]
    return Layout(key=tag[:5], prompt=sample["caption"], instances=tuple(largest))


@functools.cache
def shown(tag: str) -> Conditions:
    """The conditions of a case, its phrases by the features that are stored of them."""
    case = CASES[tag]
    slots = RELEASED.model_copy(update={"max_instances": case["params"]["max_boxes_per_data"]})
    field = "blip_clip_embeddings" if case["params"].get("random_blip") else "text_embedding_before"
    features = {anno["caption"]: torch.tensor(anno[field]) for anno in FACTS["samples"][int(tag[4])]["annos"]}
    conditions = collate([complete(layout(tag), slots, "reference")], features, slots)
    return mirrored(conditions) if case["flip"] else conditions


def vectors(tag: str, name: str) -> Tensor:
    return golden.tensors("dataset")[f"{tag}/{name}"]


def in_one_order(strokes_NF: Tensor) -> Tensor:
    """(N, K, 2): the points of each stroke by x, then by y."""
    ordered = [sorted(map(tuple, stroke.view(-1, 2).round(decimals=5).tolist())) for stroke in strokes_NF]
    return torch.tensor(ordered)


@each_case
def test_boxes_points_phrases_and_what_is_filled_are_the_released_ones(tag: str) -> None:
    conditions, filled = shown(tag), shown(tag).filled_BN[0]
    assert torch.equal(filled.float(), vectors(tag, "masks"))
    named = {"boxes": conditions.box_BN4, "points": conditions.point_BN2, "text_embeddings": conditions.text_BND}
    for name, values in named.items():
        assert golden.difference(values[0][filled], vectors(tag, name)[filled]) < PIXEL, name


@each_case
def test_scribbles_and_outlines_have_the_released_points(tag: str) -> None:
    conditions, filled = shown(tag), shown(tag).filled_BN[0]
    pairs = (
        (conditions.scribble_BNS[0], vectors(tag, "scribbles")),
        (conditions.outline_BNP[0], vectors(tag, "polygons")),
    )
    for own, expected in pairs:
        if CASES[tag]["flip"]:
            assert golden.difference(in_one_order(own[filled]), in_one_order(expected[filled])) < 1e-4
        else:
            assert golden.difference(own[filled], expected[filled]) < PIXEL


@each_case
def test_masks_are_the_released_ones_to_the_pixel(tag: str) -> None:
    masks_NHW = shown(tag).mask_BNHW[0]
    assert masks_NHW.flatten(1).sum(1).tolist() == CASES[tag]["segs_sum"]
    assert zlib.crc32(np.packbits(masks_NHW.numpy()).tobytes()) == int(vectors(tag, "segs_packed"))


@each_case
def test_the_cells_of_the_reference_are_as_many(tag: str) -> None:
    regions_NL = attention_mask.transposed_boxes(shown(tag), CELLS, CELLS)[0]
    assert regions_NL.sum(1).tolist() == CASES[tag]["att_masks_sum"]


@each_case
def test_the_prompt_is_the_released_one(tag: str) -> None:
    case, sample = CASES[tag], FACTS["samples"][int(tag[4])]
    how = Prompts(
        listed="always" if sample["is_det"] else "never",
        count_dup=case["params"].get("count_dups_make_a_sentence", False),
        add_inst_cap_2_global=case["params"].get("add_inst_cap_2_global", False),
    )
    composed = prompt(layout(tag), how) if case["params"]["prob_use_caption"] else ""
    assert composed == case["caption"]


@pytest.mark.parametrize("case", FACTS["sentence"], ids=lambda case: case["counted"])
def test_names_are_listed_and_counted_as_released(case: dict[str, Any]) -> None:
    instances = tuple(Instance(phrase=name) for name in case["names"])
    for count, expected in ((False, case["plain"]), (True, case["counted"])):
        how = Prompts(listed="always", count_dup=count, add_inst_cap_2_global=False)
        assert prompt(Layout(key="k", prompt="", instances=instances), how) == expected


@pytest.mark.parametrize("case", FACTS["to_valid"], ids=lambda case: str(case["args"]))
def test_a_box_ends_at_the_border_where_the_released_one_does(case: dict[str, Any]) -> None:
    *edges, side, least = case["args"]
    is_valid, expected = case["out"]
    inside = geometry.clamp(geometry.from_pixels(*edges, height=side, width=side))
    assert is_valid == (inside.area >= least)
    if is_valid:
        assert np.allclose(np.array(inside) * side, expected)


def test_of_too_many_instances_the_released_ones_are_shown() -> None:
    sample = FACTS["samples"][3]
    places = [anno["bbox"] for anno in sample["annos"]]
    boxes = [geometry.from_pixels(x, y, x + w, y + h, height=SIDE, width=SIDE) for x, y, w, h in places]
    whole = Layout(key="k", prompt="", instances=tuple(Instance(phrase="a", box=box) for box in boxes))
    chosen = torch.tensor([boxes[place] for place in fitting(whole, 2)])
    assert golden.difference(chosen, vectors("case3_flip0", "boxes")) < PIXEL
