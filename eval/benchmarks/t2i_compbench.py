"""T2I-CompBench's attribute binding: colours, shapes and textures of prompts without layouts.

T2I-CompBench 1b70949. Each noun chunk of a prompt is a question to a judge; a picture's value is the product of the
probabilities of yes. Chunks are spaCy's there: a file of them, {prompt: [chunk, ...]}, is read beside the prompts;
without it a prompt is split at "and" and at commas.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from eval.benchmarks import benchmark_files, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Reading, Value
from eval.benchmarks.case import SIDE, Case, ExpectedInstance, PictureName
from eval.benchmarks.view import View
from instdiff.files.texts import is_text, read_json, read_text

KINDS = {"color": "colour", "shape": "shape", "texture": "texture"}
MOST_CHUNKS = 8
_APART = re.compile(r"\s*(?:,|\band\b)\s*", re.IGNORECASE)
_WORDS = re.compile(r"[a-z0-9]+")
LONGEST = 90  # characters of a key
_SUFFIX = re.compile(r"_\d{6}$")


def read(paths: Sequence[Path]) -> Reading:
    """The prompts of color_val.txt, shape_val.txt, texture_val.txt, and the chunks of a JSON file."""
    chunks = _chunks([path for path in paths if path.suffix.lower() == ".json"])
    cases = []
    for path in paths:
        if path.suffix.lower() != ".json":
            kind = next((name for word, name in KINDS.items() if path.name.startswith(word)), None)
            if kind is None:
                raise ValueError(f"{path}: its name must begin with {', '.join(KINDS)}, as the benchmark's files do")
            cases += _of_kind(path, kind, chunks)
    lacking = sum(case.prompt not in chunks for case in cases)
    remark = f"{lacking} prompts were split at commas and 'and', not by spaCy: not comparable"
    return Reading(
        benchmark_files.checked(cases, ", ".join(map(str, paths)) or "no file"), (remark,) if lacking else ()
    )


def _of_kind(path: Path, kind: str, chunks: Mapping[str, Sequence[str]]) -> list[Case]:
    cases = []
    for number, line in enumerate(read_text(path).splitlines()):
        prompt = line.strip()
        if prompt:
            pieces = list(chunks.get(prompt, [])) or [piece for piece in _APART.split(prompt.strip(" .")) if piece]
            if not pieces:
                raise ValueError(f"{path}: line {number + 1}: {prompt[:40]!r} names nothing")
            instances = tuple(ExpectedInstance(phrase=piece, short=piece) for piece in pieces[:MOST_CHUNKS])
            part = (f"kind/{kind}",)
            cases.append(
                Case(
                    key=benchmark_files.key(slug(prompt), f"{path}: line {number + 1}"),
                    prompt=prompt,
                    instances=instances,
                    height=SIDE,
                    width=SIDE,
                    parts=part,
                )
            )
    return cases


def _chunks(paths: Sequence[Path]) -> dict[str, list[str]]:
    chunks: dict[str, list[str]] = {}
    for path in paths:
        for prompt, pieces in benchmark_files.named(read_json(path), str(path)).items():
            if not isinstance(pieces, list) or not all(
                isinstance(piece, str) and piece and is_text(piece) for piece in pieces
            ):
                raise ValueError(f"{path}: {prompt[:40]!r}: a list of texts is expected")
            chunks[prompt] = pieces
    return chunks


def measure(case: Case, view: View) -> Iterable[Value]:
    """The product of the probabilities of yes."""
    probabilities = [replies.probability(view, view.ask("chunk", chunk=instance.short)) for instance in case.instances]
    yield Value("binding", -1, math.prod(probabilities))


def named(path: PurePath) -> PictureName | None:
    """`<prompt>_<6 digits>.png`, or the key."""
    if len(path.parts) > 1:
        return None
    return PictureName(slug(_SUFFIX.sub("", path.stem)), path.stem[-6:] if _SUFFIX.search(path.stem) else "")


def slug(prompt: str) -> str:
    """The prompt as a key: its words with hyphens between them."""
    return "-".join(_WORDS.findall(prompt.lower()))[:LONGEST]


BENCHMARK = Benchmark(
    name="t2i-compbench",
    title="T2I-CompBench, attributes",
    source="T2I-CompBench 1b70949 (BLIPvqa_eval/BLIP_vqa.py)",
    licence="MIT",
    files="color_val.txt, shape_val.txt, texture_val.txt; and {prompt: [noun chunk, ...]} as JSON",
    judges="BLIP-VQA base, the probability of yes (the answer's text is that number)",
    needs=frozenset({"answers"}),
    read=read,
    measures={"binding": Measure("BLIP-VQA", "product of the probabilities of yes over noun chunks", of="picture")},
    measure=measure,
    absent="left out",
    comparable="with BLIP-VQA's probabilities and spaCy's noun chunks; answers of yes and no are another number",
    named=named,
    pictures="<prompt>_<6 digits>.png, or <key>.png",
    questions={"chunk": "{chunk}?"},
)
