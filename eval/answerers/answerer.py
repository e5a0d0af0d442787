"""What an answerer is: pictures, each with a question -> texts. Who answers and how are part of every stored answer."""

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from instdiff.schema import Box, Share, Strict
from instdiff.work.outcomes import Failure

Pixels = NDArray[np.uint8]  # (height, width, 3)


class AnswererLost(Exception):
    """Nobody answers any more: not a reason to fail every question, but to stop."""


class Decoding(Strict):
    """How an answer is chosen, token by token."""

    max_tokens: PositiveInt  # longest answer
    temperature: NonNegativeFloat  # 0: always the likeliest token
    top_p: Share  # share of the probability that is sampled from; 1: all
    top_k: NonNegativeInt  # likeliest tokens that are sampled from; 0: all
    repetition_penalty: PositiveFloat  # 1: none
    seed: int  # of sampling; each question has a draw of its own

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn at random."""
        return self.temperature == 0


GREEDY = Decoding(max_tokens=512, temperature=0, top_p=1, top_k=0, repetition_penalty=1, seed=0)
GREEDY_READS = {"max_tokens", "temperature", "repetition_penalty"}
DECODINGS = {  # by name
    "greedy": GREEDY,
    "minicpm-v-2.6": GREEDY.model_copy(  # what LayoutSAM-Eval and LGS run with: their own seed is dropped on its way
        update={"temperature": 0.7, "top_p": 0.8, "top_k": 100, "repetition_penalty": 1.05}
    ),
}


class Question(NamedTuple):
    """A question about a picture, or about the part of it that alone is shown."""

    picture: str  # SHA-256 of the picture's size and pixels, as eval/inputs/pictures.py states it
    region: Box | None  # None: the whole picture is shown
    text: str
    system: str = ""  # a line before the conversation, where a benchmark has one

    @property
    def key(self) -> tuple[str, str, str]:
        """Picture, region and question as texts."""
        region = "" if self.region is None else json.dumps([round(edge, 9) for edge in self.region])
        return self.picture, region, f"{self.system}\n\n{self.text}" if self.system else self.text


class Answerer(Protocol):
    """A vision-language model, wherever it runs."""

    @property
    def judge(self) -> str:
        """Which model: its name with a hash of its weights, where they are at hand."""

    @property
    def settings(self) -> str:
        """All else that decides an answer, as JSON."""

    def answer(self, pictures: Sequence[Pixels], questions: Sequence[Question], /) -> list[str | Failure]:
        """What the model says of each picture or part; AnswererLost where nobody answers."""
        ...


def settings_of(decoding: Decoding, **more: object) -> str:
    """The settings of an answerer as JSON; a greedy answer does not depend on what sampling reads."""
    values = decoding.model_dump(include=GREEDY_READS if decoding.is_greedy else None)
    return json.dumps(values | more, sort_keys=True)
