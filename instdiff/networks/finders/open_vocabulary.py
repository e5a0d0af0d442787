"""Finders of any phrase, through transformers: GroundingDINO, MM-GroundingDINO and OWLv2.

Each searches for a picture's phrases, drops boxes that no phrase names, and keeps of boxes with one label that overlap
the surer one.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from transformers import AutoProcessor, Owlv2ForObjectDetection, OwlViTForObjectDetection

from instdiff.layouts.geometry import clamp, from_pixels
from instdiff.networks import grounding_dino, loading
from instdiff.networks.device import PLAIN, Place
from instdiff.networks.finders.finder import LabelledBox, Pixels
from instdiff.networks.finders.params import GroundingDinoParams, Owlv2Params
from instdiff.networks.grounding_dino import PhraseBox, without_repeats

OWL = {"owlv2": Owlv2ForObjectDetection, "owlvit": OwlViTForObjectDetection}


class GroundingDinoFinder:
    """Looks for phrases, together in a text or each alone."""

    classes = None

    def __init__(self, params: GroundingDinoParams, where: Place = PLAIN) -> None:
        self._params = params
        self._model = grounding_dino.GroundingDino(
            params.weights, params.box_threshold, params.text_threshold, where.device
        )

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> list[list[LabelledBox]]:
        """The boxes of each picture's phrases, the surest first."""
        texts = self._model.texts if self._params.together else self._model.separate_texts
        boxes_of = self._model.find(pictures, [texts(each) for each in phrases], self._params.texts_at_once)
        return [by_label(boxes, self._params.nms_iou) for boxes in boxes_of]


class Owlv2Finder:
    """Looks for phrases, each a query of its own."""

    classes = None

    def __init__(self, params: Owlv2Params, where: Place = PLAIN) -> None:
        if "{phrase}" not in params.template:
            raise ValueError(f"owlv2: the template {params.template!r} has no place for {{phrase}}")
        self._params = params
        kind = OWL[loading.model_type(params.weights, OWL)]
        self._processor = AutoProcessor.from_pretrained(params.weights, local_files_only=True)
        self._model = loading.from_folder(kind, params.weights)
        self._model.to(where.device)

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> list[list[LabelledBox]]:
        """The boxes of each picture's phrases, the surest first; pictures with the same phrases are seen together."""
        places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, each in enumerate(phrases):
            places[tuple(each)].append(place)
        boxes_of: list[list[LabelledBox]] = [[] for _ in pictures]
        for searched, own in places.items():
            for place, boxes in zip(own, self._boxes([pictures[number] for number in own], searched), strict=True):
                boxes_of[place] = by_label(boxes, self._params.nms_iou)
        return boxes_of

    @torch.no_grad()
    def _boxes(self, pictures: Sequence[Pixels], phrases: Sequence[str]) -> list[list[PhraseBox]]:
        if not phrases:
            return [[] for _ in pictures]
        queries = [self._params.template.replace("{phrase}", phrase) for phrase in phrases]
        inputs = self._processor(
            text=[queries] * len(pictures),
            images=list(pictures),
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
        ).to(self._model.device)
        sizes = [pixels.shape[:2] for pixels in pictures]
        results = self._processor.post_process_grounded_object_detection(
            self._model(**inputs), threshold=self._params.threshold, target_sizes=sizes
        )
        return [
            [
                PhraseBox(phrases[label], clamp(from_pixels(*edges, height=height, width=width)), score)
                for edges, score, label in zip(
                    *(result[name].tolist() for name in ("boxes", "scores", "labels")), strict=True
                )
            ]
            for result, (height, width) in zip(results, sizes, strict=True)
        ]


def by_label(boxes: Iterable[PhraseBox], nms_iou: float) -> list[LabelledBox]:
    """The labelled boxes, the surest first, without those that repeat a surer one with their label."""
    labelled: dict[str, list[PhraseBox]] = defaultdict(list)
    for box in boxes:
        if box.phrase is not None and box.box.area > 0:
            labelled[box.phrase].append(box)
    rest = [
        LabelledBox(label, box.score, box.box)
        for label, own in labelled.items()
        for box in without_repeats(own, nms_iou)
    ]
    return sorted(rest, key=lambda box: -box.score)
