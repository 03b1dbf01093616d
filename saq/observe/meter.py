"""What a worker's jobs of one queue came to.

Owns these numbers since the process began, in memory: how many were started, how they ended, how long they
waited and ran. They only go up. Must not know Prometheus. They are counted in the worker's loop and read from
any thread, so each is changed in a single step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from time import monotonic

from saq.job import Job, Status
from saq.queue.backend import Settlement
from saq.worker.tally import Tally

#: Upper bounds of the buckets, in seconds: from jobs that do next to nothing to those that take an hour.
BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
#: Stands for all functions that the worker does not know: anybody may enqueue any name.
UNKNOWN = "(unknown)"
#: How an attempt can end: the status of its job, or that it is tried again, was given back, or came too late.
OUTCOMES = ("complete", "failed", "aborted", "retried", "returned", "stale")


class Histogram:
    """How many durations lie within each of ``BOUNDS`` and not the one before; the last is for the rest."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Ending:
    """How many attempts ended like this, and how long their functions had run, if they had begun to."""

    __slots__ = ("count", "runs")

    def __init__(self) -> None:
        self.count = 0
        self.runs = Histogram()


class Cell:
    """What the jobs of one function came to."""

    __slots__ = (*OUTCOMES, "started", "waits")

    def __init__(self) -> None:
        self.started = 0
        self.waits = Histogram()
        self.complete = Ending()
        self.failed = Ending()
        self.aborted = Ending()
        self.retried = Ending()
        self.returned = Ending()
        self.stale = Ending()

    def endings(self) -> list[tuple[str, Ending]]:
        """By outcome."""
        return [(outcome, getattr(self, outcome)) for outcome in OUTCOMES]


class Meter(Tally):
    """Counts for a monitor beside what every worker tallies.

    Args:
        functions: the names that the worker knows.
    """

    def __init__(self, functions: Iterable[str]) -> None:
        super().__init__()
        self._unknown = Cell()
        #: By function.
        self.cells = {**{name: Cell() for name in functions}, UNKNOWN: self._unknown}
        #: Leases that were lost.
        self.lost = 0

    def start(self, job: Job) -> None:
        """An attempt begins."""
        cell = self.cells.get(job.function, self._unknown)
        cell.started += 1
        if job.attempts == 1:
            due = max(job.queued, job.scheduled * 1000) if job.scheduled else job.queued
            cell.waits.add(max(0.0, (job.started - due) / 1000))
        # Until it is settled, the job itself carries what is known of the attempt.
        job.__dict__["_cell"] = cell

    def add(self, job: Job, began: float) -> None:
        """Its function has ended."""
        job.__dict__["_took"] = monotonic() - began
        Tally.add(self, job, began)

    def add_failure(self, job: Job) -> None:
        """The attempt has failed."""
        job.__dict__["_tripped"] = True
        super().add_failure(job)

    def settled(self, done: Sequence[Settlement], verdicts: Sequence[Status | None]) -> None:
        """The server has taken these attempts as ended."""
        for settlement, status in zip(done, verdicts, strict=True):
            notes = settlement.job.__dict__
            cell: Cell | None = notes.pop("_cell", None)
            if cell is None:
                continue  # claimed, and given back before it was started
            if status is Status.COMPLETE:
                ending = cell.complete
            elif status is None:
                ending = cell.stale
            elif status is Status.QUEUED:
                ending = cell.retried if notes.pop("_tripped", False) else cell.returned
            else:
                ending = cell.failed if status is Status.FAILED else cell.aborted
            ending.count += 1
            took = notes.pop("_took", None)
            if took is not None:
                ending.runs.add(took)
