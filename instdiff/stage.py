"""How a stage is started, and how it ends.

    python -m data_prep.caption --images A.parquet --captions B.parquet --stats C.json

A stage module defines `Params` and `run(*, <paths and names>, params) -> counts`. The command line gives the
paths (and, in a matrix, the item's name); params.yaml gives the values, under the module's own name. It ends with one
line of what it counted; a stage whose counts say that nothing is left for the next one is an error.
"""

import argparse
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from instdiff.config import values
from instdiff.files import atomic, value_faults
from instdiff.schema import Strict

Run = Callable[..., Mapping[str, float]]
PARAMS_FILE = Path("params.yaml")
TRACEBACKS = Path("runs/errors")
PACKAGES = ("instdiff", "data_prep", "eval")
_WORDS = "the template needs a word that the source does not give: caption.template='{category}', or caption=blip"
MENDS = {  # the commonest reason why nothing is left -> what to do about it
    "no_colour": _WORDS,
    "no_texture": _WORDS,
    "no_category": "the source names no categories: ground=grounding_dino finds instances by words",
    "no_box": "the source has no boxes: ground=grounding_dino finds instances by words",
    "not_given": "the source has none: ground=grounding_dino finds boxes, segment=sam masks, caption=blip captions",
    "no_mask": "the source has boxes and no masks: segment=sam makes masks of them, segment=box takes the boxes",
    "no_caption": "the source has no captions of instances: caption=blip, or caption.template='{category}'",
    "no_words": "the captioner said nothing: take other weights, or caption=template caption.template='{category}'",
    "nothing_found": "lower ground.detector.box_threshold, or give it other words (ground.detector.tags)",
    "no_tags": "there are no words to look for: captions are empty; give words by ground.detector.tags",
    "small_box": "lower annotate.min_box_size",
    "small_mask": "lower annotate.min_visible_area",
    "out_of_memory": "lower the stage's batch_size, and name the reason in work.retry",
}


def main(run: Run) -> None:
    """Run a stage from the command line and write what it counted to --stats."""
    run = _importable(run)
    options = vars(parser(run).parse_args())
    stats: Path = options.pop("stats")
    with sentences(section(run)):
        counts = run(**options, params=load_params(run))
        refuse_nothing(counts)
        with atomic.file(stats) as part:
            part.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    print(f"{section(run)}: {', '.join(f'{name} {value:g}' for name, value in counts.items())}", flush=True)


def refuse_nothing(counts: Mapping[str, float]) -> None:
    """ValueError where a stage leaves no instance to the next one, with the commonest reason and what to do about it.

    A stage that loses instances counts those it leaves as `kept`; the others count `instances`.
    """
    if counts.get("kept", counts.get("instances", 1)):
        return
    reasons = {key.partition("_")[2]: value for key, value in counts.items() if key.startswith(("failed_", "dropped_"))}
    if not reasons:
        raise ValueError("no instance came in: see what the stages before counted, and raise ingest.val_share for val")
    reason = max(reasons, key=lambda each: reasons[each])
    mend = f": {MENDS[reason]}" if reason in MENDS else ""
    of = f"of {counts['instances']:g} instances" if counts.get("instances") else "instance"
    raise ValueError(f"not one {of} is left: {reasons[reason]:g} are {reason}{mend}")


@contextmanager
def sentences(name: str) -> Iterator[None]:
    """End with one sentence where what was given is wrong; INSTDIFF_TRACEBACK=1 shows the traceback too."""
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("INSTDIFF_TRACEBACK") or not _ours(error):
            raise
        log = TRACEBACKS / f"{name}.txt"
        with atomic.file(log) as part:
            part.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        sys.exit(f"{name}: {error} (traceback: {log})")


def _ours(error: ValueError | OSError) -> bool:
    """Whether the error is a sentence for a person: raised by our code, or about a file by its name."""
    if isinstance(error, OSError) and error.filename is not None:
        return True
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    root = Path(__file__).parents[1]
    return raised.is_relative_to(root) and raised.relative_to(root).parts[0] in PACKAGES


def _importable(run: Run) -> Run:
    """The stage under its importable name, not `__main__`: what it sends to other machines is found there by name."""
    spec = sys.modules[run.__module__].__spec__
    assert spec is not None
    imported: Run = import_module(spec.name).run
    return imported


def section(run: Run) -> str:
    """The name of the stage, and of its section of params.yaml."""
    spec = sys.modules[run.__module__].__spec__
    assert spec is not None
    return spec.name.rpartition(".")[2]


def load_params(run: Run) -> Strict:
    """The stage's section of params.yaml, checked against its `Params`.

    The other sections are checked as well, unless they were: `dvc exp run -S` writes values that nobody has seen.

    Raises:
        ValueError: a sentence for each value that is wrong, of whichever stage.
    """
    name, sections = section(run), yaml.load(PARAMS_FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    if name not in sections:
        raise ValueError(f"{PARAMS_FILE} has no section {name}; `python -m instdiff.config` writes it")
    own = values.section(sections, name)
    try:
        params: Strict = sys.modules[run.__module__].Params.model_validate(own)
    except ValidationError as error:
        raise ValueError(f"{PARAMS_FILE}: {'; '.join(value_faults.explained(error, name, own))}") from None
    values.check(sections, but=name)
    return params


def arguments(run: Run) -> dict[str, Any]:
    """Names and types (Path, or str for a matrix item) of what the command line must give."""
    signature = inspect.signature(run, eval_str=True).parameters
    return {name: parameter.annotation for name, parameter in signature.items() if name != "params"}


def parser(run: Run) -> argparse.ArgumentParser:
    """A command line that takes each argument of `run`, and --stats."""
    options = argparse.ArgumentParser(description=run.__doc__)
    for name, kind in {**arguments(run), "stats": Path}.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True)
    return options
