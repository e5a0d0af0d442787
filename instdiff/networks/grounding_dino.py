"""GroundingDINO and MM-GroundingDINO, through transformers: boxes for phrases, each named by a phrase searched for.

Legend: B pictures of one size, Q queries of the decoder, T tokens of the text.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms
from transformers import AutoProcessor, GroundingDinoForObjectDetection, MMGroundingDinoForObjectDetection

from instdiff.layouts.geometry import clamp
from instdiff.networks import loading
from instdiff.schema import Box

Pixels = NDArray[np.uint8]  # (height, width, 3)
CLASSES = {
    "grounding-dino": GroundingDinoForObjectDetection,
    "mm-grounding-dino": MMGroundingDinoForObjectDetection,
}


class Text(NamedTuple):
    """Phrases that are searched for together: as the model reads them, and as they were given."""

    words: str  # one. another.
    phrases: tuple[str, ...]


class PhraseBox(NamedTuple):
    """A box, and the phrase that it answers; None where the model is not sure enough of any."""

    phrase: str | None
    box: Box
    score: float


class GroundingDino:
    """Finds what phrases name.

    Pictures of one size go through the model together. Those of different sizes would have to be padded, and a padded
    picture does not give quite the boxes that it gives alone.
    """

    def __init__(
        self, weights: Path, box_threshold: float, text_threshold: float, device: torch.device | str = "cpu"
    ) -> None:
        kind = CLASSES[loading.model_type(weights, CLASSES)]
        self._processor = AutoProcessor.from_pretrained(weights, local_files_only=True)
        self._model = loading.from_folder(kind, weights, dtype="auto")
        self._model.to(device)
        self._box_threshold, self._text_threshold = box_threshold, text_threshold

    def find(
        self, pictures: Sequence[Pixels], texts_of: Sequence[Sequence[Text]], batch_size: int
    ) -> list[list[PhraseBox]]:
        """The boxes of each picture's texts, text by text; no more than `batch_size` go through the model at once."""
        by_size: dict[tuple[int, ...], list[tuple[int, Text]]] = defaultdict(list)
        for number, (pixels, texts) in enumerate(zip(pictures, texts_of, strict=True)):
            by_size[pixels.shape[:2]] += [(number, text) for text in texts]
        boxes: list[list[PhraseBox]] = [[] for _ in pictures]
        for searches in by_size.values():
            for start in range(0, len(searches), batch_size):
                batch = searches[start : start + batch_size]
                results = self._detected([pictures[number] for number, _ in batch], [text for _, text in batch])
                for (number, _), result in zip(batch, results, strict=True):
                    boxes[number] += result
        return boxes

    def texts(self, phrases: Sequence[str]) -> list[Text]:
        """The phrases as `one. another.`, in as many texts as the model's limit of tokens asks for."""
        limit = self._model.config.max_text_len
        texts: list[Text] = []
        for phrase in phrases:
            words = _words(phrase)
            if not words:
                continue
            longer = f"{texts[-1].words} {words}." if texts else f"{words}."
            if texts and len(self._processor.tokenizer(longer)["input_ids"]) <= limit:
                texts[-1] = Text(longer, (*texts[-1].phrases, phrase))
            else:
                texts.append(Text(f"{words}.", (phrase,)))
        return texts

    @staticmethod
    def separate_texts(phrases: Sequence[str]) -> list[Text]:
        """A text for each phrase, so that none weakens another."""
        return [Text(f"{_words(phrase)}.", (phrase,)) for phrase in phrases if _words(phrase)]

    @torch.no_grad()
    def _detected(self, pictures: Sequence[Pixels], texts: Sequence[Text]) -> list[list[PhraseBox]]:
        inputs = self._processor(
            images=list(pictures),
            text=[text.words for text in texts],
            return_tensors="pt",
            padding=True,
            truncation=True,
            input_data_format="channels_last",
            max_length=self._model.config.max_text_len,
        ).to(self._model.device)
        outputs = self._model(**inputs)
        chance_BQT = outputs.logits.sigmoid()[..., : inputs["input_ids"].shape[1]]
        return [
            self._boxes(*row)
            for row in zip(chance_BQT.cpu(), outputs.pred_boxes.cpu(), inputs["input_ids"].cpu(), texts, strict=True)
        ]

    def _boxes(
        self, chance_QT: torch.Tensor, boxes_Q4: torch.Tensor, ids_T: torch.Tensor, text: Text
    ) -> list[PhraseBox]:
        """The queries sure enough of some token, each named by the phrase that it is surest of."""
        spans = self._spans(ids_T)[: len(text.phrases)]
        score_Q = chance_QT.amax(1)
        return [
            PhraseBox(self._phrase(chance_QT[query], spans, text.phrases), _box(boxes_Q4[query]), score)
            for query, score in enumerate(score_Q.tolist())
            if score > self._box_threshold
        ]

    def _spans(self, ids_T: torch.Tensor) -> list[slice]:
        """Which tokens are each phrase's: a full stop ends a phrase, and phrases hold none."""
        tokenizer = self._processor.tokenizer
        stop, special = tokenizer.convert_tokens_to_ids("."), set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        spans, start = [], 0
        for place, token in enumerate(ids_T.tolist()):
            if token in special or token == stop:
                spans += [slice(start, place)] if place > start else []
                start = place + 1
        return spans

    def _phrase(self, chance_T: torch.Tensor, spans: Sequence[slice], phrases: Sequence[str]) -> str | None:
        """The phrase that holds the surest token, of equals the surer as a whole; None if it is not sure enough of any.

        Pieces of words are not names, and neither are words of two phrases together.
        """
        sure = [(float(chance_T[span].max()), float(chance_T[span].mean())) for span in spans]
        best = max(range(len(sure)), key=sure.__getitem__, default=None)
        return None if best is None or sure[best][0] <= self._text_threshold else phrases[best]


def without_repeats(boxes: Sequence[PhraseBox], iou: float) -> list[PhraseBox]:
    """Non-maximum suppression whatever the phrase: the surest first, none that overlaps a surer one by more."""
    if not boxes:
        return []
    boxes_N4 = torch.tensor([each.box for each in boxes], dtype=torch.float64)
    scores_N = torch.tensor([each.score for each in boxes], dtype=torch.float64)
    return [boxes[place] for place in nms(boxes_N4, scores_N, iou).tolist()]


def _words(phrase: str) -> str:
    """A phrase as the model reads it: small letters, without the full stops that would end it."""
    return " ".join(phrase.lower().replace(".", " ").split())


def _box(box: torch.Tensor) -> Box:
    """From centre and size, cut to the picture."""
    x, y, width, height = box.double().tolist()
    return clamp(Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
