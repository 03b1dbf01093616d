"""What is read of a queue to be shown, and what its workers report for that.

Owns these values, and the interface that reads them. Must not know Redis or HTTP.

Nothing here costs more on a queue of a million jobs than on one of ten: counts are those that a server knows,
and a list is read from a place on, in bounded slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from saq.job import Job
from saq.queue.history import Buckets, History
from saq.types import WorkerInfo

#: Where a job is listed, each in an order of its own: that in which they will run, by due time, the longest
#: running first, and the last two the newest first.
State = Literal["queued", "scheduled", "active", "finished", "failed"]
STATES: tuple[State, ...] = ("queued", "scheduled", "active", "finished", "failed")
#: Where a job is, as an operation may ask for it.
Place = Literal["queued", "scheduled", "active", "finished"]

#: Counters of a queue since it exists; they only go up.
COUNTERS = ("enqueued", "complete", "failed", "aborted", "retried", "lost")


#: So many names of functions are read at the most.
MOST_FUNCTIONS = 200


class Counts(NamedTuple):
    """A queue at one moment, all times in milliseconds.

    Args:
        now: when that was.
        queued, scheduled, active, incomplete: jobs.
        finished, failed: records that are kept; of the finished some may have outlived their time.
        paused: since when, or 0.
        due: when the next scheduled job is, or 0.
        oldest: since when the job waits that waits longest, or 0.
        workers: how many live.
        stats: the counters.
    """

    now: int
    queued: int
    scheduled: int
    active: int
    finished: int
    failed: int
    incomplete: int
    paused: int
    due: int
    oldest: int
    workers: int
    stats: Mapping[str, int]


class Mark(NamedTuple):
    """A place in a list: behind the job of that score and key, whatever comes and goes around it."""

    score: bytes
    key: bytes


class Slice(NamedTuple):
    """Part of a list.

    Args:
        now: when it was read.
        total: how many jobs are in the list.
        position: how many of them lie before this slice.
        looked: how many were looked at.
        jobs: those of them that are there; with the place behind each, and how many had been looked at.
        end: the place behind all that was looked at, or None: the list ends here.
    """

    now: int
    total: int
    position: int
    looked: int
    jobs: list[tuple[Job, Mark, int]]
    end: Mark | None


class Attempt(NamedTuple):
    """One attempt of a job.

    Args:
        number: which one it was.
        started, ended: when, in milliseconds; ``ended`` is 0 while it runs.
        worker: who made it.
        outcome: 'retried', 'returned' (given back, uncounted), 'lost', 'overtime', or the status in which it
            ended the job; '' while it runs.
        error: the last lines of it.
    """

    number: int
    started: int
    ended: int
    worker: str
    outcome: str
    error: str


class Running(NamedTuple):
    """A job that runs: which one, since when, and until when its lease holds if nobody renews it."""

    key: str
    worker: str
    started: int
    leased: int


class WorkerView(NamedTuple):
    """A registered worker.

    Args:
        id: its name.
        info: what it registered.
        about: what it reported of itself, if it has: see ``Report``.
        seen, expires: when it registered, and until when that holds.
        reported: when ``about`` was said, or 0.
        quiet: until when it takes no jobs, or 0.
    """

    id: str
    info: WorkerInfo
    about: Mapping[str, Any]
    seen: int
    expires: int
    reported: int
    quiet: int


class WorkersView(NamedTuple):
    """Who works, and at what. ``partial``: more jobs run than are listed."""

    now: int
    workers: list[WorkerView]
    running: list[Running]
    partial: bool


class CronEntry(NamedTuple):
    """A cron entry, as a worker reports it.

    Args:
        name: its identity: function, expression and arguments.
        cron: the expression.
        timezone: its name.
        unique: whether all its jobs have one key.
        job: the job that a tick enqueues.
    """

    name: str
    cron: str
    timezone: str
    unique: bool
    job: Job


class EntryView(NamedTuple):
    """A cron entry that live workers have. ``last`` is its latest tick in milliseconds, or 0."""

    entry: CronEntry
    last: int
    workers: int


class Report(NamedTuple):
    """What a worker says of itself now and then.

    Args:
        about: host, pid, version, …: plain JSON.
        entries: its cron entries.
        waits: how long jobs had waited that were started since the last report.
        functions: for each function how many attempts have failed since, and how long all of them took.
    """

    about: Mapping[str, Any]
    entries: Sequence[CronEntry]
    waits: Buckets
    functions: Mapping[str, tuple[int, Buckets]]


class Views(ABC):
    """Reads what is shown of a queue."""

    @abstractmethod
    async def counts(self) -> Counts:
        """How many jobs are where, and the counters."""

    @abstractmethod
    async def browse(
        self, state: State, after: Mark | None = None, *, look: int = 100, find: int = 100
    ) -> Slice:
        """A slice of a list, from the beginning or behind a place in it.

        It looks at ``look`` jobs at the most, and ends early when it has found ``find`` that are there, or
        read more than is good in one answer.
        """

    @abstractmethod
    async def incomplete(self, offset: int, limit: int) -> list[Job]:
        """A page of all incomplete jobs: running, queued, scheduled."""

    @abstractmethod
    async def jobs(self, keys: Sequence[str]) -> list[Job | None]:
        """The jobs of these keys. What cannot be read is shown as a job that says so, not raised."""

    @abstractmethod
    async def functions_of(self, keys: Sequence[str]) -> dict[str, str]:
        """By key which functions these jobs call; of those that are left out, they are gone, or reading them
        would be too much."""

    @abstractmethod
    async def workers(self) -> WorkersView:
        """The registered workers, and what runs."""

    @abstractmethod
    async def functions(self) -> list[str]:
        """Names of functions that live workers know."""

    @abstractmethod
    async def schedule(self) -> list[EntryView]:
        """The cron entries of live workers."""

    @abstractmethod
    async def history(self, hours: Iterable[int]) -> History:
        """What is written down of these hours (since the epoch)."""

    @abstractmethod
    def attempts(self, job: Job) -> list[Attempt]:
        """The attempts of a job as this handle knows them, the oldest first: the latest ten that did not end
        it, and the last one."""

    @abstractmethod
    async def quiet(self, worker_id: str, seconds: float) -> int | None:
        """Asks a worker to take no jobs for so long; 0 to take jobs again.

        Returns until when (milliseconds, 0 for not at all), or None if no such worker is registered.
        """
