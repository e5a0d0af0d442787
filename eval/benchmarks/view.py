"""One picture of a benchmark as a measure sees it: its case, its size, and what judges gave for it."""

from collections.abc import Callable, Mapping

import numpy as np

from eval.benchmarks.case import JudgeKind
from eval.benchmarks.judge_outputs import NOTHING, JudgeOutputs, PendingQuestion, TextDetections, region_of
from eval.benchmarks.pictures import ExpectedPicture
from eval.inputs.pictures import Pixels, read
from eval.metrics.attributes import Judge
from eval.metrics.clip_score import Floats
from instdiff.schema import Box, Rle


class View:
    """One picture as a measure sees it; `compat` says whether the benchmark's own faults are wanted.

    A question that has no answer yet is put into `pending` and counts as answered by no; `faults` counts the answers
    that cannot be read.
    """

    def __init__(self, picture: ExpectedPicture, outputs: JudgeOutputs, compat: bool) -> None:
        self.compat = compat
        self.case, self.size = picture.case, picture.size
        self.pending: list[PendingQuestion] = []
        self.faults = 0
        self._picture, self._outputs = picture, outputs

    @property
    def absent(self) -> bool:
        """Whether there is no picture: then nothing is detected, and every answer is no."""
        return self._picture.path is None

    def has(self, kind: JudgeKind) -> bool:
        """Whether outputs of judges of this kind are there."""
        return kind in self._outputs.kinds

    def detections_of(self, text: str) -> TextDetections:
        """The detections of a text."""
        if self.absent or self._outputs.detections is None:
            return NOTHING
        return self._outputs.detections.get(self._picture.name, {}).get(text, NOTHING)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that have detections."""
        return (
            ()
            if self.absent or self._outputs.detections is None
            else tuple(self._outputs.detections.get(self._picture.name, ()))
        )

    def mask(self, index: int) -> Rle | None:
        """The mask in an instance's given box."""
        return None if self._outputs.masks is None else self._outputs.masks.get((self._picture.name, index))

    def ask(self, question: str, region: Box | None = None, **fields: str) -> str:
        """The answer to a question, by its id in the benchmark's wording and with its fields filled in."""
        if self.absent:
            return "no"
        text = filled(self._outputs.questions[question], fields)
        key = region_of(region)
        answers = self._outputs.answers
        if answers is not None:
            answer = answers.by_key.get((self._outputs.identities[self._picture.name], key, text))
            if answer is not None:
                return answer
        self.pending.append(PendingQuestion(self._picture.name, key, text))
        return "no"

    def fault(self) -> None:
        """Count an answer that cannot be read."""
        self.faults += not self.absent

    def pixels(self) -> Pixels:
        """The picture, RGB; black where there is none."""
        if self._picture.path is None:
            return np.zeros((*self.size, 3), np.uint8)
        return read(self._picture.path)

    @property
    def judge(self) -> Judge:
        """A CLIP; measures ask for it only where there is one."""
        assert self._outputs.judge is not None
        return self._outputs.judge

    def once(self, name: str, compute: Callable[[], Floats]) -> Floats:
        """What is computed of this picture under this name: once, however many views of it there are."""
        computed, key = self._outputs.computed, (self._picture.name, name)
        if key not in computed:
            computed[key] = compute()
        return computed[key]

    @property
    def boxes_in(self) -> str:
        """The unit of an answerer's boxes."""
        return self._outputs.boxes_in


def filled(template: str, fields: Mapping[str, str]) -> str:
    """The question: each {field} replaced once, whatever else stands in braces."""
    for name, value in fields.items():
        template = template.replace(f"{{{name}}}", value)
    return template
