"""What a backend of the queue provides.

Owns the primitive operations and the values that they exchange with a worker. Must not hold any of their
logic: what users call is made of these in `base.py`, and `redis/` does them on Redis. The suite in
`tests/conformance` says how each behaves.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from saq.job import Job, Status
from saq.queue.views import Place, Report, Views
from saq.types import CountKind, QueueInfo, WorkerInfo


class Settlement(NamedTuple):
    """How an attempt ended, ready to be sent: made by a ``settle_…`` method, handed to ``step``."""

    job: Job
    status: Status
    member: bytes
    head: bytes
    body: bytes


class Step(NamedTuple):
    """What a step brought.

    Args:
        verdicts: for each settlement the status that it led to, or None if it was stale.
        jobs: claimed, and owned by this process from now on.
        wait: seconds until the next scheduled job is due, or None.
        more: whether work was left behind.
        paused: whether the queue hands out nothing at present.
    """

    verdicts: list[Status | None]
    jobs: list[Job]
    wait: float | None
    more: bool
    paused: bool


class Finding(NamedTuple):
    """Something that a repair found wrong.

    Args:
        kind: what it is, in a word.
        key: that of the job, or the name of something that is no job.
        wrong: what is wrong with it.
        remedy: what is done about it, or has to be.
        mended: whether that is done.
    """

    kind: str
    key: str
    wrong: str
    remedy: str
    mended: bool


class Progress(NamedTuple):
    """How far a repair has come.

    Args:
        part: what is looked through at present; 'done' at the end.
        looked, total: entries of it.
        tidied: what was put in order so far without being a fault: entries whose records have expired.
    """

    part: str
    looked: int
    total: int
    tidied: int


class Claimant(Protocol):
    """Who claims jobs from a queue: told what happens to them from outside."""

    id: str

    def on_abort(self, job: Job, reason: str) -> None:
        """A job that it runs shall end."""

    def on_lost(self, job: Job) -> None:
        """A job that it runs belongs to somebody else by now."""

    def on_news(self) -> None:
        """There may be something to claim: look."""

    def on_quiet(self, quiet: bool) -> None:
        """It shall take no jobs for the time being, or take jobs again."""


class Backend(ABC):
    """The operations that differ from server to server. `Queue` is the whole."""

    @abstractmethod
    async def connect(self) -> None:
        """Connects now rather than at the first use. Raises ``UnreachableError``."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Closes all connections. The queue can be used again, and connects anew then."""

    @abstractmethod
    def job_id(self, job_key: str) -> str:
        """The full name of a job."""

    @property
    @abstractmethod
    def views(self) -> Views:
        """What is read of it to be shown."""

    @abstractmethod
    async def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> QueueInfo:
        """Workers and counts, and with ``jobs`` a page of the incomplete ones: running, queued, scheduled."""

    @abstractmethod
    async def count(self, kind: CountKind) -> int:
        """How many jobs are queued, active, scheduled, or incomplete (all three)."""

    @abstractmethod
    async def jobs(self, job_keys: Iterable[str]) -> list[Job | None]:
        """The jobs of these keys as they are now, None for each that does not exist."""

    @abstractmethod
    def iter_jobs(
        self, statuses: Iterable[Status] = tuple(Status), batch_size: int = 100
    ) -> AsyncIterator[Job]:
        """All jobs in one of these statuses: incomplete ones, and finished ones that are still kept."""

    @abstractmethod
    async def wait(self, key: str, timeout: float | None = None) -> Job | None:
        """The job when it has ended, at once if it has; None if there is no such job.

        Raises:
            TimeoutError: it did not end in ``timeout`` seconds.
        """

    @abstractmethod
    async def _send(self, jobs: Sequence[Job]) -> list[bool]:
        """Takes in new jobs, all or each of them, in order. False for a key that is incomplete."""

    @abstractmethod
    async def _send_and_wait(self, jobs: Sequence[Job]) -> list[asyncio.Future[Job | None]]:
        """Takes in new jobs, or attaches to those that are incomplete. The futures hold them as they end."""

    @abstractmethod
    def serialize(self, job: Job) -> bytes:
        """A job as bytes that ``deserialize`` reads."""

    @abstractmethod
    def deserialize(self, payload: dict[str, Any] | bytes | str | None) -> Job | None:
        """A job from what ``serialize`` or ``to_dict`` made. Raises ``DecodeError``."""

    @abstractmethod
    async def step(self, done: Sequence[Settlement], claims: int) -> Step:
        """Settles attempts that ended and claims up to ``claims`` jobs, in one round trip."""

    @abstractmethod
    def settle(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> Settlement:
        """Ends a claimed job. Raises ``SerializationError`` if the result cannot be stored."""

    @abstractmethod
    def settle_retry(self, job: Job, error: str | None, delay: float) -> Settlement:
        """The attempt failed and shall be made again after ``delay`` seconds."""

    @abstractmethod
    def settle_return(self, job: Job, reason: str, delay: float = 0.0) -> Settlement:
        """The attempt was interrupted; that is not the job's fault."""

    @abstractmethod
    def settle_unknown(self, job: Job, delay: float) -> Settlement:
        """This process does not know the function. Some other worker may."""

    @abstractmethod
    def settle_unstarted(self, job: Job) -> Settlement:
        """Claimed, and given back before it was started: as if it had not been claimed."""

    @abstractmethod
    async def wait_for_work(self, timeout: float) -> None:
        """Waits until there may be something to claim, ``timeout`` seconds at the most."""

    @abstractmethod
    async def claim_when_woken(self, claims: int, timeout: float) -> Step:
        """The same, and claims up to ``claims`` jobs in that very moment, without a round trip between."""

    @abstractmethod
    def stop_waiting_for_work(self) -> None:
        """Has a ``claim_when_woken`` return at once."""

    @abstractmethod
    async def attach(self, claimant: Claimant, lease: float, max_lost: int) -> None:
        """From now on, this process claims for ``claimant``."""

    @abstractmethod
    async def detach(self, claimant: Claimant) -> None:
        """It claims no more: its registration goes, what it still holds runs out."""

    @abstractmethod
    def hold(self, job: Job, seconds: float) -> None:
        """Renews the lease of a claimed job for so long, and then no more: it ran for longer than it may."""

    @abstractmethod
    async def still_owned(self, job: Job) -> bool:
        """Whether a job that was claimed some time ago, and has not been started, is still this process's.

        If it is, its lease is renewed. Waits for the server as long as it takes.
        """

    @abstractmethod
    async def register(self, worker_id: str, info: WorkerInfo, functions: Iterable[str], ttl: float) -> None:
        """Says for ``ttl`` seconds that a worker lives and which functions it knows; 0 takes it back."""

    @abstractmethod
    async def report(self, worker_id: str, report: Report) -> bool:
        """Hands in what a registered worker says of itself. Whether it shall take no jobs at present."""

    @abstractmethod
    async def tick(self, entry: str, at: float, job: Job) -> str:
        """Enqueues the job of a cron tick (epoch seconds), once however many workers say so.

        Returns 'first' (a new entry: only recorded), 'enqueued', 'done' (by another) or 'running' (skipped:
        the job of the tick before is incomplete).
        """

    @abstractmethod
    async def server_time(self) -> float:
        """The clock that decides, epoch seconds."""

    @abstractmethod
    async def schedule(self, lock: int = 1) -> list[str]:
        """Moves what is due into the queue, and returns the ids. Workers do this as they claim."""

    @abstractmethod
    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        """Takes back jobs whose lease ran out, and returns the ids. Both parameters have no effect."""

    @abstractmethod
    async def notify(self, job: Job) -> None:
        """Tells listeners the status of this handle."""

    @abstractmethod
    async def update(self, job: Job, **fields: Any) -> None:
        """Changes stored fields of a job, and is its heartbeat. Never its status.

        Raises:
            StaleError: this process claimed the job and does not own it any more.
        """

    @abstractmethod
    async def retry(self, job: Job, error: str | None) -> bool:
        """Owner: ends the attempt and has it made again. Guest: enqueues a finished job again.

        Returns whether anything changed. Raises ``RunningError`` for a guest of a running job.
        """

    @abstractmethod
    async def finish(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> bool:
        """Ends a job with that outcome. A guest may end one that waits.

        Returns whether anything changed. Raises ``RunningError`` for a guest of a running job, and
        ``StaleError`` for an owner that is none any more.
        """

    @abstractmethod
    async def abort(self, job: Job, error: str, ttl: float = 5, *, only: Place | None = None) -> bool:
        """Ends a job that waits, at once, or asks for the end of one that runs.

        Returns False if it had ended or never was. ``ttl`` has no effect: the intent lasts as the job does.

        Raises:
            StaleError: it is elsewhere than in ``only``, where the caller has seen it.
        """

    @abstractmethod
    async def pause(self) -> None:
        """Hands out no more jobs, to any worker, until ``resume``. Running ones go on."""

    @abstractmethod
    async def resume(self) -> None:
        """Hands out jobs again."""

    @abstractmethod
    async def delete(self, key: str, *, only: Place | None = None) -> bool:
        """Removes a job that does not run, and what is kept of it. Returns whether there was one.

        Raises:
            RunningError: it runs.
            StaleError: it is elsewhere than in ``only``, where the caller has seen it.
        """

    @abstractmethod
    async def requeue(self, key: str, *, only: Place | None = None) -> bool:
        """Enqueues a finished job again, its attempts forgotten. Returns False if it has not finished.

        Raises:
            RunningError: it runs.
            StaleError: it is elsewhere than in ``only``, where the caller has seen it.
        """

    @abstractmethod
    async def run_now(self, key: str, *, only: Place | None = None) -> bool:
        """Queues a scheduled job at once, or a finished one again. Returns whether anything changed.

        Raises:
            StaleError: it is elsewhere than in ``only``, where the caller has seen it.
        """

    @abstractmethod
    async def _listen(self, job_keys: list[str], take: Callable[[str, Status], Awaitable[bool]]) -> None:
        """Hands each change of these jobs to ``take`` until that returns true."""

    @abstractmethod
    def repair(self, *, dry_run: bool = False) -> AsyncIterator[Finding | Progress]:
        """Checks what the server holds of this queue against itself, and mends what does not fit.

        Workers and producers may go on meanwhile. With ``dry_run`` it only says what it finds.
        """

    @abstractmethod
    async def check(self) -> list[str]:
        """What of the server's settings may lose jobs, and what to set; a sentence each.

        Raises:
            ServerError: the server is too old.
        """
