"""Answerers: transformers' own classes, a server on this machine, a worker in another process."""

import argparse
import base64
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from eval.answerers import asking, choice, endpoint
from eval.answerers.answerer import DECODINGS, GREEDY, AnswererLost, Question, settings_of
from eval.answerers.endpoint import Endpoint
from eval.answerers.local import LocalModel
from eval.answerers.store import Answers
from eval.answerers.worker import Worker
from instdiff.files.provenance import of_file
from instdiff.work.outcomes import Failure

SHORT = GREEDY.model_copy(update={"max_tokens": 5})
SAMPLED = DECODINGS["minicpm-v-2.6"].model_copy(update={"max_tokens": 5})
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, size, np.uint8) for size in ((40, 60, 3), (64, 64, 3))]
QUESTIONS = [Question("a", None, "Is it red?"), Question("b", None, "Is the second one longer?", "Be brief.")]


@pytest.fixture(scope="module", params=["qwen25_vl", "qwen3_vl"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = getattr(tiny_models, request.param)(tmp_path_factory.mktemp("qwen") / request.param)
    return folder


def test_a_batch_is_answered_as_each_question_alone(weights: Path) -> None:
    model = LocalModel(weights, SHORT, "float32")
    together = model.answer(PICTURES, QUESTIONS)
    assert together == [
        model.answer([picture], [question])[0] for picture, question in zip(PICTURES, QUESTIONS, strict=True)
    ]
    assert model.judge.startswith(("qwen2_5_vl@", "qwen3_vl@"))


def test_a_sampled_answer_hangs_on_its_question_and_the_seed_alone(weights: Path) -> None:
    model = LocalModel(weights, SAMPLED, "float32")
    first = model.answer(PICTURES, QUESTIONS)
    assert model.answer(PICTURES[1:], QUESTIONS[1:]) == first[1:]
    other = LocalModel(weights, SAMPLED.model_copy(update={"seed": 1}), "float32")
    assert other.answer(PICTURES, QUESTIONS) != first
    assert other.settings != model.settings


@pytest.mark.parametrize("own_end", [None, 65])
def test_a_model_is_asked_to_answer_until_the_token_that_ends_its_answers_and_only_words_are_read(
    weights: Path, own_end: int | None
) -> None:
    model = LocalModel(weights, SHORT, "float32")
    model._model.generation_config.eos_token_id = own_end
    words = model._processor.tokenizer
    asked: dict[str, Any] = {}

    def generate(*, input_ids: torch.Tensor, generation_config: Any, **_: object) -> torch.Tensor:
        asked.update(ids=input_ids[0], how=generation_config)
        says = words.convert_tokens_to_ids(["Y", "e", "s", "<|im_end|>", "<|endoftext|>"])
        return torch.cat([input_ids, torch.tensor([says])], dim=1)

    model._model.generate = generate
    assert model.answer(PICTURES[:1], QUESTIONS[:1]) == ["Yes"]
    assert words.decode(asked["ids"]).endswith("Is it red?<|im_end|>\n<|im_start|>assistant\n")
    how = asked["how"]
    assert how.eos_token_id == (words.convert_tokens_to_ids("<|im_end|>") if own_end is None else own_end)
    assert (how.pad_token_id, how.do_sample, how.max_new_tokens) == (words.pad_token_id, False, 5)


def test_a_folder_that_does_not_say_how_it_is_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        LocalModel(tmp_path / "absent", SHORT, "float32")
    with pytest.raises(ValueError, match="no chat template"):
        LocalModel(tiny_models.blip(tmp_path / "blip"), SHORT, "float32")


class Server(BaseHTTPRequestHandler):
    """Answers with the size of the picture it was sent; what it is to do besides stands in the question."""

    requests: ClassVar[list[dict[str, Any]]] = []
    busy = 0

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "seer"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Server.requests.append(body | {"key": self.headers.get("Authorization")})
        picture, text = body["messages"][-1]["content"]
        image = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
        if Server.busy:
            Server.busy -= 1
            self.reply(503, {"error": "loading"})
        elif text["text"] == "refuse":
            self.reply(400, {"error": "too long"})
        elif text["text"] == "odd":
            self.reply(200, {"choices": []})
        else:
            self.reply(200, {"choices": [{"message": {"content": f" {text['text']} {image.width}x{image.height} "}}]})

    def reply(self, code: int, content: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(endpoint, "WAIT", 0.0)
    Server.requests, Server.busy = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_is_asked_with_the_picture_the_question_and_the_decoding(address: str) -> None:
    model = Endpoint(address, None, SHORT)
    assert (model.judge, model.answer(PICTURES, QUESTIONS)) == (
        "endpoint:seer",
        ["Is it red? 60x40", "Is the second one longer? 64x64"],
    )
    by_text = {request["messages"][-1]["content"][1]["text"]: request for request in Server.requests}
    plain, systemic = (by_text[question.text] for question in QUESTIONS)
    assert {name: plain[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "seer",
        "max_tokens": 5,
        "temperature": 0,
    }
    assert "seed" not in plain and plain["key"] is None and len(plain["messages"]) == 1
    assert systemic["messages"][0] == {"role": "system", "content": "Be brief."}
    Endpoint(address, "seer", SAMPLED).answer(PICTURES[:1], QUESTIONS[:1])
    last = Server.requests[-1]
    assert [last[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty", "seed")] == [
        0.7,
        0.8,
        100,
        1.05,
        0,
    ]


def test_a_busy_server_is_asked_again_and_one_refused_question_costs_no_other(address: str, tmp_path: Path) -> None:
    model = Endpoint(address, "seer", SHORT)
    Server.busy = endpoint.TRIES - 1
    assert model.answer(PICTURES[:1], QUESTIONS[:1]) == ["Is it red? 60x40"]
    wrong = [Question("a", None, text) for text in ("refuse", "odd", "fine")]
    replies = asking.ask(wrong, lambda _: PICTURES[0], model, Answers(tmp_path), 3)
    assert replies.answers == [None, None, "fine 60x40"]
    assert [failure.reason for failure in replies.failures.values()] == ["refused", "bad_reply"]
    assert '400: {"error": "too long"}' in next(iter(replies.failures.values())).detail
    Server.busy = 99
    with pytest.raises(AnswererLost, match="503"):
        model.answer(PICTURES[:1], QUESTIONS[:1])


def test_a_key_comes_from_the_environment_and_an_address_must_be_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEERS_KEY", "s3cret")
    model = Endpoint(address, None, SHORT, "SEERS_KEY")
    model.answer(PICTURES[:1], QUESTIONS[:1])
    assert Server.requests[-1]["key"] == "Bearer s3cret"
    assert "s3cret" not in model.judge + model.settings
    for wrong, sentence in (
        ((address, "blind", SHORT), "has no model 'blind' but seer"),
        (("file:///etc/passwd", None, SHORT), "not an address"),
        (("http://127.0.0.1:9/v1", None, SHORT), "no server answers there"),
        ((address, None, SHORT, "NO_SUCH_KEY"), "NO_SUCH_KEY, which should hold the key, is not set"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Endpoint(*wrong)


WORKER = """
import base64, io, os
from PIL import Image

class Model:
    hello = {"model": "parrot", "versions": {"torch": "0"}}
    def __init__(self, weights, precision):
        self.given = precision
    def answer(self, question):
        if "die" in question["texts"]:
            os._exit(9)
        sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in question["pictures"]]
        words, most = zip(question["texts"], question["systems"], sizes), question["decoding"]["max_tokens"]
        return {"answers": [f"{text}|{system}|{w}x{h}|{most}" for text, system, (w, h) in words]}

load = Model
"""


def test_a_worker_answers_in_its_own_environment_and_its_death_costs_one_question(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "weights").write_text("w")
    model = Worker(Path(sys.executable), tmp_path / "weights", SHORT, "float32", tmp_path / "worker.py")
    assert model.judge.startswith("parrot@")
    script = of_file(tmp_path / "worker.py")[:16]
    assert model.settings == settings_of(SHORT, precision="float32", worker=script, versions={"torch": "0"})
    assert model.answer(PICTURES, QUESTIONS) == ["Is it red?||60x40|5", "Is the second one longer?|Be brief.|64x64|5"]
    questions = [Question("a", None, text) for text in ("first", "die", "last")]
    replies = asking.ask(questions, lambda _: PICTURES[0], model, Answers(tmp_path / "kept"), 3)
    assert replies.answers == ["first||60x40|5", None, "last||60x40|5"]
    (failure,) = replies.failures.values()
    assert isinstance(failure, Failure) and "worker ended with 9" in failure.detail
    with pytest.raises(ValueError, match="no Python interpreter"):
        Worker(tmp_path / "python", tmp_path / "weights", SHORT, "float32")
    (tmp_path / "broken.py").write_text("raise SystemExit('no torch here')")
    with pytest.raises(ValueError, match="no torch here"):
        Worker(Path(sys.executable), tmp_path / "weights", SHORT, "float32", tmp_path / "broken.py")


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser()
    choice.add_options(options)
    return options


def test_a_worker_is_chosen_by_its_interpreter_its_weights_and_its_script(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "weights").write_text("w")
    words = {"": tmp_path / "weights", "-python": sys.executable, "-worker": tmp_path / "worker.py"}
    words["-precision"] = "float32"
    chosen = choice.load(
        _options().parse_args([word for name, value in words.items() for word in (f"--answerer{name}", str(value))])
    )
    assert isinstance(chosen, Worker)
    assert chosen.answer(PICTURES[:1], QUESTIONS[:1]) == ["Is it red?||60x40|512"]


def test_the_command_line_chooses_one_of_the_three_or_none(address: str, tmp_path: Path) -> None:
    options = _options()
    assert choice.load(options.parse_args([])) is None
    words = ["--answerer-address", address, "--decoding", "minicpm-v-2.6"]
    for more, seed in (([], 0), (["--decoding-seed", "7"], 7)):
        chosen = choice.load(options.parse_args([*words, *more]))
        assert chosen is not None and chosen.judge == "endpoint:seer"
        assert chosen.settings == settings_of(DECODINGS["minicpm-v-2.6"].model_copy(update={"seed": seed}))
    for words, sentence in (
        (["--answerer", "x", "--answerer-address", address], "give one of the two"),
        (["--answerer-python", "x"], "needs --answerer"),
    ):
        with pytest.raises(ValueError, match=sentence):
            choice.load(options.parse_args(words))
