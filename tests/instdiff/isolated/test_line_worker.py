"""A model in an environment of its own: what it is told, what it answers, and what is said of its end."""

import sys
from pathlib import Path

import pytest

from instdiff.isolated.line_worker import OTHERS, LineWorker, WorkerDied

SCRIPT = """
import os


class Model:
    def __init__(self, words):
        self.hello = {"words": words, "environment": dict(os.environ)}

    def answer(self, question):
        print("what it says to people goes elsewhere")
        if "raises" in question:
            raise {"memory": MemoryError, "value": ValueError}[question["raises"]]("some")
        return {"twice": 2 * question["number"]}


def load(*words):
    return Model(words)
"""


def worker(folder: Path, script: str, *words: str) -> LineWorker:
    (folder / "script.py").write_text(script)
    return LineWorker("small", Path(sys.executable), folder / "script.py", words)


def test_a_worker_answers_what_it_is_asked_and_says_why_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OTHERS:
        monkeypatch.setenv(name, "ours")
    small = worker(tmp_path, SCRIPT, "a b", "c")
    assert small.hello["words"] == ["a b", "c"]
    environment = small.hello["environment"]
    assert not environment.keys() & set(OTHERS)
    assert (environment["HF_HUB_OFFLINE"], environment["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    assert small.ask({"number": 4}) == {"twice": 8}
    with pytest.raises(MemoryError, match="^MemoryError: some$"):
        small.ask({"raises": "memory"})
    with pytest.raises(RuntimeError, match="^ValueError: some$"):
        small.ask({"raises": "value"})
    assert small.ask({"number": 5}) == {"twice": 10}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import sys; sys.exit('a' * 50 + 'b' * 300)", "ended with 1: b{300}$"),
        ("import os; os._exit(3)", "ended with 3: without a word$"),
    ],
)
def test_of_a_worker_that_ends_its_last_three_hundred_characters_are_told(
    script: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(WorkerDied, match=f"^the small worker {says}"):
        worker(tmp_path, script)
