"""score: judge the pictures of one row, instance by instance.   detections + annotated + pictures -> scores

Writes instances.parquet (one row an instance, schema SCORES), metrics.json (name -> value, n, low, high) and
provenance.json. n counts what was averaged: instances, for fid pictures. A name with a slash is a part of the
whole ("box_ap50/crowded" on the layouts of that group). A metric that the ground truth has no question for (no
instance has a colour) is left out; a row without any instance is an error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eval import detections as detected
from eval import ground_truth, instances, provenance
from eval import pictures as shown
from eval.metrics import average_precision, bootstrap, frechet
from eval.metrics.attributes import Judge
from eval.metrics.bootstrap import Counts, Metric
from instdiff import atomic, stage, tables
from instdiff.schema import SCORES, Strict

REAL = "real"
SCRIBBLE = "scribble"  # the row whose headline PiM is that of scribbles; the others' is that of points
HEADLINE = (
    "box_ap50",
    "mask_ap50",
    "mask_miou",
    "pim",
    "colour_accuracy",
    "texture_accuracy",
    "shape_accuracy",
    "colour_leak",
    "fid",
)
KINDS: dict[str, average_precision.Kind] = {"box": "bbox", "mask": "segm"}


class Params(Strict):
    """Values of the stage."""

    seed: int
    square: int | None  # as in detect
    min_score: float  # of a detection that counts for an instance; average precision uses all of them
    num_resamples: int  # bootstrap draws
    num_resamples_fid: int  # the same for fid, which costs more
    leak_groups: tuple[str, ...]  # groups of layouts that colour leak is measured on; empty: all
    words: dict[str, tuple[str, ...]]  # of colour, texture, shape
    templates: dict[str, tuple[str, ...]]  # phrases an attribute's words are judged by, e.g. "a {colour} {shape}"
    batch_size: int  # crops or pictures the judge sees at once


class Inputs(NamedTuple):
    """What a row is judged on."""

    truth: ground_truth.GroundTruth
    pictures: shown.Pictures
    real: shown.Pictures
    found: detected.Detections


def checked(row: str, inputs: Inputs) -> Inputs:
    """ValueError for real pictures in another row, others in the row `real`, and detections of other pictures."""
    if row != REAL:
        shown.refuse_real(inputs.pictures, inputs.real)
    elif inputs.pictures.digest != inputs.real.digest:
        raise ValueError("row 'real' must judge the real pictures, and these are others")
    if inputs.found.provenance.get("pictures") != inputs.pictures.digest:
        raise ValueError("the detections were made on other pictures than these: run detect again")
    return inputs


def table(row: str, inputs: Inputs, given: instances.Records, judge: Judge, params: Params) -> pd.DataFrame:
    """One row an instance, with the columns of SCORES."""
    truth = inputs.truth
    groups = truth.images.set_index("key")["group"]
    asked = truth.instances[["key", "index", "category", "colour", "texture"]].assign(
        row=row, group=truth.instances["key"].map(groups)
    )
    found = instances.placed(truth, given, inputs.found.in_coco(), params.min_score)
    seen = instances.judged(truth, inputs.pictures, judge, params.words, params.templates, params.batch_size)
    complete: pd.DataFrame = pd.concat([asked, found, seen], axis=1)[SCORES.names]
    return complete


def of_instances(
    row: str, scores: pd.DataFrame, picture: pd.Series, draws: Counts, params: Params
) -> dict[str, Metric]:
    """Means over instances; those that no instance counts for are left out."""
    leak = scores["leak"].astype("Float64")
    if params.leak_groups:
        leak = leak.where(scores["group"].isin(params.leak_groups))
    pim = "pim_scribble" if row == SCRIBBLE else "pim_point"
    values: dict[str, pd.Series] = {
        "mask_miou": scores["mask_iou"],
        "box_miou": scores["box_iou"],
        "pim": scores[pim],
        "pim_point": scores["pim_point"],
        "pim_scribble": scores["pim_scribble"],
        "colour_leak": leak,
    }
    for attribute, column in instances.COLUMN_ASKED.items():
        right = (scores[f"judged_{attribute}"] == scores[column]).astype("Float64")
        values[f"{attribute}_accuracy"] = right.where(scores[column].notna())
    return {
        name: bootstrap.mean(
            column[column.notna()].to_numpy(np.float64), picture[column.notna()].to_numpy(np.int64), draws
        )
        for name, column in values.items()
        if column.notna().any()
    }


def of_sets(inputs: Inputs, given: instances.Records, draws: Counts, params: Params) -> dict[str, Metric]:
    """Average precision and recall of boxes and masks, and box AP50 of each group of layouts."""
    images = ground_truth.coco_images(inputs.pictures.sizes)
    categories = ground_truth.coco_categories(inputs.found.classes)
    found = inputs.found.in_coco()
    matched: dict[str, list[average_precision.Matched]] = {}
    metrics: dict[str, Metric] = {}
    for name, kind in KINDS.items():
        matched[name] = average_precision.matched(images, categories, given, found, kind)
        metrics |= {f"{name}_{part}": one for part, one in average_precision.metrics(matched[name], draws).items()}
    for group, members in inputs.truth.images.groupby("group", sort=True).indices.items():
        chosen_I = np.zeros(len(images), bool)
        chosen_I[members] = True
        if any(one.instances_I[chosen_I].any() for one in matched["box"]):
            draws_of = bootstrap.draws(len(members), params.num_resamples, params.seed)
            metrics[f"box_ap50/{group}"] = average_precision.metrics(matched["box"], draws_of, chosen_I)["ap50"]
    return metrics


def fid(inputs: Inputs, judge: Judge, draws: Counts, params: Params) -> Metric:
    """Frechet distance to the real pictures in the judge's features."""
    own, real = (instances.picture_features(one, judge, params.batch_size) for one in (inputs.pictures, inputs.real))
    return frechet.metric(own, real, draws[: params.num_resamples_fid])


