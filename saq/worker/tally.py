"""What a worker's jobs have taken: how long they had waited, and how long they ran, by function.

Owns these counts, in memory. Must not know where they are sent, nor do anything that could fail a job.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import log2
from time import monotonic
from typing import NamedTuple

from saq.job import Job
from saq.queue.history import STEPS, Buckets, add_up

#: Buckets of one list: a negative index counts from its end, as a list's does.
_WIDTH = 256
#: Buckets from a millisecond to a second.
_MS = log2(1000) * STEPS


class Taken(NamedTuple):
    """What was counted in some time: waits, and for each function how many attempts failed and how long all
    of them ran."""

    waits: Buckets
    functions: Mapping[str, tuple[int, Buckets]]


class Tally:
    """Counts attempts as they end."""

    def __init__(self) -> None:
        #: By whole milliseconds: they are sorted into buckets when they are taken.
        self._waits: defaultdict[float, int] = defaultdict(int)
        self._runs: defaultdict[str, list[int]] = defaultdict(_nothing)
        self._failed: Counter[str] = Counter()

    def add(self, job: Job, began: float) -> None:
        """An attempt has ended that began then (monotonic). It is done for every job, and costs it 0.2 µs."""
        try:
            self._runs[job.function][int(log2(monotonic() - began) * STEPS)] += 1
        except (ValueError, IndexError):
            return  # it took no time at all, by this clock
        if job.attempts == 1:
            due = max(job.queued, int(job.scheduled * 1000)) if job.scheduled else job.queued
            self._waits[job.started - due] += 1

    def add_failure(self, job: Job) -> None:
        """An attempt has failed."""
        self._failed[job.function] += 1

    def take(self) -> Taken:
        """What was counted since the last time."""
        waits: dict[int, int] = {}
        for ms, count in self._waits.items():
            add_up(waits, {int(log2(max(0, ms) + 0.5) * STEPS - _MS): count})
        taken = Taken(
            waits,
            {
                name: (self._failed[name], _buckets(self._runs[name]))
                for name in dict.fromkeys([*self._runs, *self._failed])
            },
        )
        self._waits.clear()
        self._runs.clear()
        self._failed.clear()
        return taken


def _nothing() -> list[int]:
    return [0] * _WIDTH


def _buckets(counts: list[int]) -> dict[int, int]:
    half = _WIDTH // 2
    return {i if i < half else i - _WIDTH: count for i, count in enumerate(counts) if count}
