"""What the jobs of a worker process came to: how many started, how they ended, how long they waited and ran.

Owns these numbers since the process began, in memory; they only go up. Must not know Prometheus. They are
counted in the worker's loop and read from any thread, so each is changed in a single step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import product
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

Function = tuple[str, str]
Ending = tuple[str, str, str]


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


class Meter(Tally):
    """Counts for a monitor beside what every worker tallies.

    Args:
        queues, functions: the names that the worker knows.
    """

    def __init__(self, queues: Collection[str], functions: Collection[str]) -> None:
        super().__init__()
        self._functions = functions
        #: By queue and function.
        self.started: defaultdict[Function, int] = defaultdict(int)
        self.waits: defaultdict[Function, Histogram] = defaultdict(Histogram)
        #: By queue, function and outcome.
        self.ended: defaultdict[Ending, int] = defaultdict(int)
        self.runs: defaultdict[Ending, Histogram] = defaultdict(Histogram)
        #: By queue.
        self.lost = dict.fromkeys(queues, 0)
        # What has not happened yet is 0, not missing: a rate sees the first one, too.
        for known in product(queues, sorted(functions)):
            self.started[known] = 0
            for outcome in ("complete", "failed", "retried"):
                self.ended[*known, outcome] = 0

    def start(self, job: Job) -> None:
        """An attempt begins."""
        function = self._of(job)
        self.started[function] += 1
        if job.attempts == 1:
            due = max(job.queued, job.scheduled * 1000) if job.scheduled else job.queued
            self.waits[function].add(max(0.0, (job.started - due) / 1000))

    def add(self, job: Job, began: float) -> None:
        """Its function has ended. How the attempt ends is known later: the job carries the time till then."""
        job.__dict__["_took"] = monotonic() - began
        super().add(job, began)

    def add_failure(self, job: Job) -> None:
        """An attempt has failed."""
        job.__dict__["_tripped"] = True
        super().add_failure(job)

    def settled(self, done: Sequence[Settlement], verdicts: Sequence[Status | None]) -> None:
        """The server has taken these attempts as ended."""
        for settlement, status in zip(done, verdicts, strict=True):
            job = settlement.job
            notes = job.__dict__
            took, tripped = notes.pop("_took", None), notes.pop("_tripped", False)
            if status is None:
                outcome = "stale"
            elif status is not Status.QUEUED:
                outcome = status.value
            elif tripped:
                outcome = "retried"
            elif took is None and job.function in self._functions:
                continue  # claimed, and given back before it was started
            else:
                outcome = "returned"
            ending = (*self._of(job), outcome)
            self.ended[ending] += 1
            if took is not None:
                self.runs[ending].add(took)

    def lose(self, job: Job) -> None:
        """Its lease was lost while it ran."""
        queue = self._of(job)[0]
        self.lost[queue] = self.lost.get(queue, 0) + 1

    def _of(self, job: Job) -> Function:
        assert job.queue is not None
        return job.queue.name, job.function if job.function in self._functions else UNKNOWN
