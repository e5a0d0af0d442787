"""The command `instdiff`: one line a command, each run by the `main(arguments)` of its own module.

A command's module is imported when it is asked for, and only then: this file stands below all of them.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS: dict[str, tuple[str, str]] = {  # name -> module, what it does
    "export-labelled": ("data_prep.commands.export_labelled", "write shards as the reference's training files"),
    "push-shards": ("data_prep.commands.push_shards", "copy shards to S3 or another store"),
    "validate shards": (
        "data_prep.commands.validate_shards",
        "read every sample of a folder of shards and name its faults",
    ),
    "bench": ("eval.bench", "judge any model's pictures on public benchmarks, and show the leaderboard"),
    "coco": ("eval.benchmarks.build_coco_control", "build COCO's benchmark of instance control from its stock files"),
    "compare": ("eval.compare", "what changed between two results, and which instances most"),
    "detect": ("eval.detect_command", "find the instances of layouts in any pictures"),
    "evaluate": ("eval.evaluate", "judge any model's pictures of layouts"),
    "generate": ("instdiff.app.generate", "draw the layouts of a JSON file"),
    "import-weights": ("instdiff.app.import_weights", "make published weights the foundation of a run"),
    "page": ("instdiff.app.page", "draw layouts with the mouse on a local web page and see their pictures"),
    "validate": ("instdiff.app.validate", "tell every fault of layout files by record and field"),
    "launch": ("instdiff.app.launch", "train on a SLURM cluster"),
    "grid": ("flows.grid", "queue a grid of experiments, or show the table of those that have run"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command named first; a fault in what was given is one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        print(usage())
        return
    name, rest = _named(words)
    if name not in COMMANDS:
        sys.exit(f"instdiff: there is no command {name!r}\n\n{usage()}")
    try:
        import_module(COMMANDS[name][0]).main(rest)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes once more as it ends
    except (ValueError, OSError) as error:
        print(f"instdiff {name}: {error}", file=sys.stderr)
        sys.exit(2)


def _named(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command, of two words or one, and its arguments."""
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    return " ".join(words[:length]), words[length:]


def usage() -> str:
    """What there is to run."""
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in sorted(COMMANDS.items())]
    return "\n".join(["usage: instdiff COMMAND ...", "", *lines, "", "instdiff COMMAND --help tells its options."])


if __name__ == "__main__":
    main()
