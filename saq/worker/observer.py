"""Who watches a worker at work.

Owns the interface between a worker and its observer, which is that of ``saq.observe``. Must not know what is
made of it. A worker that nobody watches does nothing for an observer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from saq.job import Job
from saq.queue.backend import Settlement, Step
from saq.queue.base import Queue
from saq.worker.run import Run
from saq.worker.tally import Tally


class Watch(Protocol):
    """Told what a worker does with one of its queues, in the worker's loop. Must be quick, and not raise."""

    @property
    def tally(self) -> Tally:
        """Counts attempts as they end, in the place of the worker's own."""

    def counting(self, start: Callable[[Job], Run]) -> Callable[[Job], Run]:
        """What starts a job, and is noticed."""

    def stepped(self, done: Sequence[Settlement], step: Step, wanted: int) -> None:
        """A step was answered that settled these attempts and asked for so many jobs."""

    def lost(self, job: Job) -> None:
        """The lease of a job that runs was lost."""


class Observer(Protocol):
    """Watches a worker."""

    def watch(self, queue: Queue) -> Watch:
        """The same one for a queue each time."""

    def begin(self, runs: Sequence[Mapping[str, Run]]) -> None:
        """The worker claims from now on. ``runs``, by key, is always what runs."""

    def end(self) -> None:
        """It claims nothing more."""

    async def beat(self) -> float:
        """Called again and again, each time after as many seconds as it has returned."""
