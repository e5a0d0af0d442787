"""Questions asked once: those with a kept answer are not asked again, the others in batches that are kept at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eval.answerers.answerer import Answerer, AnswererLost, Pixels, Question
from eval.answerers.store import Answers, Key
from instdiff.isolated.line_worker import WorkerLost
from instdiff.layouts.geometry import crop
from instdiff.progress import track
from instdiff.work.outcomes import Failure, outcomes


class Replies(NamedTuple):
    """What came back: an answer for each question, None where there is none, and why."""

    answers: list[str | None]
    failures: dict[Question, Failure]
    num_asked: int  # questions that had no kept answer


def ask(
    questions: Sequence[Question],
    pixels_of: Callable[[str], Pixels],
    answerer: Answerer,
    answers: Answers,
    batch_size: int,
) -> Replies:
    """The answer to every question, in order.

    Args:
        questions: equal ones are asked once.
        pixels_of: the whole picture (height, width, 3) of a question's hash.
        answerer: who answers what is not kept yet.
        answers: where answers are kept; each batch is written before the next is asked.
        batch_size: questions that the answerer sees at once.

    Raises:
        ValueError: nobody answers any more; what was answered is kept.
    """
    new = [question for question in dict.fromkeys(questions) if key_of(question, answerer) not in answers]
    failures: dict[Question, Failure] = {}

    def answered(batch: Sequence[Question]) -> Sequence[str | Failure]:
        return answerer.answer([_visible_pixels(question, pixels_of) for question in batch], batch)

    try:
        starts = range(0, len(new), batch_size)
        for start in track(starts, len(starts), "questions"):
            replies = dict(outcomes(new[start : start + batch_size], answered, batch_size))
            failures |= {question: reply for question, reply in replies.items() if isinstance(reply, Failure)}
            answers.add(
                {key_of(question, answerer): reply for question, reply in replies.items() if isinstance(reply, str)}
            )
    except (AnswererLost, WorkerLost) as error:
        raise ValueError(f"{answerer.judge} answers no more, {len(answers)} answers are kept: {error}") from error
    return Replies(
        [None if question in failures else answers[key_of(question, answerer)] for question in questions],
        failures,
        len(new),
    )


def key_of(question: Question, answerer: Answerer) -> Key:
    """What a question's answer is kept under."""
    return (*question.key, answerer.judge, answerer.settings)


def _visible_pixels(question: Question, pixels_of: Callable[[str], Pixels]) -> Pixels:
    whole = pixels_of(question.picture)
    return whole if question.region is None else crop(whole, question.region)
