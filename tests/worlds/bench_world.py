"""Public benchmarks' files, two pictures each, as their own projects lay them out; and an exact oracle of scenes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from eval_world import DETECT
from numpy.typing import NDArray
from PIL import Image

from eval import detect as eval_detect
from eval.answerers.answerer import Question
from eval.benchmarks import pictures
from eval.benchmarks.case import Case
from eval.benchmarks.judge_outputs import TextDetections
from eval.benchmarks.pictures import ExpectedPicture
from eval.inputs.pictures import digest_of
from eval.inputs.vocabulary import DetectionVocabulary
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.networks.finders.finder import Finder, LabelledBox
from instdiff.work.outcomes import Failure
from instdiff.world import scenes

RLE = {"size": [32, 32], "counts": masks.encode(np.kron(np.eye(2), np.ones((16, 16))).astype(bool)).counts}


def _mig(colours: Sequence[str]) -> dict[str, Any]:
    boxes = ([0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5])
    names = ("dog", "sports ball", "cat")
    segments = [{"bbox": boxes[n], "label": f"a {colour} {names[n]}"} for n, colour in enumerate(colours)]
    caption = "a photo of " + " and ".join(segment["label"] for segment in segments) + " "
    return {"caption": caption, "segment": segments, "image_id": "17"}


def _deig(kind: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "category": "woman" if kind == "person" else "chair",
        "bbox": [0.0, 0.0, 0.5, 0.5],
        "description": f"a {kind} with {' and '.join(metrics)}",
        "relative_area": 0.25,
        "eval_info": {"type": kind, "eval_metrics": metrics},
    }


DEIG = [
    _deig("person", {"color": {"num_colors": 2}}),
    _deig("object", {"color": {"num_colors": 1}}),
    _deig("object", {"material": {"has_material": True}, "texture": {"has_texture": False}}),
    _deig("object", {"material": {"has_material": False}, "texture": {"has_texture": True}}),
    _deig("object", {"material": {"has_material": True}, "texture": {"has_texture": True}}),
]

PAGES: dict[str, dict[str, Any]] = {  # benchmark -> file name -> content
    "coco-mig": {"mig_bench.json": {"0": _mig(["red", "blue"]), "7": _mig(["brown", "white", "black"])}},
    "coco-position": {
        "coco_position.jsonl": {
            str(n): {
                "caption": "a photo of a dog",
                "segment": [
                    {"bbox": [0.1, 0.1, 0.6, 0.6], "label": "a dog"},
                    {"bbox": [0.5, 0.5, 1, 1], "label": "a cat"},
                ],
                "image_id": "1",
            }
            for n in range(2)
        }
    },
    "deig": {
        "deig_bench_coco.json": {
            "results": [
                {"image_id": n, "file_name": f"{n:012d}.jpg", "caption": "people", "instances": DEIG} for n in range(2)
            ]
        }
    },
    "layoutsam": {
        "test.parquet": [
            {
                "image_id": n,
                "file_name": f"sa_{n}.jpg",
                "width": 200,
                "height": 100,
                "global_caption": "a yard",
                "region_captions": "['a dog', 'a ball']",
                "detail_region_captions": "['a brown dog', 'a round ball']",
                "bbox_list": "[[0, 0, 100, 50], [100, 50, 200, 100]]",
            }
            for n in range(2)
        ]
    },
    "denselayout": {
        "test.json": [
            {
                "id": n,
                "height": 64,
                "width": 128,
                "prompt": "a street",
                "annos": [
                    {"bbox": [0, 0, 64, 32], "category_name": "car", "caption": "a red car"},
                    {"bbox": [64, 32, 128, 64], "category_name": "tree", "caption": "tree"},
                ],
            }
            for n in range(2)
        ]
    },
    "overlaybench": {
        f"{split}.json": [
            {
                "image_id": f"{n:08d}",
                "annotation": repr(
                    {
                        "caption": "a cup on a table",
                        "annotations": {
                            "cup": {"bbox": [0, 0, 512, 512], "category": "cup", "local_prompts": "a white cup"},
                            "mug": {"bbox": [256, 256, 768, 768], "category": "cup", "local_prompts": "a red mug"},
                        },
                        "relations": {"(cup, mug)": "the cup stands before the mug"},
                        "valid_overlap": [{"overlap_box": [0, 1]}],
                    }
                ),
            }
            for n in range(2)
        ]
        for split in ("simple", "hard")
    },
    "layoutbench-coco": {
        f"{skill}_layouts_val.json": [
            {
                "caption": "two dogs",
                "file_name": f"{skill}_{n}.png",
                "boxes_normalized": [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]],
                "box_captions": ["dog", "a cat"],
            }
            for n in range(2)
        ]
        for skill in ("count", "size")
    },
    "geneval": {
        "evaluation_metadata.jsonl": [
            {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
            {
                "tag": "colors",
                "include": [{"class": "car", "count": 1, "color": "red"}],
                "exclude": [{"class": "dog", "count": 1}],
                "prompt": "a photo of a red car",
            },
            {
                "tag": "color_attr",
                "include": [
                    {"class": "car", "count": 1, "color": "blue"},
                    {"class": "dog", "count": 1, "color": "green"},
                ],
                "prompt": "a photo of a blue car and a green dog",
            },
        ]
    },
    "t2i-compbench": {
        "color_val.txt": "a green bench and a blue bowl\na red car\n",
        "chunks.json": {"a red car": ["a red car"], "a green bench and a blue bowl": ["a green bench", "a blue bowl"]},
    },
    "sacap": {
        "anno.parquet": [
            {
                "imagename": f"sa_{n}.jpg",
                "image_group": "a",
                "caption": "a yard",
                "segments_info": [{"anno_id": 5, "caption": "a brown dog", "short_caption": "a dog"}],
            }
            for n in range(2)
        ],
        **{
            f"masks/sa_{n}.json": {
                "image": {"width": 32, "height": 32, "image_id": n},
                "annotations": [{"id": 5, "segmentation": RLE}],
            }
            for n in range(2)
        },
    },
}


def write(folder: Path, name: str, pages: Mapping[str, Any] | None = None) -> list[Path]:
    """A benchmark's files; the paths that its reader takes."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "scenes":
        write_scenes(folder, 2)
        return [folder / "images.parquet", folder / "annotated.parquet"]
    for file, content in (PAGES[name] if pages is None else pages).items():
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        match path.suffix:
            case ".parquet":
                pd.DataFrame(content).to_parquet(path)
            case ".jsonl" if isinstance(content, list):
                path.write_text("".join(json.dumps(record) + "\n" for record in content))
            case ".txt":
                path.write_text(content)
            case ".yaml":
                path.write_text(yaml.safe_dump(content))
            case _:
                path.write_text(json.dumps(content))
    return sorted({folder / file if "/" not in file else (folder / file).parent for file in PAGES[name]})


