"""A server that is busy, refuses, or answers oddly, without a server: how often it is asked and what is said of it."""

import http.client
import io
import json
import time
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

import numpy as np
import pytest

from eval.answerers.answerer import GREEDY, AnswererLost, Decoding, Question
from eval.answerers.endpoint import Endpoint
from instdiff.work.outcomes import Failure

PIXELS = np.zeros((2, 3, 3), np.uint8)
QUESTION = Question("a", None, "Is it red?")
MODELS = {"data": [{"id": "seer"}]}


class Wire:
    """What comes back for each request, errors among it, the last again and again; and how the server was asked."""

    def __init__(self, *replies: object) -> None:
        self.replies, self.asked, self.sleeps, self.timeouts = list(replies), list[Any](), list[float](), set[float]()

    def open(self, request: urllib.request.Request, timeout: float) -> io.BytesIO:
        self.timeouts.add(timeout)
        self.asked.append(None if request.data is None else json.loads(bytes(request.data)))  # type: ignore[arg-type]
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return io.BytesIO(reply if isinstance(reply, bytes) else json.dumps(reply).encode())


def asked(monkeypatch: pytest.MonkeyPatch, *replies: object, decoding: Decoding = GREEDY) -> tuple[Endpoint, Wire]:
    """An endpoint that has found its model, and its wire to the server."""
    wire = Wire(MODELS, *replies)
    monkeypatch.setattr(urllib.request, "urlopen", wire.open)
    monkeypatch.setattr(time, "sleep", wire.sleeps.append)
    return Endpoint("http://here/v1/", None, decoding), wire


def refusal(code: int, text: str = "why") -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://here", code, "", Message(), io.BytesIO(text.encode()))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_four_times_each_after_twice_as_long(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wire = asked(monkeypatch, refusal(code))
    with pytest.raises(AnswererLost, match=str(code)):
        model.answer([PIXELS], [QUESTION])
    assert wire.sleeps == [1, 2, 4]
    assert wire.timeouts == {600}


@pytest.mark.parametrize("error", [urllib.error.URLError("gone"), http.client.BadStatusLine("odd"), TimeoutError()])
def test_a_server_that_is_not_there_is_lost_with_the_error_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wire = asked(monkeypatch, error)
    with pytest.raises(AnswererLost, match=f"^{type(error).__name__}: "):
        model.answer([PIXELS], [QUESTION])
    assert len(wire.asked) == 1 + 4


@pytest.mark.parametrize("code", [400, 401, 404, 422, 501, 505])
def test_a_refusal_is_taken_at_its_word_in_two_hundred_characters(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wire = asked(monkeypatch, refusal(code, "so  long\n" + "x" * 500))
    (failure,) = model.answer([PIXELS], [QUESTION])
    said = ("so long " + "x" * 500)[:200]
    assert failure == Failure("refused", f"the server refuses with {code}: {said}")
    assert wire.sleeps == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"choices": []}, "IndexError"),
        ({}, "KeyError"),
        ({"choices": None}, "TypeError"),
        ([], "TypeError"),
        ({"choices": [{"message": {"content": None}}]}, "no text"),
        (b"no JSON", "no JSON"),
    ],
)
def test_a_reply_in_another_form_is_a_failure_of_its_question(
    reply: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wire = asked(monkeypatch, reply)
    (failure,) = model.answer([PIXELS], [QUESTION])
    assert isinstance(failure, Failure) and reason in failure.detail
    assert len(wire.asked) == 2
    assert model.answer([], []) == []


@pytest.mark.parametrize("reply", [{}, {"data": None}, {"data": [{}]}, []])
def test_a_list_of_models_in_another_form_is_said(reply: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", Wire(reply).open)
    with pytest.raises(ValueError, match="^http://here/v1: its list of models cannot be read"):
        Endpoint("http://here/v1", None, GREEDY)


@pytest.mark.parametrize(("models", "named"), [((), "none"), (("a", "b"), "a, b")])
def test_of_several_models_one_must_be_named(
    models: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire({"data": [{"id": name} for name in models]})
    monkeypatch.setattr(urllib.request, "urlopen", wire.open)
    with pytest.raises(ValueError, match=f"has no model None but {named}$"):
        Endpoint("https://here/v1", None, GREEDY)
    if models:
        assert Endpoint("https://here/v1", "b", GREEDY).judge == "endpoint:b"


def test_a_server_is_sent_what_decides_an_answer_and_nothing_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = {"temperature": 0.5, "top_p": 0.75, "seed": 3}
    decodings = {
        "greedy": ({}, {}),
        "greedy, no word twice": ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        "sampled": (sampled, sampled),
        "sampled of few": (sampled | {"top_k": 9}, sampled | {"top_k": 9}),
    }
    for changed, sent in decodings.values():
        model, wire = asked(
            monkeypatch,
            {"choices": [{"message": {"content": " Yes "}}]},
            decoding=GREEDY.model_copy(update=changed),
        )
        assert model.answer([PIXELS], [QUESTION]) == ["Yes"]
        body = wire.asked[-1]
        assert body.pop("model") == "seer" and len(body.pop("messages")) == 1
        assert body == {"max_tokens": 512, "temperature": 0} | sent


def test_a_greedy_answer_is_always_the_likeliest_token() -> None:
    assert GREEDY.is_greedy
    assert GREEDY.model_dump() == {
        "max_tokens": 512,
        "temperature": 0,
        "top_p": 1,  # all
        "top_k": 0,  # all
        "repetition_penalty": 1,  # none
        "seed": 0,
    }
