"""What to look for in a picture: fixed categories, the nouns of its caption, a vocabulary judged by CLIP, or RAM."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, PositiveInt

from instdiff.schema import Share, Strict
from instdiff.work.pictures import Picture


class FixedTags(Strict):
    """The same for every picture."""

    source: Literal["categories"]  # one list for all pictures
    categories: tuple[str, ...]  # what is looked for


class CaptionTags(Strict):
    """The noun phrases of the caption."""

    source: Literal["caption"]  # what the picture's caption names


class VocabularyTags(Strict):
    """The words of a list that CLIP finds likeliest."""

    source: Literal["vocabulary"]  # the likeliest words of a list
    clip: Path  # a folder with a CLIPModel and its processor
    words: Path | None  # one a line; null: the list of this package
    template: str  # with {word}
    most: PositiveInt  # words a picture
    min_probability: Share  # among the whole list


class RamTags(Strict):
    """Recognize Anything, where its package is installed."""

    source: Literal["ram"]  # what Recognize Anything sees
    weights: Path  # ram_swin_large_14m.pth
    image_size: PositiveInt  # pixels a side, as its weights were trained: 384


Tags = Annotated[FixedTags | CaptionTags | VocabularyTags | RamTags, Field(discriminator="source")]


class DetectorParams(Strict):
    """GroundingDINO: where it is, what it looks for, and what counts as found."""

    weights: Path  # a folder with a GroundingDinoForObjectDetection and its processor
    tags: Tags  # where the words come from that are looked for
    box_threshold: Share  # of a query's best token
    text_threshold: Share  # of the tokens that name it
    nms_iou: Share  # between boxes of any category
    device: str  # auto, cpu, cuda, cuda:N or mps

    def weight_paths(self) -> list[Path]:
        """Every weight file or folder that has a say."""
        match self.tags:
            case VocabularyTags():
                words = [] if self.tags.words is None else [self.tags.words]
                return [self.weights, self.tags.clip, *words]
            case RamTags():
                return [self.weights, self.tags.weights]
        return [self.weights]


class Tagger(Protocol):
    """Whoever says what to look for."""

    def tags(self, batch: Sequence[Picture]) -> list[tuple[str, ...]]:
        """Words or phrases for each picture."""
        ...


class Fixed:
    """Looks for the same everywhere."""

    def __init__(self, tags: FixedTags) -> None:
        self._categories = tags.categories

    def tags(self, batch: Sequence[Picture]) -> list[tuple[str, ...]]:
        """The categories, for each picture."""
        return [self._categories for _ in batch]


class Nouns:
    """Looks for what the caption names."""

    def tags(self, batch: Sequence[Picture]) -> list[tuple[str, ...]]:
        """The noun phrases of each caption."""
        return [noun_phrases(picture.caption) for picture in batch]


class Vocabulary:
    """Looks for the words that CLIP finds in the picture."""

    def __init__(self, tags: VocabularyTags, device: Any) -> None:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        from instdiff.networks import loading

        self._params, self._torch = tags, torch
        self.words = words(tags.words)
        self._processor = CLIPProcessor.from_pretrained(tags.clip, local_files_only=True)
        self._model = loading.from_folder(CLIPModel, tags.clip, dtype="auto")
        self._model.to(device)
        prompts = [tags.template.format(word=word) for word in self.words]
        inputs = self._processor(text=prompts, return_tensors="pt", padding=True, truncation=True)
        inputs = inputs.to(self._model.device)
        with torch.no_grad():
            text_WD = self._model.text_projection(self._model.text_model(**inputs).pooler_output)
        self._text_WD = text_WD / text_WD.norm(dim=-1, keepdim=True)

    def tags(self, batch: Sequence[Picture]) -> list[tuple[str, ...]]:
        """For each picture its likeliest words, the likeliest first."""
        inputs = self._processor(images=[picture.pixels() for picture in batch], return_tensors="pt")
        with self._torch.no_grad():
            seen = self._model.vision_model(inputs["pixel_values"].to(self._model.device)).pooler_output
            image_BD = self._model.visual_projection(seen)
            image_BD = image_BD / image_BD.norm(dim=-1, keepdim=True)
            logits_BW = self._model.logit_scale.exp() * image_BD @ self._text_WD.T
        likeliest = logits_BW.softmax(-1).topk(min(self._params.most, len(self.words)))
        return [
            tuple(
                self.words[place] for place, chance in zip(*pair, strict=True) if chance >= self._params.min_probability
            )
            for pair in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        ]


class Ram:
    """Looks for what Recognize Anything names."""

    def __init__(self, tags: RamTags, device: Any) -> None:
        try:
            from ram import get_transform
            from ram.models import ram
        except ImportError as error:
            raise ValueError(
                "ground: tags from ram need the package of recognize-anything in this environment"
            ) from error
        import torch

        self._torch = torch
        self._device = device
        self._transform: Any = get_transform(image_size=tags.image_size)
        self._model: Any = ram(pretrained=str(tags.weights), image_size=tags.image_size, vit="swin_l").eval()
        self._model.to(self._device)

    def tags(self, batch: Sequence[Picture]) -> list[tuple[str, ...]]:
        """RAM's English tags of each picture."""
        from PIL import Image

        pixels_BCHW = self._torch.stack([self._transform(Image.fromarray(picture.pixels())) for picture in batch])
        with self._torch.no_grad():
            english, _ = self._model.generate_tag(pixels_BCHW.to(self._device))
        return [tuple(tag.strip() for tag in line.split("|") if tag.strip()) for line in english]


def tagger(tags: FixedTags | CaptionTags | VocabularyTags | RamTags, device: Any = "cpu") -> Tagger:
    """The tagger that params name, its network on this device."""
    match tags:
        case FixedTags():
            return Fixed(tags)
        case CaptionTags():
            return Nouns()
        case VocabularyTags():
            return Vocabulary(tags, device)
        case RamTags():
            return Ram(tags, device)


def words(path: Path | None) -> tuple[str, ...]:
    """The words of a list, one a line, without comments; ValueError when there are none."""
    source = files("data_prep.annotators") / "vocabulary.txt" if path is None else path
    text = source.read_text("utf-8-sig")
    words = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not words:
        raise ValueError(f"{path}: a vocabulary without words")
    return tuple(dict.fromkeys(words))


def noun_phrases(caption: str) -> tuple[str, ...]:
    """The runs of words between function words, verbs in -ing and punctuation, in their order, none twice.

    No parser and no model: it errs on the side of too many phrases, and a detector finds nothing for those that name
    nothing.
    """
    phrases = []
    for clause in re.split(r"[^\w\s'-]+|_+", caption.lower()):
        run: list[str] = []
        for word in [*clause.split(), ""]:
            if word and word not in _listed("function_words.txt") and not _is_verb(word):
                run.append(word)
            elif run:
                phrases.append(" ".join(run))
                run = []
    return tuple(dict.fromkeys(phrase for phrase in phrases if any(letter.isalpha() for letter in phrase)))


def _is_verb(word: str) -> bool:
    return word.endswith("ing") and len(word) > 5 and word not in _listed("nouns_in_ing.txt")


@cache
def _listed(name: str) -> frozenset[str]:
    return frozenset((files("data_prep.annotators") / name).read_text("utf-8").split())