def paint(folder: Path, cases: Sequence[Case], colour: tuple[int, int, int] = (90, 90, 90)) -> Path:
    """A picture of each case, all different, under its key."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases):
        pixels = np.full((min(case.height, 64), min(case.width, 64), 3), colour, np.uint8)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / f"{case.key}.png")
    return folder


def detections_of(**texts: Sequence[tuple[float, ...]]) -> dict[str, TextDetections]:
    """Detections by text, each x0, y0, x1, y1 and a score."""
    return {
        text.replace("_", " "): TextDetections(np.array(rows)[:, :4].reshape(-1, 4), np.array([row[4] for row in rows]))
        for text, rows in texts.items()
    }


def detect(path: Path, finder: Finder, source: str, expected: Sequence[ExpectedPicture]) -> None:
    """Let a finder look for the texts of each picture's own instances."""
    there = pictures.whole(expected)
    own = [tuple(picture.texts) for picture in expected if picture.path is not None]
    classes = tuple(sorted({text for texts in own for text in texts}))
    made_by: dict[str, object] = {"pictures": there.digest, "detector": source}
    eval_detect.write(path, finder, there, DetectionVocabulary(classes, tuple(own)), made_by, DETECT)


# ---- scenes and their oracle --------------------------------------------------------------------------------------


def write_scenes(folder: Path, count: int) -> list[scenes.Scene]:
    """Tables and real pictures of scenes whose instances overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "real").mkdir()
    images, rows, written = [], [], []
    for number in range(count):
        scene = scenes.scene(5, number, "overlapping")
        written.append(scene)
        key = f"scene-{number}"
        height, width = scene.picture.shape[:2]
        images.append(
            {
                "key": key,
                "group": "overlapping",
                "file": f"{key}.png",
                "width": width,
                "height": height,
                "caption": scene.caption,
                "sha256": "",
            }
        )
        rows += [_row(key, index, instance) for index, instance in enumerate(scene.instances)]
        Image.fromarray(scene.picture).save(folder / "real" / f"{key}.png")
    tables.write(folder / "images.parquet", images, IMAGES)
    tables.write(folder / "annotated.parquet", rows, ANNOTATED)
    return written


def _row(key: str, index: int, instance: scenes.SceneInstance) -> dict[str, object]:
    return {
        "key": key,
        "index": index,
        "category": instance.category,
        "box": list(instance.box),
        "score": 1.0,
        "mask": masks.encode(instance.mask).counts,
        "caption": instance.caption,
        "backend": "given",
        "point": list(instance.box.centre),
        "scribble": None,
        "outline": None,
        "colour": instance.colour,
        "texture": instance.texture,
    }


class OracleFinder:
    """The exact oracle as a finder: it knows the scenes by their pixels, and nothing of other pictures."""

    classes = None

    def __init__(self, drawn_scenes: Sequence[scenes.Scene]) -> None:
        self._scenes = {digest_of(scene.picture): scene for scene in drawn_scenes}

    def find(self, pictures: Sequence[NDArray[np.uint8]], texts: Sequence[Sequence[str]]) -> list[list[Any]]:
        seen = []
        for picture, wanted in zip(pictures, texts, strict=True):
            scene = self._scenes.get(digest_of(picture))
            instances = () if scene is None else scene.instances
            seen.append(
                [
                    LabelledBox(instance.category, 1.0, instance.box, instance.mask)
                    for instance in instances
                    if instance.category in wanted
                ]
            )
        return seen


class OracleAnswerer:
    """The exact oracle as an answerer: yes where the scene has an instance of this description at this very place."""

    judge, settings = "oracle", "{}"

    def __init__(self, drawn_scenes: Sequence[scenes.Scene]) -> None:
        self._scenes = {digest_of(scene.picture): scene for scene in drawn_scenes}
        self.num_asked = 0

    def answer(self, images: Sequence[NDArray[np.uint8]], questions: Sequence[Question]) -> list[str | Failure]:
        self.num_asked += len(questions)
        return ["Yes." if self._holds(question) else "No" for question in questions]

    def _holds(self, question: Question) -> bool:
        scene = self._scenes.get(question.picture)
        if scene is None or question.region is None:
            return False
        return any(
            each.caption in question.text and np.allclose(each.box, question.region, atol=1e-5)
            for each in scene.instances
        )
