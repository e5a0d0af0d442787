"""What the report draws beside pictures and layouts: training curves as SVG."""

from typing import NamedTuple

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 300.0, 120.0  # of a curve, in SVG units
MAX_KNOTS = 400  # of a curve; longer logs are averaged


class Curve(NamedTuple):
    """A column of the training log."""

    name: str
    path: str  # SVG, in WIDTH x HEIGHT
    first: str  # labels of the axes' ends
    last: str
    low: str
    high: str
    final: str


def curves(log: pd.DataFrame) -> list[Curve]:
    """One curve for each numeric column of a training log but step and seconds."""
    numbers = log.select_dtypes("number")
    steps = numbers["step"] if "step" in numbers else pd.Series(range(len(log)), dtype=float)
    names = [name for name in numbers.columns if name not in {"step", "seconds"} and numbers[name].notna().sum() > 1]
    return [_curve(str(name), steps[numbers[name].notna()], numbers[name].dropna()) for name in names]


def _curve(name: str, steps: pd.Series, values: pd.Series) -> Curve:
    """Averaged to at most MAX_KNOTS, so that neither noise nor a long log fills the page."""
    pieces = min(MAX_KNOTS, len(values))
    x = np.array([part.mean() for part in np.array_split(steps.to_numpy(float), pieces)])
    y = np.array([part.mean() for part in np.array_split(values.to_numpy(float), pieces)])
    low, high = float(y.min()), float(y.max())
    across = (x - x[0]) / ((x[-1] - x[0]) or 1) * WIDTH
    down = HEIGHT - (y - low) / ((high - low) or 1) * HEIGHT
    knots = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    labels = (f"{steps.iloc[0]:g}", f"{steps.iloc[-1]:g}", f"{low:.3g}", f"{high:.3g}", f"{y[-1]:.3g}")
    return Curve(name, "M" + knots, *labels)
