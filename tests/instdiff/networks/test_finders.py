"""Finders: every label is a phrase that was looked for, batches change nothing, masks are the marker's."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import eval_world
import numpy as np
import pandas as pd
import pytest
import tiny_models
import yaml

from eval import detect, finder_options
from eval.inputs import detections, pictures, vocabulary
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts.columns import IMAGES
from instdiff.networks.finders import marked
from instdiff.networks.finders.closed import ClosedFinder
from instdiff.networks.finders.finder import Finder, LabelledBox, Pixels
from instdiff.networks.finders.open_vocabulary import GroundingDinoFinder, Owlv2Finder, by_label
from instdiff.networks.finders.params import GroundingDinoParams, MarkerParams, Owlv2Params
from instdiff.networks.grounding_dino import PhraseBox
from instdiff.schema import Box

PHRASES = ("red circle", "blue square", "triangle")
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (*size, 3), np.uint8) for size in ((64, 64), (48, 80), (64, 64))]


def dino_params(weights: Path, **changes: Any) -> GroundingDinoParams:
    values = {"box_threshold": 0.5, "text_threshold": 0.4, "together": True, "nms_iou": 0.5, "texts_at_once": 2}
    return GroundingDinoParams.model_validate({"weights": weights, **values, **changes})


def owl_params(weights: Path, **changes: Any) -> Owlv2Params:
    values = {"weights": weights, "template": "a {phrase}", "threshold": 0.1, "nms_iou": 0.5}
    return Owlv2Params.model_validate(values | changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("finders")
    return {
        name: getattr(tiny_models, name)(root / name)
        for name in ("grounding_dino", "mm_grounding_dino", "owlv2", "sam2")
    }


FINDERS: dict[str, Callable[[dict[str, Path]], Finder]] = {
    "grounding_dino": lambda folders: GroundingDinoFinder(dino_params(folders["grounding_dino"])),
    "each phrase alone": lambda folders: GroundingDinoFinder(dino_params(folders["grounding_dino"], together=False)),
    "mm_grounding_dino": lambda folders: GroundingDinoFinder(
        dino_params(folders["mm_grounding_dino"], box_threshold=0.0, text_threshold=0.0)
    ),
    "owlv2": lambda folders: Owlv2Finder(owl_params(folders["owlv2"], threshold=0.0)),
}


@pytest.mark.parametrize("name", FINDERS)
def test_labels_are_of_the_pictures_own_phrases_and_a_batch_finds_what_one_picture_does(
    folders: dict[str, Path], name: str
) -> None:
    finder = FINDERS[name](folders)
    assert finder.classes is None
    searched = [PHRASES, PHRASES[:1], ()]
    together = finder.find(PICTURES, searched)
    assert sum(map(len, together)) > 2 and not together[2]
    for pixels, phrases, seen in zip(PICTURES, searched, together, strict=True):
        assert {detection.category for detection in seen} <= set(phrases)
        assert [detection.score for detection in seen] == sorted((detection.score for detection in seen), reverse=True)
        assert all(
            detection.mask is None and detection.box.area > 0 and 0 <= min(detection.box) <= max(detection.box) <= 1
            for detection in seen
        )
        (alone,) = finder.find([pixels], [phrases])
        assert [detection.category for detection in alone] == [detection.category for detection in seen]
        assert np.allclose([detection.box for detection in alone], [detection.box for detection in seen], atol=1e-4)


def test_owlv2_asks_for_each_phrase_in_its_template_and_cuts_what_is_longer_than_it_reads(
    folders: dict[str, Path],
) -> None:
    with pytest.raises(ValueError, match=r"owlv2: the template 'a thing' has no place for \{phrase\}"):
        Owlv2Finder(owl_params(folders["owlv2"], template="a thing"))
    asked: list[list[list[int]]] = []
    searched = ("ring", "redcircleonthebluesquare")
    for template in ("{phrase}", "a {phrase}"):
        finder = Owlv2Finder(owl_params(folders["owlv2"], template=template))
        finder._model.register_forward_pre_hook(
            lambda _, __, options: asked.append(options["input_ids"].tolist()), with_kwargs=True
        )
        finder.find(PICTURES[:1], [searched])
    (plain, plain_long), (short, long) = asked
    assert [len(ids) for ids in (plain, plain_long, short, long)] == [16] * 4
    assert short[:6] == [plain[0], finder._processor.tokenizer.convert_tokens_to_ids("a</w>"), *plain[1:5]]
    assert plain_long[-1] == long[-1] == plain[5]  # what ends a text


def test_a_repeat_goes_only_where_the_surer_box_has_the_same_label() -> None:
    box, near = Box(0, 0, 0.5, 0.5), Box(0, 0, 0.5, 0.45)
    boxes = [PhraseBox("a", box, 0.6), PhraseBox("a", near, 0.9), PhraseBox("b", box, 0.7), PhraseBox(None, box, 1.0)]
    assert by_label(boxes, 0.5) == [LabelledBox("a", 0.9, near), LabelledBox("b", 0.7, box)]
    assert len(by_label(boxes, 1.0)) == 3
    assert by_label([PhraseBox("a", Box(0.5, 0.5, 0.5, 0.9), 1.0)], 1.0) == []  # outside: nothing is left of it


def test_a_closed_finder_reports_what_was_asked_for_and_refuses_what_it_does_not_know() -> None:
    finder = ClosedFinder(eval_world.PixelDetector())
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[2:10, 2:10], pixels[20:28, :] = (200, 0, 0), (0, 0, 200)
    assert [detection.category for detection in finder.find([pixels], [("square", "bar")])[0]] == ["square", "bar"]
    assert [detection.category for detection in finder.find([pixels], [("bar",)])[0]] == ["bar"]
    with pytest.raises(ValueError, match="does not know 'kite'; it knows square, bar"):
        finder.find([pixels], [("kite",)])


class Halves:
    """A marker that fills the upper half of each box, and a finder of two boxes in a bright picture."""

    classes = None

    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Any, float]]]:
        assert all(boxes)  # SAM cannot take none
        masks = []
        for own, picture in zip(boxes, pixels, strict=True):
            height, width = picture.shape[:2]
            rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
            masks.append(
                [
                    ((rows > y0) & (rows < (y0 + y1) / 2) & (columns > x0) & (columns < x1), 0.5)
                    for x0, y0, x1, y1 in own
                ]
            )
        return masks

    def find(self, pixels: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> list[list[LabelledBox]]:
        two = [LabelledBox("a", 0.9, Box(0, 0, 0.5, 1)), LabelledBox("b", 0.8, Box(0.5, 0, 1, 1))]
        return [two if picture.any() else [] for picture in pixels]


def test_every_box_gets_its_own_mask_and_a_picture_without_boxes_is_not_shown_to_the_marker() -> None:
    bright, dark = np.full((4, 6, 3), 9, np.uint8), np.zeros((4, 6, 3), np.uint8)
    detections = marked.MarkedFinder(Halves(), Halves()).find([dark, bright, dark], [()] * 3)
    assert [len(of_picture) for of_picture in detections] == [0, 2, 0]
    left, right = (detection.mask for detection in detections[1])
    assert left is not None and right is not None
    assert left[:2, :3].all() and left.sum() == right.sum() == 6 and not (left & right).any()


def test_sam_2_gives_boxes_masks_of_the_pictures_size(folders: dict[str, Path]) -> None:
    marker = marked.load(MarkerParams(backend="sam2", weights=folders["sam2"], max_boxes=8))
    finder = marked.MarkedFinder(GroundingDinoFinder(dino_params(folders["grounding_dino"])), marker)
    detections = finder.find(PICTURES, [PHRASES] * 3)
    assert any(detections)
    for pixels, own in zip(PICTURES, detections, strict=True):
        assert all(detection.mask is not None and detection.mask.shape == pixels.shape[:2] for detection in own)


def chosen(**changes: Any) -> detect.Params:
    return detect.Params.model_validate(eval_world.DETECT.model_dump() | changes)


def test_an_open_finder_looks_for_all_categories_or_for_each_pictures_own() -> None:
    instances = pd.DataFrame({"key": ["a", "b", "b"], "category": ["square", "bar", "square"]})
    every = vocabulary.vocabulary(None, ["a", "b", "c"], instances, chosen(phrases="all"))
    assert every == (("bar", "square"), (("bar", "square"),) * 3)
    own = vocabulary.vocabulary(None, ["a", "b", "c"], instances, chosen(phrases="own"))
    assert own == (("bar", "square"), (("square",), ("bar", "square"), ()))
    closed = vocabulary.vocabulary(("x", "y"), ["a", "b"], instances, chosen())
    assert closed == (("x", "y"), (("x", "y"),) * 2)
    with pytest.raises(ValueError, match="nothing to look for"):
        vocabulary.vocabulary(None, ["a"], instances.assign(category=None), chosen())


def test_whatever_decides_detections_is_in_the_digest_and_nothing_else(tmp_path: Path) -> None:
    for name in ("yolo", "dino", "sam", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    finders = eval_world.DETECT.finders.model_dump()
    dino, owl = finders["grounding_dino"], finders["owlv2"]
    finders = {"grounding_dino": dino | {"weights": tmp_path / "dino"}, "owlv2": owl | {"weights": tmp_path / "other"}}
    sam = {"backend": "sam", "weights": tmp_path / "sam", "max_boxes": 9}

    def digest(**changes: Any) -> str:
        return chosen(**{"finder": "grounding_dino", "finders": finders} | changes).digest(tmp_path / "yolo")

    def with_dino(**changes: Any) -> dict[str, Any]:
        return {"finders": finders | {"grounding_dino": finders["grounding_dino"] | changes}}

    different = [
        {},
        {"finder": "yolo"},
        {"finder": "owlv2"},
        {"phrases": "own"},
        {"marker": sam},
        {"marker": sam | {"backend": "sam2"}},
        {"finder": "yolo", "marker": sam},
        with_dino(box_threshold=0.5),
        with_dino(text_threshold=0.5),
        with_dino(together=False),
        with_dino(nms_iou=0.1),
        with_dino(weights=tmp_path / "other"),
    ]
    assert len({digest(**changes) for changes in different}) == len(different)
    moved = finders["owlv2"] | {"threshold": 0.9}
    assert digest(finders=finders | {"owlv2": moved}) == digest()  # a finder that was not chosen decides nothing
    with pytest.raises(ValueError, match="gone: no weights there"):
        digest(**with_dino(weights=tmp_path / "gone"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--finder-weights", "x"], "yolo's folder is given by --detector"),
        (["--phrases", "own"], "yolo reports all of its classes"),
        (["--marker", "sam"], "needs --marker-weights"),
        (["--marker-weights", "x"], "needs --marker, sam or sam2"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: list[str], sentence: str) -> None:
    options = argparse.ArgumentParser()
    finder_options.add_options(options)
    with pytest.raises(ValueError, match=sentence):
        finder_options.with_options(eval_world.DETECT, options.parse_args(words))


@pytest.mark.parametrize("finder", ["grounding_dino", "owlv2"])
def test_the_command_writes_a_file_that_evaluation_reads(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: str
) -> None:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {}, 90)
    values: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())
    values["detect"]["finders"]["grounding_dino"] |= {"box_threshold": 0.0, "text_threshold": 0.0}
    values["detect"]["finders"]["owlv2"] |= {"threshold": 0.0}
    values["score"] |= {"num_resamples": 9, "num_resamples_parts": 3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    shared = ["--pictures", "drawn", "--layouts", "annotated.parquet", "--images", "images.parquet"]
    marker = ["--marker", "sam2", "--marker-weights", str(folders["sam2"])]
    by = ["--finder", finder, "--finder-weights", str(folders[finder]), *marker]
    command.main(["detect", *shared, *by, "--out", "found.json"])
    judged = pictures.find(tmp_path / "drawn", tables.read(tmp_path / "images.parquet", IMAGES), None)
    detected = detections.read(tmp_path / "found.json", judged.sizes)
    assert detected.classes == ("bar", "square")
    assert detected.annotations and detected.has_masks
    assert detected.provenance["settings"]["finder"] == finder
    command.main(["evaluate", *shared, "--detections", "found.json", "--row", "box", "--out", "scores"])
    command.main(["evaluate", *shared, *by, "--row", "here", "--out", "scores"])
    scores = [json.loads((tmp_path / "scores" / row / "metrics.json").read_text()) for row in ("box", "here")]
    assert scores[0] == scores[1]
