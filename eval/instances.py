"""The table of instances: what each was asked to be, what was found of it, what the judge saw in its place.

Every metric over instances is a mean of one of these columns; "which cats failed" is one line of pandas.
Legend: D detections and G instances of one picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.ground_truth import GroundTruth
from eval.metrics import attributes, colour_leak, mask_iou, matching, points_in_mask
from eval.pictures import Pictures
from instdiff.geometry import columns, rows
from instdiff.progress import track
from instdiff.schema import Box

Floats = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]

COLUMN_ASKED = {"colour": "colour", "texture": "texture", "shape": "category"}  # by judged attribute


def placed(truth: GroundTruth, given: Records, found: Records, min_score: float) -> pd.DataFrame:
    """Overlap with the best detection of the own category, its score, and the share of the strokes covered.

    `given` and `found` in COCO's form; a detection counts from `min_score` on. One row an instance, in their order.
    """
    found_in = _by_picture(found, len(truth.images))
    strokes: Records = truth.instances[["point", "scribble"]].to_dict("records")  # type: ignore[assignment]
    tables = []
    for own, ones in zip(_by_picture(given, len(truth.images)), found_in, strict=True):
        if own:
            tables.append(_placed(own, ones, [strokes[int(one["id"]) - 1] for one in own], min_score))
    return pd.concat(tables, ignore_index=True)


def judged(
    truth: GroundTruth,
    pictures: Pictures,
    judge: attributes.Judge,
    words: Mapping[str, Sequence[str]],
    templates: Mapping[str, Sequence[str]],
    batch_size: int,
) -> pd.DataFrame:
    """The judge's word for colour, texture and shape of each given box, and whether a neighbour's colour leaked."""
    for attribute, column in COLUMN_ASKED.items():
        _check_words(truth.instances[column], words[attribute], attribute)
    features_ND = crop_features(truth, pictures, judge, batch_size)
    seen = {}
    for attribute in COLUMN_ASKED:
        directions_WD = attributes.directions(judge, attribute, templates[attribute], words)
        seen[f"judged_{attribute}"] = attributes.judged(features_ND, directions_WD, words[attribute])
    leaks = _leaks(truth.instances, seen["judged_colour"])
    return pd.DataFrame(seen | {"leak": pd.array(leaks, dtype="boolean")})


def crop_features(truth: GroundTruth, pictures: Pictures, judge: attributes.Judge, batch_size: int) -> Floats:
    """(N, D): the judge's features of each instance's given box, cut from the picture judged."""
    crops, features = [], []
    boxes = truth.instances.groupby("picture", sort=False)["box"]
    for place, own in track(boxes, boxes.ngroups, "pictures"):
        pixels = pictures.load(int(str(place)))
        height, width = pixels.shape[:2]
        crops += [pixels[rows(Box(*box), height), columns(Box(*box), width)] for box in own]
        if len(crops) >= batch_size:
            features.append(_features(judge, crops))
            crops = []
    if crops:
        features.append(_features(judge, crops))
    return np.concatenate(features)


def picture_features(pictures: Pictures, judge: attributes.Judge, batch_size: int) -> Floats:
    """(I, D): the judge's features of the whole pictures."""
    starts = range(0, len(pictures.keys), batch_size)
    batches = [range(start, min(start + batch_size, len(pictures.keys))) for start in starts]
    return np.concatenate([_features(judge, [pictures.load(place) for place in batch]) for batch in batches])


def _leaks(asked: pd.DataFrame, seen: Sequence[str]) -> list[bool | None]:
    own = [None if pd.isna(colour) else colour for colour in asked["colour"]]
    leaks: list[bool | None] = [None] * len(own)
    for members in asked.groupby("picture", sort=False).indices.values():
        leaked = colour_leak.of_picture([own[place] for place in members], [seen[place] for place in members])
        for place, one in zip(members, leaked, strict=True):
            leaks[place] = one
    return leaks


def _features(judge: attributes.Judge, pictures: Sequence[attributes.Pixels]) -> Floats:
    return np.asarray(judge.image_features(pictures), np.float64)


def _placed(given: Records, found: Records, strokes: Records, min_score: float) -> pd.DataFrame:
    """One picture."""
    same_DG = _column(found, "category_id")[:, None] == _column(given, "category_id")[None, :]
    allowed_DG = same_DG & (_column(found, "score") >= min_score)[:, None]
    boxes_DG = matching.box_ious(_column(found, "bbox").reshape(-1, 4), _column(given, "bbox").reshape(-1, 4))
    given_masks, found_masks = ([one["segmentation"] for one in ones] for ones in (given, found))
    masks_DG = matching.mask_ious(found_masks, given_masks)
    scores = [np.nan if best < 0 else found[best]["score"] for best in matching.best(boxes_DG, allowed_DG)]
    table = {
        "area": [one["area"] / np.prod(one["segmentation"]["size"]) for one in given],
        "box_iou": mask_iou.of_instances(boxes_DG, allowed_DG),
        "mask_iou": mask_iou.of_instances(masks_DG, allowed_DG),
        "detection_score": scores,
    }
    for stroke in ("point", "scribble"):
        points = [None if one[stroke] is None else np.reshape(one[stroke], (-1, 2)) for one in strokes]
        picture = points_in_mask.Picture(given_masks, found_masks, points)
        table[f"pim_{stroke}"] = points_in_mask.strict(picture, masks_DG, allowed_DG)
    return pd.DataFrame(table)


def _by_picture(records: Records, num_pictures: int) -> list[list[Mapping[str, Any]]]:
    split: list[list[Mapping[str, Any]]] = [[] for _ in range(num_pictures)]
    for record in records:
        split[record["image_id"] - 1].append(record)
    return split


def _column(records: Records, field: str) -> Floats:
    return np.array([record[field] for record in records], np.float64)


def _check_words(asked: pd.Series, words: Sequence[str], attribute: str) -> None:
    unknown = set(asked.dropna()) - set(words)
    if unknown:
        raise ValueError(f"the judge is asked for the {attribute} {sorted(unknown)[0]!r}, not among {', '.join(words)}")
