"""score: judge the pictures of one row, instance by instance.   detections + annotated + pictures -> scores

Writes instances.parquet (one row an instance, schema SCORES), metrics.json (name -> value, n, low, high; see
eval/scoring/measures.py), matches.parquet (see eval/scoring/ap_matches.py) and provenance.json. A row without any
instance is an error. `annotated` may be COCO's annotations, as `instdiff coco` writes them, of the same pictures.
"""

from pathlib import Path

from eval.inputs import coco, ground_truth
from eval.inputs import detections as detection_files
from eval.inputs import pictures as picture_folders
from eval.scoring.features import load_judges
from eval.scoring.headline import HEADLINE
from eval.scoring.row import Inputs, Params, checked, sources
from eval.scoring.score_row import score, write
from instdiff import stage
from instdiff.files import provenance


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
    is_table = annotated.is_dir() or annotated.suffix == ".parquet"
    truth = ground_truth.load(images, annotated) if is_table else coco.ground_truth(annotated)
    judged = picture_folders.find(pictures, truth.images, params.square)
    detected = detection_files.read(detections, judged.sizes)
    inputs = checked(row, Inputs(truth, judged, picture_folders.find(real, truth.images, None), detected))
    judges = load_judges(judge, provenance.of_folder(judge), params)
    scored = score(row, inputs, judges, params)
    write(scores, scored, sources(row, inputs, judges.digest, params))
    return {"pictures": len(truth.images), "instances": len(scored.instances)} | {
        name: scored.metrics[name].value for name in HEADLINE if name in scored.metrics
    }


if __name__ == "__main__":
    stage.main(run)
