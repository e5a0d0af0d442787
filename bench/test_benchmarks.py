"""Public benchmarks at their full size: 800 layouts of COCO-MIG, 5,000 of LayoutSAM-Eval, all judges' words kept.

Run with `pytest -s bench/test_benchmarks.py`.
"""

import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from eval.answerers.store import ANSWERS
from eval.benchmarks import layoutsam, pictures, registry
from eval.benchmarks.judge_outputs import MASKS
from eval.inputs import detections
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts import masks

NUM_MIG, NUM_SAM = 800, 5000
NUM_DISTINCT = 40  # so many pictures differ, the others are links to them
COLOURS = ("red", "blue", "yellow", "green", "black", "white", "brown")


def _paint(path: Path, side: int, rng: np.random.Generator) -> None:
    """A picture that compresses like a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)).resize((side, side))
    grain = rng.normal(0, 4, (side, side, 1))
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path)


def _picture(folder: Path, name: str, number: int, side: int, rng: np.random.Generator) -> Path:
    path = folder / name.format(number)
    if number < NUM_DISTINCT:
        _paint(path, side, rng)
    else:
        path.hardlink_to(folder / name.format(number % NUM_DISTINCT))
    return path


def _box(rng: np.random.Generator) -> list[float]:
    x0, y0 = rng.uniform(0, 0.6, 2)
    width, height = rng.uniform(0.15, 0.4, 2)
    return [float(x0), float(y0), float(x0 + width), float(y0 + height)]


def _timed(words: list[object]) -> None:
    started, cpu = time.perf_counter(), sum(os.times()[:2])
    command.main(list(map(str, words)))
    seconds, used = time.perf_counter() - started, sum(os.times()[:2]) - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{words[2]}: {seconds:.1f} s by the clock, {used:.1f} s of CPU, {peak:.2f} GB at most")


def test_800_layouts_of_coco_mig_are_scored(tmp_path: Path) -> None:
    """Print the time of a score from detections and masks, and the greatest memory."""
    rng = np.random.default_rng(0)
    content = {
        str(n): {
            "caption": "a photo",
            "segment": [
                {"bbox": _box(rng), "label": f"a {rng.choice(COLOURS)} category {rng.integers(75)}"}
                for _ in range(2 + n % 5)
            ],
        }
        for n in range(NUM_MIG)
    }
    file, folder = tmp_path / "mig_bench.json", tmp_path / "drawn"
    file.write_text(json.dumps(content))
    folder.mkdir()
    for number in range(NUM_MIG):
        _picture(folder, "{}.png", number, 512, rng)
    benchmark = registry.load("coco-mig")
    shown = pictures.find(folder, benchmark.read([file]).cases, benchmark)
    there = pictures.whole(shown)
    classes = sorted({text for picture in shown for text in picture.texts})
    records, rows = [], []
    for place, picture in enumerate(shown):
        for index, each in enumerate(picture.case.instances):
            for _ in range(5):
                edges = np.clip(np.array(each.place) + rng.normal(0, 0.03, 4), 0, 1) * 512
                x0, y0, x1, y1 = (float(edge) for edge in edges)
                bbox = [x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0)]
                category = classes.index(each.text) + 1
                records.append(
                    {"image_id": place + 1, "category_id": category, "bbox": bbox, "score": float(rng.random())}
                )
            mask = np.zeros((512, 512), bool)
            x0, y0, x1, y1 = (int(edge * 512) for edge in each.place)
            mask[y0:y1, x0:x1] = True
            mask[y0:y1:29, x0:x1] = False
            counts = masks.encode(mask).counts
            rows.append({"key": picture.name, "index": index, "height": 512, "width": 512, "mask": counts})
    detections.write(tmp_path / "found.json", {"pictures": there.digest, "detector": "none"}, classes, records)
    tables.write(tmp_path / "masks.parquet", rows, MASKS)
    words = ["bench", "score", "coco-mig", file, "--pictures", folder, "--detections", tmp_path / "found.json"]
    _timed([*words, "--masks", tmp_path / "masks.parquet", "--out", tmp_path / "scores"])


def test_5000_layouts_of_layoutsam_with_kept_answers_are_scored(tmp_path: Path) -> None:
    """Print the time of a score from kept answers, and the greatest memory."""
    rng = np.random.default_rng(0)
    folder, rows = tmp_path / "drawn", []
    folder.mkdir()
    for number in range(NUM_SAM):
        path = _picture(folder, "sa_{}.jpg", number, 1024, rng)
        boxes = [[round(edge * 1000) for edge in _box(rng)] for _ in range(3 + number % 3)]
        rows.append(
            {
                "file_name": path.name,
                "width": 1000,
                "height": 1000,
                "global_caption": "a photo",
                "region_captions": repr([f"thing {n}" for n in range(len(boxes))]),
                "detail_region_captions": repr([f"thing {n} of picture {number}" for n in range(len(boxes))]),
                "bbox_list": repr(boxes),
            }
        )
    pd.DataFrame(rows).to_parquet(tmp_path / "test.parquet")
    benchmark = registry.load("layoutsam")
    cases = benchmark.read([tmp_path / "test.parquet"]).cases
    shown = pictures.find(folder, cases, benchmark)
    identities = pictures.identities(shown[:NUM_DISTINCT])
    answers = {}
    for item in shown:
        picture = identities[f"sa_{item.place % NUM_DISTINCT}"]
        for each in item.case.instances:
            for name, template in layoutsam.QUESTIONS.items():
                question = template.replace("{short}", each.short).replace("{detail}", each.detail)
                answer = "Yes" if name == "spatial" or rng.random() < 0.7 else "No"
                answers[picture, json.dumps(list(each.place)), question] = answer
    table = [(*key, "judge", "{}", answer) for key, answer in answers.items()]
    (tmp_path / "answers").mkdir()
    tables.write(tmp_path / "answers" / "all.parquet", pd.DataFrame(table, columns=ANSWERS.names), ANSWERS)
    words = ["bench", "score", "layoutsam", tmp_path / "test.parquet", "--pictures", folder]
    _timed([*words, "--answers", tmp_path / "answers", "--out", tmp_path / "scores"])
