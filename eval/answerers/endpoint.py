"""An OpenAI-compatible server at an address (vLLM, SGLang, llama.cpp, ...), asked by several requests at once."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from eval.answerers.answerer import AnswererLost, Decoding, Pixels, Question, settings_of
from instdiff.isolated.line_worker import base64_png
from instdiff.work.outcomes import Failure

TRIES = 4  # of a request that the server is too busy for
WAIT = 1.0  # seconds before the second try; each next waits twice as long
TIMEOUT = 600.0  # seconds
BUSY = (429, 500, 502, 503, 504)
MAX_CHARACTERS = 200  # characters of what a server says


class Endpoint:
    """Asks a model by its name; the server knows its weights, we do not."""

    def __init__(self, address: str, model: str | None, decoding: Decoding, key_variable: str | None = None) -> None:
        """Ask the server which models it has; ValueError where it is none, or has another.

        Args:
            address: the base of the interface, for vLLM `http://host:8000/v1`.
            model: its name there; None: the only one the server has.
            decoding: how answers are chosen.
            key_variable: the environment variable that holds the key, where the server wants one.
        """
        if urlsplit(address).scheme not in {"http", "https"}:
            raise ValueError(f"{address}: not an address; http://host:port/v1 is expected")
        self._address, self._decoding = address.rstrip("/"), decoding
        self._key = None if key_variable is None else os.environ.get(key_variable)
        if key_variable is not None and not self._key:
            raise ValueError(f"the environment variable {key_variable}, which should hold the key, is not set")
        self._model = self._named(model)
        self.judge = f"endpoint:{self._model}"
        self.settings = settings_of(decoding)

    def answer(self, pictures: Sequence[Pixels], questions: Sequence[Question]) -> list[str | Failure]:
        """What the model says of each picture or part; a question that the server refuses is a failure of its own."""
        with ThreadPoolExecutor(max(1, len(questions))) as pool:
            return list(pool.map(self._answer, pictures, questions))

    def _answer(self, pixels: Pixels, question: Question) -> str | Failure:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64_png(pixels)}"}}
        content = [picture, {"type": "text", "text": question.text}]
        before = [{"role": "system", "content": question.system}] if question.system else []
        request = {"model": self._model, "messages": [*before, {"role": "user", "content": content}]}
        try:
            reply = self._send("chat/completions", request | _body(self._decoding))
            text = reply["choices"][0]["message"]["content"]
        except (LookupError, TypeError) as error:
            return Failure("bad_reply", f"the reply has no choices.0.message.content ({type(error).__name__})")
        except ValueError as error:
            return Failure("refused", str(error))
        return text.strip() if isinstance(text, str) else Failure("bad_reply", "the reply's content is no text")

    def _named(self, model: str | None) -> str:
        try:
            names = [str(each["id"]) for each in self._send("models", None)["data"]]
        except AnswererLost as error:
            raise ValueError(f"{self._address}: no server answers there ({error})") from error
        except (LookupError, TypeError) as error:
            raise ValueError(f"{self._address}: its list of models cannot be read") from error
        if model is None and len(names) == 1:
            return names[0]
        if model not in names:
            raise ValueError(f"{self._address}: has no model {model!r} but {', '.join(names) or 'none'}")
        return str(model)

    def _send(self, path: str, body: dict[str, Any] | None) -> Any:
        """The reply as JSON; ValueError where the server refuses, AnswererLost where it is not there or too busy."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/{path}", data, headers)  # noqa: S310 - http(s), checked
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310 - as above
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                why = f"{error.code}: {' '.join(error.read().decode('utf-8', 'replace').split())[:MAX_CHARACTERS]}"
                if error.code not in BUSY:
                    raise ValueError(f"the server refuses with {why}") from error
            except json.JSONDecodeError as error:
                raise ValueError("the server's reply is no JSON") from error
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
            if attempt + 1 < TRIES:
                time.sleep(WAIT * 2**attempt)
        raise AnswererLost(why)


def _body(decoding: Decoding) -> dict[str, Any]:
    """How an answer is chosen, in the interface's fields and vLLM's further ones."""
    body: dict[str, Any] = {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature}
    if decoding.repetition_penalty != 1:
        body["repetition_penalty"] = decoding.repetition_penalty
    if decoding.is_greedy:
        return body
    most = {"top_k": decoding.top_k} if decoding.top_k else {}
    return body | {"top_p": decoding.top_p, "seed": decoding.seed, **most}
