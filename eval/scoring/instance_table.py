"""The table of instances: what each should be, what was detected of it, what the judge saw in its place.

Every metric over instances is a mean of one of these columns; "which cats failed" is one line of pandas.
Legend: D detections and G instances of one picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.inputs.ground_truth import GroundTruth
from eval.metrics import attributes, clip_score, colour_leak, instance_iou, matching, points_in_mask
from instdiff.layouts.formats import RELEASED
from instdiff.randomness import generator

Floats = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]

ATTRIBUTE_COLUMNS = {"colour": "colour", "texture": "texture", "shape": "category"}  # by judged attribute


def placed(truth: GroundTruth, annotations: Records, detections: Records, min_score: float) -> pd.DataFrame:
    """Overlap with the best detection of the own category, its score, and the share of the strokes covered.

    `annotations` and `detections` in COCO's form; a detection counts from `min_score` on. One row an instance, in their
    order.
    """
    with_masks = truth.has_masks and all("segmentation" in detection for detection in detections)
    detections_of = by_picture(detections, len(truth.images))
    strokes: Records = truth.instances[["point", "scribble"]].to_dict("records")  # type: ignore[assignment]
    tables = []
    for own, own_detections in zip(by_picture(annotations, len(truth.images)), detections_of, strict=True):
        if own:
            tables.append(
                _placed(
                    own,
                    own_detections,
                    [strokes[int(annotation["id"]) - 1] for annotation in own],
                    min_score,
                    with_masks,
                )
            )
    return pd.concat(tables, ignore_index=True)


def paper_pim(truth: GroundTruth, annotations: Records, detections: Records, seed: int) -> pd.DataFrame:
    """Columns `point` and `scribble`, a row a picture: PiM in the paper's form, NaN where a picture has no pair.

    `annotations` and `detections` in COCO's form, with masks. The scribble of an instance is drawn from (seed, key,
    place).
    """
    rows, num_points = [], RELEASED.num_scribble_points
    pairs = zip(by_picture(annotations, len(truth.images)), by_picture(detections, len(truth.images)), strict=True)
    for key, (own, own_detections) in zip(truth.images["key"], pairs, strict=True):
        masked = [
            (place, annotation["segmentation"]) for place, annotation in enumerate(own) if "segmentation" in annotation
        ]
        masks_G, masks_D = [mask for _, mask in masked], _masks(own_detections)
        rles = [(place, matching.run_lengths(mask)) for place, mask in masked]
        points = [points_in_mask.paper_point(rle) for _, rle in rles]
        scribbles = [
            points_in_mask.paper_scribble(rle, num_points, generator(seed, "paper scribble", key, place))
            for place, rle in rles
        ]
        strokes_by_kind = {"point": points, "scribble": scribbles}
        iou_DG = matching.mask_ious(masks_D, masks_G)
        rows.append(
            {
                name: points_in_mask.paper_of_picture(points_in_mask.PictureMasks(masks_G, masks_D, strokes), iou_DG)
                for name, strokes in strokes_by_kind.items()
            }
        )
    return pd.DataFrame(rows)


def judged(
    truth: GroundTruth,
    features_ND: Floats,
    judge: attributes.Judge,
    words: Mapping[str, Sequence[str]],
    templates: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """The judge's word for each attribute of a given box, whether a colour leaked, and the local CLIP score.

    `features_ND` are the judge's of each instance's box.
    Only the attributes that `words` has words of are judged; the columns of the others are empty.
    """
    words = {attribute: choices for attribute, choices in words.items() if choices}
    for attribute in words:
        _check_words(truth.instances[ATTRIBUTE_COLUMNS[attribute]], words[attribute], attribute)
    seen: dict[str, Any] = {}
    for attribute in words:
        directions_WD = attributes.directions(judge, attribute, templates[attribute], words)
        seen[f"judged_{attribute}"] = attributes.judged(features_ND, directions_WD, words[attribute])
    if "colour" in words:
        seen["leak"] = pd.array(_leaks(truth.instances, seen["judged_colour"]), dtype="boolean")
    seen["clip_local"] = clip_score.cosines(features_ND, list(truth.instances["caption"]), judge)
    return pd.DataFrame(seen)


def _leaks(instances: pd.DataFrame, seen: Sequence[str]) -> list[bool | None]:
    own = [None if pd.isna(colour) else colour for colour in instances["colour"]]
    leaks: list[bool | None] = [None] * len(own)
    for members in instances.groupby("picture", sort=False).indices.values():
        leaked = colour_leak.of_picture([own[place] for place in members], [seen[place] for place in members])
        for place, leak in zip(members, leaked, strict=True):
            leaks[place] = leak
    return leaks


def _placed(
    annotations: Records, detections: Records, strokes: Records, min_score: float, with_masks: bool
) -> pd.DataFrame:
    """One picture; columns of masks only where both sides have them, empty for an instance without a mask."""
    same_DG = _column(detections, "category_id")[:, None] == _column(annotations, "category_id")[None, :]
    allowed_DG = same_DG & (_column(detections, "score") >= min_score)[:, None]
    boxes_DG = matching.box_ious(
        _column(detections, "bbox").reshape(-1, 4), _column(annotations, "bbox").reshape(-1, 4)
    )
    scores = [np.nan if best < 0 else detections[best]["score"] for best in matching.best(boxes_DG, allowed_DG)]
    table = {
        "box_iou": instance_iou.of_instances(boxes_DG, allowed_DG),
        "detection_score": scores,
    }
    if not with_masks:
        return pd.DataFrame(table)
    masked = [place for place, annotation in enumerate(annotations) if "segmentation" in annotation]
    instance_masks, detected_masks = _masks([annotations[place] for place in masked]), _masks(detections)
    masks_DG = matching.mask_ious(detected_masks, instance_masks)
    measured = {"mask_iou": instance_iou.of_instances(masks_DG, allowed_DG[:, masked])}
    for stroke in ("point", "scribble"):
        ways = [strokes[place][stroke] for place in masked]
        points = [None if flat is None else np.reshape(flat, (-1, 2)) for flat in ways]
        picture = points_in_mask.PictureMasks(instance_masks, detected_masks, points)
        measured[f"pim_{stroke}"] = points_in_mask.strict(picture, masks_DG, allowed_DG[:, masked])
    return pd.DataFrame(table).join(pd.DataFrame(measured, index=masked))


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


def _check_words(labels: pd.Series, words: Sequence[str], attribute: str) -> None:
    unknown = set(labels.dropna()) - set(words)
    if unknown:
        raise ValueError(f"the judge is asked for the {attribute} {sorted(unknown)[0]!r}, not among {', '.join(words)}")
