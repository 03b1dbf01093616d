"""Numbers made of samples.

Owns medians, spreads and percentiles, and how a number is written. Knows nothing of benchmarks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Summary(NamedTuple):
    """A figure: the median of its samples, and how far they lie apart."""

    median: float
    low: float
    high: float
    samples: int

    @property
    def spread(self) -> float:
        """The half of the range, as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summary(values: Sequence[float]) -> Summary | None:
    """The summary of some samples; None if there are none."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], p: float) -> float:
    """The smallest value below or at which ``p`` of 100 values lie."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)]


def number(value: float) -> str:
    """A number with three significant digits, thousands with commas."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = math.floor(math.log10(abs(value)))
    digits = 2 - size
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, digits)}f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds >= 1:
        return f"{number(seconds)} s"
    if seconds >= 1e-3:
        return f"{number(seconds * 1e3)} ms"
    return f"{number(seconds * 1e6)} µs"


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000 or unit == "MB":
            return f"{number(count)} {unit}"
        count /= 1000
    raise AssertionError