def score(row: str, inputs: Inputs, judge: Judge, params: Params) -> tuple[pd.DataFrame, dict[str, Metric]]:
    """The table of instances and every metric of the row."""
    given = ground_truth.coco_annotations(inputs.truth, inputs.pictures.sizes, inputs.found.classes)
    draws = bootstrap.draws(len(inputs.pictures.keys), params.num_resamples, params.seed)
    scores = table(row, inputs, given, judge, params)
    metrics = of_instances(row, scores, inputs.truth.instances["picture"], draws, params)
    metrics |= of_sets(inputs, given, draws, params)
    metrics["fid"] = fid(inputs, judge, draws, params)
    order = [*HEADLINE, *sorted(metrics.keys() - set(HEADLINE))]
    return scores, {name: metrics[name] for name in order if name in metrics}


def sources(row: str, inputs: Inputs, judge: str, params: Params) -> dict[str, object]:
    """What the numbers come from: hashes of everything judged, judging or held against; `judge` is the judge's."""
    return {
        "row": row,
        "pictures": inputs.pictures.digest,
        "real_pictures": inputs.real.digest,
        **inputs.truth.digests,
        "detections": inputs.found.digest,
        "detected_by": dict(inputs.found.provenance),
        "judge": judge,
        "settings": params.model_dump(mode="json"),
        "versions": provenance.versions(),
    }


def write(folder: Path, scores: pd.DataFrame, metrics: Mapping[str, Metric], source: Mapping[str, object]) -> None:
    """The three files of a row, all or none."""
    with atomic.folder(folder) as part:
        tables.write(part / "instances.parquet", scores, SCORES)
        values = {name: metric._asdict() for name, metric in metrics.items()}
        (part / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
        (part / "provenance.json").write_text(json.dumps(source, indent=2, sort_keys=True) + "\n")


def run(
    *,
    pictures: Path,
    real: Path,
    images: Path,
    annotated: Path,
    detections: Path,
    judge: Path,
    scores: Path,
    row: str,
    params: Params,
) -> dict[str, float]:
    """Detections + annotated + pictures -> scores"""
    from instdiff.foundation import clip

    truth = ground_truth.load(images, annotated)
    judged = shown.find(pictures, truth.images, params.square)
    found = detected.read(detections, judged.sizes)
    inputs = checked(row, Inputs(truth, judged, shown.find(real, truth.images, None), found))
    table_of, metrics = score(row, inputs, clip.load(judge), params)
    write(scores, table_of, metrics, sources(row, inputs, provenance.of_folder(judge), params))
    return {"pictures": len(truth.images), "instances": len(table_of)} | {
        name: metrics[name].value for name in HEADLINE if name in metrics
    }


if __name__ == "__main__":
    stage.main(run)
