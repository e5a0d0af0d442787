"""Command lines whose faults are one sentence, and the numbers that options take."""

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

Value = TypeVar("Value")


class Parser(argparse.ArgumentParser):
    """argparse's, without the usage before a fault and without names cut short."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **how})

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')} ({self.prog} --help lists the options)\n")


def checked(check: Callable[[str], Value]) -> Callable[[str], Value]:
    """The type of an option that `check` reads: what its ValueError says is what the person sees."""

    def read(text: str) -> Value:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes whole numbers between these, both included."""

    @checked
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no whole number") from None
        _within(value, least, most)
        return value

    return read


def real(least: float, most: float | None = None, *, above: bool = False) -> Callable[[str], float]:
    """The type of an option that takes finite numbers between these, both included; `above` leaves `least` out."""

    @checked
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is no finite number")
        if above and value == least:
            raise ValueError(f"{text} must lie above {least}")
        _within(value, least, most)
        return value

    return read


def _within(value: float, least: float, most: float | None) -> None:
    if most is None and value < least:
        raise ValueError(f"{value} is less than {least}")
    if most is not None and not least <= value <= most:
        raise ValueError(f"{value} does not lie between {least} and {most}")


SEED = whole(0, 2**63 - 1)
SHARE = real(0, 1)
PORT = whole(1, 65534)  # the next one, which is taken for a second server, exists too
