"""GroundingDINO as a grounder: boxes for the phrases that a tagger names."""

from collections.abc import Sequence

from data_prep.annotators.grounded import ScoredBox
from data_prep.annotators.tags import DetectorParams, tagger
from instdiff.networks import grounding_dino
from instdiff.networks.device import resolve
from instdiff.work.outcomes import Failure
from instdiff.work.pictures import Picture


class GroundingDino:
    """Finds what the tags name."""

    def __init__(self, params: DetectorParams) -> None:
        self._nms_iou = params.nms_iou
        device = resolve(params.device)
        self._tagger = tagger(params.tags, device)
        self._model = grounding_dino.GroundingDino(params.weights, params.box_threshold, params.text_threshold, device)

    def ground(self, batch: Sequence[Picture]) -> list[list[ScoredBox] | Failure]:
        """What is found in each picture, the surest first, without boxes that repeat another."""
        texts_of = [self._model.texts(tags) for tags in self._tagger.tags(batch)]
        boxes_of = self._model.find([picture.pixels() for picture in batch], texts_of, len(batch))
        return [
            [ScoredBox(*box) for box in grounding_dino.without_repeats(boxes, self._nms_iou)]
            if texts
            else Failure("no_tags", "nothing to look for")
            for boxes, texts in zip(boxes_of, texts_of, strict=True)
        ]
