"""The line on the terminal that says what is going on.

Owns that line, and the guess how long it will go on. On what is no terminal, it is a line now and then.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TextIO

#: Seconds between lines where there is no terminal.
QUIET = 15.0
#: Seconds after which a guess is corrected by what was so far.
SURE = 5.0


class Progress:
    """Counts samples down."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        #: What each sample that is to come is guessed to take; and the sums of those that were taken.
        self._guesses: deque[float] = deque()
        self._guessed = self._took = 0.0
        self._all = 0
        self._began = 0.0
        self._last = 0.0
        self._shown = False

    def begin(self, guesses: Sequence[float]) -> None:
        """All samples that are to come, in their order, as the seconds that each may take."""
        self._guesses = deque(guesses)
        self._guessed = self._took = 0.0
        self._all = len(guesses)

    def show(self, cell: str, arm: str, more: str) -> None:
        """This is being measured."""
        self._began = time.monotonic()
        done = self._all - len(self._guesses)
        text = f"[{done + 1}/{self._all}] {cell} · {arm} · {more} · {_minutes(self.seconds_left)} left"
        if self._live:
            self._clear()
            self._out.write(text[: shutil.get_terminal_size().columns - 1])
            self._shown = True
        elif time.monotonic() - self._last > QUIET:
            self._last = time.monotonic()
            self._out.write(text + "\n")
        self._out.flush()

    def done(self) -> None:
        """What was shown has been done."""
        if self._guesses:
            self._guessed += self._guesses.popleft()
            self._took += time.monotonic() - self._began

    def skip(self) -> None:
        """A sample is not taken."""
        if self._guesses:
            self._guesses.popleft()

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
        """The guesses that are left, as wrong as the others have been."""
        wrong = self._took / self._guessed if self._guessed > SURE else 1.0
        return sum(self._guesses) * wrong

    def _clear(self) -> None:
        if self._shown:
            self._out.write("\r\033[K")
            self._shown = False


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
