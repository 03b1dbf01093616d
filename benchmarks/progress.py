"""The line on the terminal that says what is going on.

Owns that line, and the guess how long it will go on. On what is no terminal, it is a line now and then.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

#: Seconds between lines where there is no terminal.
QUIET = 15.0


class Progress:
    """Counts samples down."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._left: Counter[str] = Counter()
        self._guess: dict[str, float] = {}
        self._took: dict[str, list[float]] = {}
        self._all = 0
        self._last = 0.0
        self._shown = False

    def begin(self, samples: Sequence[tuple[str, float]]) -> None:
        """All samples that are to come, as (measure, seconds)."""
        self._left = Counter(measure for measure, _ in samples)
        self._guess = dict(samples)
        self._all = len(samples)

    def show(self, cell: str, arm: str, more: str) -> None:
        """This is being measured."""
        done = self._all - self._left.total()
        text = f"[{done + 1}/{self._all}] {cell} · {arm} · {more} · {_minutes(self.seconds_left)} left"
        if self._live:
            self._clear()
            self._out.write(text[: shutil.get_terminal_size().columns - 1])
            self._shown = True
        elif time.monotonic() - self._last > QUIET:
            self._last = time.monotonic()
            self._out.write(text + "\n")
        self._out.flush()

    def done(self, measure: str, seconds: float) -> None:
        """A sample was taken."""
        self._left[measure] -= 1
        self._took.setdefault(measure, []).append(seconds)

    def skip(self, measure: str) -> None:
        """A sample is not taken."""
        self._left[measure] -= 1

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        self._out.write(text + "\n")
        self._out.flush()

    def end(self) -> None:
        """There is no more."""
        self._clear()
        self._out.flush()

    @property
    def seconds_left(self) -> float:
        left = 0.0
        for measure, count in self._left.items():
            took = self._took.get(measure)
            left += count * (sum(took) / len(took) if took else self._guess[measure])
        return left

    def _clear(self) -> None:
        if self._shown:
            self._out.write("\r\033[K")
            self._shown = False


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
