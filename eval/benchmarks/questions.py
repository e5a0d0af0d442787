"""The wording of questions: ours, or a file with the benchmark's own, without which no number is comparable.

{"source": where the wording is from, "licence": its licence, "questions": {id: text with its {fields}}}
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from eval.benchmarks import benchmark_files
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.benchmark_files import FileRecord, Phrase, Text
from instdiff.files import provenance
from instdiff.files.texts import read_json

FIELD = re.compile(r"\{([a-z]+)\}")


class Wording(FileRecord):
    """A file of questions."""

    source: Phrase
    licence: Text = ""
    questions: dict[str, Phrase] = Field(min_length=1)


def read(benchmark: Benchmark, path: Path | None) -> tuple[Mapping[str, str], dict[str, object]]:
    """The questions by id, and what provenance says of them; ValueError names an id that is unknown, or its field."""
    if path is None:
        return benchmark.questions, {"source": "this repository's wording", "questions": dict(benchmark.questions)}
    wording = benchmark_files.parsed(Wording, read_json(path), str(path))
    for name, text in wording.questions.items():
        if name not in benchmark.questions:
            names = ", ".join(benchmark.questions) or "none"
            raise ValueError(f"{path}: questions.{name[:40]}: {benchmark.name} has no such question, but {names}")
        lacking = set(FIELD.findall(benchmark.questions[name])) - set(FIELD.findall(text))
        if lacking:
            raise ValueError(f"{path}: questions.{name}: {{{sorted(lacking)[0]}}} is missing in it")
    lacking = benchmark.questions.keys() - wording.questions.keys()
    if lacking:
        raise ValueError(f"{path}: questions: {sorted(lacking)[0]} is missing")
    stated = {"source": wording.source, "licence": wording.licence}
    return wording.questions, {**stated, "sha256": provenance.of_file(path)}
