"""A finished run as an experiment of DVC: named, with its values, metrics and a Git reference; pushed; told of.

`dvc exp save` makes of the working tree what `dvc exp run` would have left, so that stages run in one way only.
"""

import subprocess
from collections.abc import Callable, Sequence

from prefect import runtime
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from flows.graph.nursery import Nursery
from flows.results.metrics import Change

Say = Callable[[str], None]


def named(name: str | None) -> str | None:
    """The name given, else one made of deployment and time; None for a run by hand, which is no experiment.

    Raises:
        ValueError: an experiment has that name already.
    """
    if name is None:
        deployment: str | None = runtime.deployment.name
        return f"{deployment}-{runtime.flow_run.scheduled_start_time:%Y%m%d-%H%M%S}" if deployment else None
    taken = subprocess.run(["git", "for-each-ref", f"refs/exps/*/*/{name}"], capture_output=True, text=True, check=True)
    if taken.stdout:
        raise ValueError(f"there is an experiment {name!r} already; `dvc exp remove {name}` forgets it")
    return name


def save(name: str, push: str | None, nursery: Nursery, say: Say) -> None:
    """Keep the tree as an experiment; push its reference to a Git remote and its files to DVC's default remote."""
    commands = [["exp", "save", "--name", name]] + ([["exp", "push", push, name]] if push else [])
    for words in commands:
        for line in nursery.lines(words, {}):
            if line.strip():
                say(line)


def tell(block: str, run: str, changed: Sequence[Change]) -> None:
    """Send what fell through a notification block, e.g. `slack-webhook/team`; silent when nothing fell."""
    fell = [change for change in changed if change.fell]
    if not fell:
        return
    import prefect.blocks.notifications  # noqa: F401  # makes the kinds of blocks known

    loaded = Block.load(block)
    if not isinstance(loaded, NotificationBlock):
        raise ValueError(f"configs/deployments.yaml: message: {block} is no notification block")
    subject = f"{run}: {len(fell)} metrics fell by more than their interval"
    loaded.notify("\n".join(map(str, fell)), subject)  # type: ignore[unused-coroutine]  # there is no event loop here
