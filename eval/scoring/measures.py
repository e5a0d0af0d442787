"""Every metric of a row, each with its 95% interval over pictures.

n counts what was averaged: instances, or pictures for clip_global, mig_pictures, pim_paper_*, pickscore, hps and
distances of sets. A name
with slashes is a part of the whole: "box_ap50/crowded" on the layouts of that group, "box_ap/category/dog",
"mask_ap/size/small". What the ground truth has no question for, or the detector no answer, is left out.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as coco

from eval.inputs import ground_truth
from eval.metrics import average_precision, bootstrap, clip_score, cmmd, fid, kid, mig, overlap
from eval.metrics.bootstrap import Counts, Floats, Metric, Resampled
from eval.scoring import features, instance_table
from eval.scoring.features import Judges, PreferenceModel
from eval.scoring.row import SCRIBBLE, SEED, DistanceParams, Inputs, Params
from instdiff.randomness import generator

Measured = dict[str, Metric]
Places = NDArray[np.intp]
Matches = dict[str, list[average_precision.CategoryMatches]]  # by kind: box, mask

KINDS: dict[str, average_precision.Kind] = {"box": "bbox", "mask": "segm"}
ALL = "all"  # sizes of instances


class OfPictures(NamedTuple):
    """What is measured on whole pictures: a value each, NaN for one that does not count, and distances of sets."""

    values: dict[str, pd.Series]
    sets: dict[str, Resampled]


def columns(row: str, scores: pd.DataFrame, leak_groups: Collection[str]) -> dict[str, pd.Series]:
    """Metrics that are means over instances: each one's value for every instance, NaN for those that do not count."""
    leak = scores["leak"].astype("Float64")
    if leak_groups:
        leak = leak.where(scores["group"].isin(leak_groups))
    judged = scores["judged_colour"]
    right_N = (scores["colour"].isna() | judged.isna() | (judged == scores["colour"])).to_numpy(bool)
    box_iou_N = scores["box_iou"].to_numpy(np.float64)
    values: dict[str, pd.Series] = {
        "mask_miou": scores["mask_iou"],
        "box_miou": scores["box_iou"],
        "overlap_miou": scores["overlap_iou"],
        "pim": scores["pim_scribble" if row.partition(SEED)[0].endswith(SCRIBBLE) else "pim_point"],
        "pim_point": scores["pim_point"],
        "pim_scribble": scores["pim_scribble"],
        "colour_leak": leak,
        "clip_local": scores["clip_local"],
        "mig_success": pd.Series(mig.of_instances(box_iou_N, right_N).astype(np.float64)),
        "mig_miou": pd.Series(mig.ious(box_iou_N, right_N)),
    }
    for stratum in overlap.STRATA:
        values[f"box_miou/overlap/{stratum}"] = scores["box_iou"].where(scores["overlap"] == stratum)
    for attribute, column in instance_table.ATTRIBUTE_COLUMNS.items():
        judged = scores[f"judged_{attribute}"]
        right = (judged == scores[column]).astype("Float64")
        values[f"{attribute}_accuracy"] = right.where(scores[column].notna() & judged.notna())
    return {name: column.astype("Float64") for name, column in values.items()}


def of_instances(values: Mapping[str, pd.Series], picture: pd.Series, draws: Counts) -> Measured:
    """Means over instances, without metrics that no instance counts for; `values` as `columns` gives them."""
    return {name: _mean(column, picture, draws) for name, column in values.items() if column.notna().any()}


def successes(values: Mapping[str, pd.Series], picture: pd.Series, num_pictures: int) -> dict[str, pd.Series]:
    """Whether all instances of a picture succeed, for each picture that has any; NaN for the others."""
    succeeded_N = values["mig_success"].to_numpy(bool)
    of_counted = pd.Series(mig.of_pictures(succeeded_N, picture.to_numpy(np.int64), num_pictures))
    return {"mig_pictures": of_counted}


def of_pictures(values: Mapping[str, pd.Series], draws: Counts) -> Measured:
    """Means over pictures, without what no picture has a value of."""
    places = pd.Series(range(draws.shape[1]))
    return {name: _mean(column, places, draws) for name, column in values.items() if column.notna().any()}


def of_detections(
    inputs: Inputs, annotations: instance_table.Records, draws: Counts, params: Params
) -> tuple[Measured, Matches]:
    """Average precision and recall of boxes and masks (whole, by size, category, group of layouts); what they count."""
    images = ground_truth.coco_images(inputs.pictures.sizes)
    categories = ground_truth.coco_categories(inputs.detections.classes)
    detections = inputs.detections.in_coco
    few = draws[: params.num_resamples_parts]
    areas = {ALL: average_precision.ANY_AREA, **params.sizes}
    metrics: Measured = {}
    matches: Matches = {}
    for name, kind in KINDS.items():
        if kind == "segm" and not inputs.has_masks:
            continue
        wanted = annotations if kind == "bbox" else _without_masks_ignored(annotations, inputs.pictures.sizes)
        matched = average_precision.matched_by_area(images, categories, wanted, detections, kind, areas)
        whole = matches[name] = matched.pop(ALL)
        metrics |= {f"{name}_{part}": metric for part, metric in average_precision.metrics(whole, draws).items()}
        parts = {f"size/{size}": of_categories for size, of_categories in matched.items()}
        parts |= {
            f"category/{inputs.detections.classes[matches_of_category.category - 1]}": [matches_of_category]
            for matches_of_category in whole
        }
        for part, of_categories in parts.items():
            if any(matches_of_category.instances_I.any() for matches_of_category in of_categories):
                metrics[f"{name}_ap/{part}"] = average_precision.metrics(of_categories, few)["ap"]
        if name == "box":
            metrics |= _of_groups(inputs, whole, params)
    return metrics, matches


