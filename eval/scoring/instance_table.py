"""The table of instances: what each was asked to be, what was found of it, what the judge saw in its place.

Every metric over instances is a mean of one of these columns; "which cats failed" is one line of pandas.
Legend: D detections and G instances of one picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from eval.inputs.ground_truth import GroundTruth
from eval.inputs.pictures import Pictures
from eval.metrics import attributes, clip_score, colour_leak, instance_iou, matching, points_in_mask
from instdiff.formats import RELEASED
from instdiff.layouts.geometry import crop
from instdiff.progress import track
from instdiff.randomness import generator
from instdiff.schema import Box

Floats = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]

COLUMN_ASKED = {"colour": "colour", "texture": "texture", "shape": "category"}  # by judged attribute


class Sight(Protocol):
    """Pictures into features."""

    def image_features(self, pictures: Sequence[attributes.Pixels], /) -> ArrayLike:
        """(N, D)."""
        ...


def placed(truth: GroundTruth, given: Records, found: Records, min_score: float) -> pd.DataFrame:
    """Overlap with the best detection of the own category, its score, and the share of the strokes covered.

    `given` and `found` in COCO's form; a detection counts from `min_score` on. One row an instance, in their order.
    """
    with_masks = truth.has_masks and all("segmentation" in one for one in found)
    found_in = by_picture(found, len(truth.images))
    strokes: Records = truth.instances[["point", "scribble"]].to_dict("records")  # type: ignore[assignment]
    tables = []
    for own, ones in zip(by_picture(given, len(truth.images)), found_in, strict=True):
        if own:
            tables.append(_placed(own, ones, [strokes[int(one["id"]) - 1] for one in own], min_score, with_masks))
    return pd.concat(tables, ignore_index=True)


def paper_pim(truth: GroundTruth, given: Records, found: Records, seed: int) -> pd.DataFrame:
    """Columns `point` and `scribble`, a row a picture: PiM in the paper's form, NaN where a picture has no pair.

    `given` and `found` in COCO's form, with masks. The scribble of an instance is drawn from (seed, key, place).
    """
    rows, num_points = [], RELEASED.num_scribble_points
    pairs = zip(by_picture(given, len(truth.images)), by_picture(found, len(truth.images)), strict=True)
    for key, (own, ones) in zip(truth.images["key"], pairs, strict=True):
        masks_G, masks_D = _masks(own), _masks(ones)
        rles = [matching.run_lengths(one) for one in masks_G]
        points = [points_in_mask.paper_point(rle) for rle in rles]
        scribbles = [
            points_in_mask.paper_scribble(rle, num_points, generator(seed, "paper scribble", key, place))
            for place, rle in enumerate(rles)
        ]
        drawn = {"point": points, "scribble": scribbles}
        iou_DG = matching.mask_ious(masks_D, masks_G)
        rows.append(
            {
                name: points_in_mask.paper_of_picture(points_in_mask.Picture(masks_G, masks_D, strokes), iou_DG)
                for name, strokes in drawn.items()
            }
        )
    return pd.DataFrame(rows)


def judged(
    truth: GroundTruth,
    pictures: Pictures,
    judge: attributes.Judge,
    words: Mapping[str, Sequence[str]],
    templates: Mapping[str, Sequence[str]],
    batch_size: int,
) -> pd.DataFrame:
    """The judge's word for each attribute of a given box, whether a colour leaked, and the local CLIP score.

    Only the attributes that `words` has words of are judged; the columns of the others are empty.
    """
    words = {attribute: known for attribute, known in words.items() if known}
    for attribute in words:
        _check_words(truth.instances[COLUMN_ASKED[attribute]], words[attribute], attribute)
    features_ND = crop_features(truth, pictures, judge, batch_size)
    seen: dict[str, Any] = {}
    for attribute in words:
        directions_WD = attributes.directions(judge, attribute, templates[attribute], words)
        seen[f"judged_{attribute}"] = attributes.judged(features_ND, directions_WD, words[attribute])
    if "colour" in words:
        seen["leak"] = pd.array(_leaks(truth.instances, seen["judged_colour"]), dtype="boolean")
    seen["clip_local"] = clip_score.cosines(features_ND, list(truth.instances["caption"]), judge)
    return pd.DataFrame(seen)


def crop_features(truth: GroundTruth, pictures: Pictures, judge: attributes.Judge, batch_size: int) -> Floats:
    """(N, D): the judge's features of each instance's given box, cut from the picture judged."""
    crops, features = [], []
    boxes = truth.instances.groupby("picture", sort=False)["box"]
    for place, own in track(boxes, boxes.ngroups, "pictures"):
        pixels = pictures.load(int(str(place)))
        crops += [crop(pixels, Box(*box)) for box in own]
        if len(crops) >= batch_size:
            features.append(_features(judge, crops))
            crops = []
    if crops:
        features.append(_features(judge, crops))
    return np.concatenate(features)


def picture_features(pictures: Pictures, sight: Sight, batch_size: int) -> Floats:
    """(I, D): features of the whole pictures."""
    starts = range(0, len(pictures.keys), batch_size)
    batches = [range(start, min(start + batch_size, len(pictures.keys))) for start in starts]
    return np.concatenate([_features(sight, [pictures.load(place) for place in batch]) for batch in batches])


def _leaks(asked: pd.DataFrame, seen: Sequence[str]) -> list[bool | None]:
    own = [None if pd.isna(colour) else colour for colour in asked["colour"]]
    leaks: list[bool | None] = [None] * len(own)
    for members in asked.groupby("picture", sort=False).indices.values():
        leaked = colour_leak.of_picture([own[place] for place in members], [seen[place] for place in members])
        for place, one in zip(members, leaked, strict=True):
            leaks[place] = one
    return leaks


def _features(judge: Sight, pictures: Sequence[attributes.Pixels]) -> Floats:
    return np.asarray(judge.image_features(pictures), np.float64)


def _placed(given: Records, found: Records, strokes: Records, min_score: float, with_masks: bool) -> pd.DataFrame:
    """One picture; columns of masks only where both sides have them."""
    same_DG = _column(found, "category_id")[:, None] == _column(given, "category_id")[None, :]
    allowed_DG = same_DG & (_column(found, "score") >= min_score)[:, None]
    boxes_DG = matching.box_ious(_column(found, "bbox").reshape(-1, 4), _column(given, "bbox").reshape(-1, 4))
    scores = [np.nan if best < 0 else found[best]["score"] for best in matching.best(boxes_DG, allowed_DG)]
    table = {
        "box_iou": instance_iou.of_instances(boxes_DG, allowed_DG),
        "detection_score": scores,
    }
    if not with_masks:
        return pd.DataFrame(table)
    given_masks, found_masks = _masks(given), _masks(found)
    masks_DG = matching.mask_ious(found_masks, given_masks)
    table["mask_iou"] = instance_iou.of_instances(masks_DG, allowed_DG)
    for stroke in ("point", "scribble"):
        points = [None if one[stroke] is None else np.reshape(one[stroke], (-1, 2)) for one in strokes]
        picture = points_in_mask.Picture(given_masks, found_masks, points)
        table[f"pim_{stroke}"] = points_in_mask.strict(picture, masks_DG, allowed_DG)
    return pd.DataFrame(table)


def by_picture(records: Records, num_pictures: int) -> list[list[Mapping[str, Any]]]:
    """COCO's records of each picture, in their order."""
    split: list[list[Mapping[str, Any]]] = [[] for _ in range(num_pictures)]
    for record in records:
        split[record["image_id"] - 1].append(record)
    return split


def _masks(records: Records) -> list[Mapping[str, object]]:
    return [record["segmentation"] for record in records]


def _column(records: Records, field: str) -> Floats:
    return np.array([record[field] for record in records], np.float64)


def _check_words(asked: pd.Series, words: Sequence[str], attribute: str) -> None:
    unknown = set(asked.dropna()) - set(words)
    if unknown:
        raise ValueError(f"the judge is asked for the {attribute} {sorted(unknown)[0]!r}, not among {', '.join(words)}")
