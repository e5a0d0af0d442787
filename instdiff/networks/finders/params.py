"""Settings of finders and markers."""

from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from instdiff.schema import Share, Strict


class GroundingDinoParams(Strict):
    """GroundingDINO or MM-GroundingDINO."""

    weights: Path  # a folder of either network (transformers) and its processor
    box_threshold: Share  # of a query's best token; boxes above it are reported
    text_threshold: Share  # of the best token of the phrase that names a box; 0 where each phrase is searched for alone
    together: bool  # whether a picture's phrases share texts ("a cat. a dog."), or each is searched for alone
    nms_iou: Share  # of boxes with one label that overlap more, the less sure goes; 1 keeps all
    texts_at_once: PositiveInt  # pictures with a text each that go through the model together


class Owlv2Params(Strict):
    """OWLv2 or OWL-ViT."""

    weights: Path  # a folder with an Owlv2ForObjectDetection or OwlViTForObjectDetection, and its processor
    template: str  # what is searched for, with {phrase}
    threshold: Share  # of a box's best phrase; boxes above it are reported
    nms_iou: Share  # of boxes with one label that overlap more, the less sure goes; 1 keeps all


class MarkerParams(Strict):
    """SAM or SAM 2."""

    backend: Literal["sam", "sam2"]  # segment-anything's SAM, or SAM 2 of transformers
    weights: Path  # sam: a released .pth file or a folder of ours; sam2: a folder with a Sam2Model and its processor
    max_boxes: PositiveInt  # boxes that are decoded together


class Finders(Strict):
    """Settings of the finders of any phrase."""

    grounding_dino: GroundingDinoParams
    owlv2: Owlv2Params