def _without_masks_ignored(
    annotations: instance_table.Records, sizes: Sequence[tuple[int, int]]
) -> list[dict[str, object]]:
    """The annotations for mask AP: an instance without a mask becomes a crowd region, its box, which is not counted."""
    prepared = []
    for annotation in map(dict, annotations):
        if "segmentation" not in annotation:
            x, y, width, height = annotation["bbox"]
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            (inside,) = coco.frPyObjects([corners], *sizes[annotation["image_id"] - 1])
            annotation |= {"segmentation": inside, "iscrowd": 1}
        prepared.append(annotation)
    return prepared


def of_paper(inputs: Inputs, annotations: instance_table.Records, params: Params) -> dict[str, pd.Series]:
    """PiM in the paper's form for each picture; NaN where it has no pair."""
    if not inputs.has_masks:
        return {}
    table = instance_table.paper_pim(inputs.truth, annotations, inputs.detections.in_coco, params.seed)
    return {f"pim_paper_{stroke}": table[stroke] for stroke in ("point", "scribble")}


def seen(inputs: Inputs, judges: Judges, draws: Counts, params: Params) -> OfPictures:
    """The global CLIP score and the preferences where there are prompts, distances where there are real pictures."""
    own_ID = features.of_pictures(inputs.pictures, judges.judge, judges, params)
    values: dict[str, pd.Series] = {}
    prompts = inputs.truth.images["caption"]
    written = np.flatnonzero(prompts.str.strip().astype(bool))
    if len(written):
        texts = list(prompts.iloc[written])
        cosines = clip_score.cosines(own_ID[written], texts, judges.judge)
        values["clip_global"] = _at(written, cosines, len(prompts))
        for name, preference in judges.preferences.items():
            liked = preferred(inputs, preference, written, texts, params.batch_size)
            values[name] = _at(written, liked, len(prompts))
    if inputs.real is None:
        return OfPictures(values, {})
    if judges.features is not judges.judge:
        own_ID = features.of_pictures(inputs.pictures, judges.features, judges, params)
    real_ID = features.of_pictures(inputs.real, judges.features, judges, params)
    sets = of_sets(own_ID, real_ID, draws, params.sets, params.seed)
    few = draws[: params.sets.num_resamples]
    for name, extractor in judges.beside.items():
        distance = cmmd.metric if name == "cmmd" else fid.metric
        both = [features.of_pictures(each, extractor, judges, params, name) for each in (inputs.pictures, inputs.real)]
        sets[name] = distance(both[0], both[1], few)
    return OfPictures(values, sets)


def preferred(
    inputs: Inputs, preference: PreferenceModel, places: Places, prompts: Sequence[str], batch_size: int
) -> Floats:
    """(N,): the preference for each of these pictures and its prompt."""
    starts = range(0, len(places), batch_size)
    return np.concatenate(
        [
            preference.scores(
                [inputs.pictures.load(int(place)) for place in places[start : start + batch_size]],
                prompts[start : start + batch_size],
            )
            for start in starts
        ]
    )


def _at(places: Places, values: Floats, count: int) -> pd.Series:
    """The values at their places among `count`, NaN elsewhere."""
    whole = np.full(count, np.nan)
    whole[places] = values
    return pd.Series(whole)


def of_sets(own_ID: Floats, real_ID: Floats, draws: Counts, recipe: DistanceParams, seed: int) -> dict[str, Resampled]:
    """Frechet and kernel distance to the real pictures."""
    rng = generator(seed, "kid")
    return {
        "fid": fid.metric(own_ID, real_ID, draws[: recipe.num_resamples]),
        "kid": kid.metric(own_ID, real_ID, recipe.kid_subsets, recipe.kid_subset_size, rng),
    }


def _of_groups(inputs: Inputs, matched: list[average_precision.CategoryMatches], params: Params) -> Measured:
    """Box AP50 of each group of layouts."""
    metrics = {}
    groups = inputs.truth.images.groupby("group", sort=True).indices
    for group, members in groups.items() if len(groups) > 1 else ():
        chosen_I = np.zeros(len(inputs.pictures.keys), bool)
        chosen_I[members] = True
        if any(matches_of_category.instances_I[chosen_I].any() for matches_of_category in matched):
            draws = bootstrap.draws(len(members), params.num_resamples_parts, params.seed)
            metrics[f"box_ap50/{group}"] = average_precision.metrics(matched, draws, chosen_I)["ap50"]
    return metrics


def _mean(values: pd.Series, picture: pd.Series, draws: Counts) -> Metric:
    """Mean of what is there, resampled by picture."""
    there = values.notna().to_numpy(bool)
    return bootstrap.mean(values[there].to_numpy(np.float64), picture[there].to_numpy(np.int64), draws)
