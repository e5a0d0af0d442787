"""Colour leak: how often an instance wears its neighbour's colour.

Measured on instances that have a neighbour (another instance of the same picture) of another colour than their
own. A leak is a judged colour that is not the instance's own and is the colour of a neighbour.
"""

from collections.abc import Sequence


def of_picture(own: Sequence[str | None], judged: Sequence[str]) -> list[bool | None]:
    """Per instance of one picture: whether a neighbour's colour leaked; None where that cannot be said."""
    return [_leaked(index, own, judged[index]) for index in range(len(own))]


def _leaked(index: int, own: Sequence[str | None], judged: str) -> bool | None:
    if own[index] is None:
        return None
    others = {colour for place, colour in enumerate(own) if place != index} - {None, own[index]}
    return judged in others if others else None
