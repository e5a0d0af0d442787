"""One row judged: the table of its instances and every metric, from its inputs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from eval.inputs import ground_truth
from eval.metrics import bootstrap
from eval.metrics.bootstrap import Floats, Metric, Resampled
from eval.scoring import ap_matches, features, instance_table, measures, overlaps, paired
from eval.scoring.columns import SCORES
from eval.scoring.features import Judges
from eval.scoring.headline import HEADLINE, direction
from eval.scoring.row import Inputs, Params
from instdiff.files import atomic, tables


class RowScores(NamedTuple):
    """A judged row: its instances, its metrics, and what a later comparison resamples."""

    instances: pd.DataFrame
    metrics: dict[str, Metric]
    matches: measures.Matches
    of_pictures: pd.DataFrame  # key, metric, value: of every picture that counts for a metric of pictures
    resampled: dict[str, Floats]  # distances of sets -> their value in each resample, the same draws in every row


def table(
    row: str, inputs: Inputs, annotations: instance_table.Records, judges: Judges | None, params: Params
) -> pd.DataFrame:
    """One row an instance, with the columns of SCORES; those that need a judge are empty without one."""
    truth = inputs.truth
    groups = truth.images.set_index("key")["group"]
    instances = truth.instances[["key", "index", "category", "colour", "texture", "box"]].assign(
        row=row,
        group=truth.instances["key"].map(groups),
        area=[
            annotation["area"] / np.prod(inputs.pictures.sizes[annotation["image_id"] - 1])
            for annotation in annotations
        ],
    )
    detections = inputs.detections.in_coco
    parts = [
        instances,
        instance_table.placed(truth, annotations, detections, params.min_score),
        overlaps.of_instances(annotations, detections, inputs.pictures.sizes, params.min_score),
    ]
    if judges is not None:
        features_ND = features.of_crops(truth, inputs.pictures, judges, params)
        parts.append(instance_table.judged(truth, features_ND, judges.judge, params.words, params.templates))
    complete: pd.DataFrame = pd.concat(parts, axis=1).reindex(columns=SCORES.names)
    return complete


def score(row: str, inputs: Inputs, judges: Judges | None, params: Params) -> RowScores:
    """The table of instances and every metric of the row; without judges, those that need detections alone."""
    annotations = ground_truth.coco_annotations(inputs.truth, inputs.pictures.sizes, inputs.detections.classes)
    draws = bootstrap.draws(len(inputs.pictures.keys), params.num_resamples, params.seed)
    scores = table(row, inputs, annotations, judges, params)
    picture = inputs.truth.instances["picture"]
    values = measures.columns(row, scores, params.leak_groups)
    metrics = measures.of_instances(values, picture, draws)
    of_detections, matched = measures.of_detections(inputs, annotations, draws, params)
    metrics |= of_detections
    on_pictures = measures.successes(values, picture, draws.shape[1]) | measures.of_paper(inputs, annotations, params)
    sets: dict[str, Resampled] = {}
    if judges is not None:
        seen = measures.seen(inputs, judges, draws, params)
        on_pictures, sets = on_pictures | seen.values, seen.sets
    metrics |= measures.of_pictures(on_pictures, draws) | {name: distance.metric for name, distance in sets.items()}
    order = [*HEADLINE, *sorted(metrics.keys() - set(HEADLINE))]
    return RowScores(
        scores,
        {name: metrics[name] for name in order if name in metrics},
        matched,
        paired.of_pictures(inputs.pictures.keys, on_pictures),
        {name: distance.values_R for name, distance in sets.items()},
    )


def write(folder: Path, scored: RowScores, source: Mapping[str, object]) -> None:
    """The files of a row, all or none."""
    with atomic.folder(folder) as part:
        tables.write(part / "instances.parquet", scored.instances, SCORES)
        ap_matches.write(part / ap_matches.FILE, scored.matches)
        tables.write(part / paired.PICTURES_FILE, scored.of_pictures, paired.PICTURES)
        tables.write(part / paired.RESAMPLED_FILE, paired.of_resampled(scored.resampled), paired.RESAMPLED)
        values = {name: metric._asdict() | direction(name) for name, metric in scored.metrics.items()}
        (part / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
        (part / "provenance.json").write_text(json.dumps(source, indent=2, sort_keys=True) + "\n")
