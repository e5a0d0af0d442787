"""What a run is asked for: the values of an experiment with overrides, composed and checked before the tree changes."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flows.serving import confine
from instdiff.config import compose


def words(experiment: str, overrides: Sequence[str] | None) -> list[str]:
    """Hydra's overrides of a run."""
    return [*([] if experiment == "default" else [f"experiment={experiment}"]), *(overrides or [])]


def composed(experiment: str, overrides: Sequence[str] | None, *, by_form: bool) -> str:
    """The YAML text of a run's values.

    Raises:
        ValueError: a value is wrong, or leads out of the tree and comes from the form of the user interface.
    """
    text = compose.composed(words(experiment, overrides))
    if by_form:
        confine.check(text, compose.composed(words(experiment, [])), confine.allowed())
    compose.check(text)
    return text


def going_on(words: Sequence[str]) -> str:
    """Which values the tree has after a run that did not complete, and the commands to go on or back."""
    compose = ["python", "-m", "instdiff.config"]
    return (
        f"params.yaml has the values of this run ({shlex.join(words) or 'configs/ as they are'}). To go on with them: "
        f"`{shlex.join([*compose, *words])} && dvc repro`, or the same run again. To have configs/ as they are: "
        f"`{shlex.join(compose)}`"
    )


@contextmanager
def way_on(words: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Say how to go on where a run is cancelled or breaks."""
    try:
        yield
    except BaseException:
        say(going_on(words))
        raise
