"""GroundingDINO as a grounder, through transformers: boxes for the phrases that a tagger names.

Legend: B pictures of one size, Q queries of the decoder, T tokens of the text.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torchvision.ops import nms
from transformers import AutoProcessor, GroundingDinoForObjectDetection

from data_prep.annotators.grounded import Found
from data_prep.annotators.tags import DetectorParams, tagger
from instdiff.device import resolve
from instdiff.layouts.geometry import clamp
from instdiff.networks import loading
from instdiff.schema import Box
from instdiff.work.outcomes import Failure
from instdiff.work.pictures import Picture


class Text(NamedTuple):
    """Tags that are searched for together: as the model reads them, and as they were given."""

    words: str  # one. another.
    tags: tuple[str, ...]


class GroundingDino:
    """Finds what the tags name; runs on the device of `params`.

    Pictures of one size go through the model together. Those of different sizes would have to be padded, and a padded
    picture does not give quite the boxes that it gives alone.
    """

    def __init__(self, params: DetectorParams) -> None:
        self._params, device = params, resolve(params.device)
        self._tagger = tagger(params.tags, device)
        self._processor = AutoProcessor.from_pretrained(params.weights, local_files_only=True)
        self._model = loading.from_folder(GroundingDinoForObjectDetection, params.weights, dtype="auto")
        self._model.to(device)

    def ground(self, batch: Sequence[Picture]) -> list[list[Found] | Failure]:
        """What is found in each picture, the surest first, without boxes that repeat another."""
        asked_of = [self.texts(tags) for tags in self._tagger.tags(batch)]
        asked: dict[tuple[int, int], list[tuple[int, Text]]] = defaultdict(list)
        for number, (picture, texts) in enumerate(zip(batch, asked_of, strict=True)):
            asked[picture.height, picture.width] += [(number, text) for text in texts]
        found: dict[int, list[Found]] = defaultdict(list)
        for questions in asked.values():
            for start in range(
                0, len(questions), len(batch)
            ):  # many tags are many texts: no more at once than pictures
                some = questions[start : start + len(batch)]
                answers = self._detected([batch[number] for number, _ in some], [text for _, text in some])
                for (number, _), answer in zip(some, answers, strict=True):
                    found[number] += answer
        return [
            unrepeated(found[number], self._params.nms_iou) if texts else Failure("no_tags", "nothing to look for")
            for number, texts in enumerate(asked_of)
        ]

    def texts(self, tags: Sequence[str]) -> list[Text]:
        """The tags as `one. another.`, in as many texts as the model's limit of tokens asks for."""
        limit = self._model.config.max_text_len
        texts: list[Text] = []
        for tag in tags:
            words = " ".join(tag.lower().replace(".", " ").split())
            if not words:
                continue
            longer = f"{texts[-1].words} {words}." if texts else f"{words}."
            if texts and len(self._processor.tokenizer(longer)["input_ids"]) <= limit:
                texts[-1] = Text(longer, (*texts[-1].tags, tag))
            else:
                texts.append(Text(f"{words}.", (tag,)))
        return texts

    @torch.no_grad()
    def _detected(self, pictures: Sequence[Picture], texts: Sequence[Text]) -> list[list[Found]]:
        inputs = self._processor(
            images=[picture.pixels() for picture in pictures],
            text=[text.words for text in texts],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._model.config.max_text_len,
        ).to(self._model.device)
        outputs = self._model(**inputs)
        chance_BQT = outputs.logits.sigmoid()[..., : inputs["input_ids"].shape[1]]
        return [
            self._found(*one)
            for one in zip(chance_BQT.cpu(), outputs.pred_boxes.cpu(), inputs["input_ids"].cpu(), texts, strict=True)
        ]

    def _found(self, chance_QT: torch.Tensor, boxes_Q4: torch.Tensor, ids_T: torch.Tensor, text: Text) -> list[Found]:
        """The queries sure enough of some token, each named by the tag that it is surest of."""
        spans = self._spans(ids_T)[: len(text.tags)]
        score_Q = chance_QT.amax(1)
        return [
            Found(self._tag(chance_QT[query], spans, text.tags), _box(boxes_Q4[query]), score)
            for query, score in enumerate(score_Q.tolist())
            if score > self._params.box_threshold
        ]

    def _spans(self, ids_T: torch.Tensor) -> list[slice]:
        """Which tokens are each tag's: a full stop ends a tag, and tags hold none."""
        tokenizer = self._processor.tokenizer
        stop, special = tokenizer.convert_tokens_to_ids("."), set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        spans, start = [], 0
        for place, token in enumerate(ids_T.tolist()):
            if token in special or token == stop:
                spans += [slice(start, place)] if place > start else []
                start = place + 1
        return spans

    def _tag(self, chance_T: torch.Tensor, spans: Sequence[slice], tags: Sequence[str]) -> str | None:
        """The tag that holds the surest token, of equals the surer as a whole; None if it is not sure enough of any.

        Pieces of words are not names, and neither are words of two tags together.
        """
        sure = [(float(chance_T[span].max()), float(chance_T[span].mean())) for span in spans]
        best = max(range(len(sure)), key=sure.__getitem__, default=None)
        return None if best is None or sure[best][0] <= self._params.text_threshold else tags[best]


def unrepeated(found: Sequence[Found], iou: float) -> list[Found]:
    """Non-maximum suppression whatever the category: the surest first, none that overlaps a surer one by more."""
    if not found:
        return []
    boxes_N4 = torch.tensor([one.box for one in found], dtype=torch.float64)
    scores_N = torch.tensor([one.score for one in found], dtype=torch.float64)
    return [found[place] for place in nms(boxes_N4, scores_N, iou).tolist()]


def _box(box: torch.Tensor) -> Box:
    """From centre and size, cut to the picture."""
    x, y, width, height = box.double().tolist()
    return clamp(Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
