"""A job: what was asked for and what became of it.

Owns ``Job``, ``Status`` and the one table of legal status changes. Must not know how a job is stored or run.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, ClassVar

from saq._speedups import new_key
from saq.cron import CronJob as CronJob
from saq.utils import exponential_backoff, now, seconds

if TYPE_CHECKING:
    from saq.queue.base import Queue
    from saq.types import DurationKind


class Status(str, enum.Enum):  # noqa: UP042 - `str()` of a StrEnum differs
    """Where a job is in its life."""

    NEW = "new"
    QUEUED = "queued"
    ACTIVE = "active"
    ABORTING = "aborting"
    ABORTED = "aborted"
    FAILED = "failed"
    COMPLETE = "complete"


ACTIVE_STATUSES = {Status.NEW, Status.QUEUED, Status.ACTIVE}
UNSUCCESSFUL_TERMINAL_STATUSES = {Status.ABORTED, Status.FAILED}
TERMINAL_STATUSES = {Status.COMPLETE} | UNSUCCESSFUL_TERMINAL_STATUSES

#: Every legal change of status, and what makes it. Nothing else ever happens to a job.
STATUS_CHANGES: dict[tuple[Status, Status], str] = {
    (Status.NEW, Status.QUEUED): "enqueue",
    (Status.QUEUED, Status.ACTIVE): "claim",
    (Status.QUEUED, Status.ABORTED): "abort, or finish by a guest",
    (Status.QUEUED, Status.COMPLETE): "finish by a guest",
    (Status.QUEUED, Status.FAILED): "finish by a guest",
    (Status.ACTIVE, Status.COMPLETE): "finish by the owner",
    (Status.ACTIVE, Status.FAILED): "finish by the owner, or too many leases lost",
    (Status.ACTIVE, Status.ABORTED): "finish by the owner",
    (Status.ACTIVE, Status.QUEUED): "retry, given back, or its lease was lost",
    (Status.ACTIVE, Status.ABORTING): "abort",
    (Status.ABORTING, Status.ABORTED): "finish by the owner, or its lease was lost",
    (Status.ABORTING, Status.COMPLETE): "finish by the owner: the abort came too late",
    (Status.ABORTING, Status.FAILED): "finish by the owner: the abort came too late",
    (Status.COMPLETE, Status.QUEUED): "retry, requeue or run now",
    (Status.FAILED, Status.QUEUED): "retry, requeue or run now",
    (Status.ABORTED, Status.QUEUED): "retry, requeue or run now",
}


@dataclasses.dataclass(eq=False, repr=False)
class Job:
    """One call of a function, to be run by a worker.

    Set by the user:

    Args:
        function: the name a worker knows the function by.
        kwargs: its arguments.
        queue: the queue it belongs to; set when it is enqueued.
        key: its identity in the queue: no second job of that key while it is incomplete. New by default.
        timeout: seconds an attempt may take; 0 or None is no limit.
        heartbeat: seconds an attempt may go on without ``update()``; 0 is no limit.
        retries: attempts in all.
        ttl: seconds its record is kept after the end; 0 keeps it for ever, below 0 keeps none.
        retry_delay: seconds before another attempt.
        retry_backoff: True doubles the delay with each attempt, jittered; a number is its upper limit.
        scheduled: when to run it, epoch seconds; 0 is at once.
        progress: 0.0 to 1.0, as far as the function says.
        priority: -32,768 to 32,767, the lower runs first.
        group_key: kept with the job.
        meta: anything else, kept with the job.

    Set by SAQ:

    Args:
        attempts: how often it was started, starts that were given back included.
        queued, started, touched, completed: when, in milliseconds since the epoch.
        result: what the function returned.
        error: the stack trace of the latest failure, or why it was aborted.
        status: see ``Status``.
        worker_id: who ran it last.
    """

    function: str
    kwargs: dict[str, Any] | None = None
    queue: Queue | None = None
    key: str = dataclasses.field(default_factory=new_key)
    timeout: float | None = 10
    heartbeat: float | None = 0
    retries: int = 1
    ttl: float = 600
    retry_delay: float = 0.0
    retry_backoff: bool | float = False
    scheduled: float = 0
    progress: float = 0.0
    attempts: int = 0
    completed: int = 0
    queued: int = 0
    started: int = 0
    touched: int = 0
    result: Any = None
    error: str | None = None
    status: Status = Status.NEW
    priority: int = 0
    group_key: str | None = None
    meta: dict[Any, Any] = dataclasses.field(default_factory=dict)
    worker_id: str | None = None

    #: Attempts that count against `retries`, the running one included.
    _charged: ClassVar[int] = 0
    #: Leases that it lost before this claim.
    _lost: ClassVar[int] = 0
    #: Its attempts that did not end it, as Redis holds them.
    _past: ClassVar[bytes] = b""
    #: When its claim arrived here (monotonic).
    _received: ClassVar[float] = 0.0
    #: The fence of the claim that this handle stands for: `<token>:<key>`, or None for a guest.
    _member: ClassVar[bytes | None] = None
    _EXCLUDE_NON_FULL: ClassVar[frozenset[str]] = frozenset(
        {"kwargs", "scheduled", "progress", "attempts", "queued", "started", "touched", "result"}
        | {"error", "meta", "completed"}
    )

    def __post_init__(self) -> None:
        if type(self.status) is not Status:
            self.status = Status(str(self.status).lower())
        if self.key is None:  # what `key=None` has always meant
            self.key = new_key()  # type: ignore[unreachable]

    def __repr__(self) -> str:
        return self.info(full=True)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.key == other.key

    def info(self, full: bool = False) -> str:
        """The job on one line: who it is, or, with ``full``, all that differs from the defaults."""
        shown = {
            name: value
            for name, value in self._changed().items()
            if full or name not in self._EXCLUDE_NON_FULL
        }
        if "status" in shown:
            shown["status"] = self.status.value
        return f"Job<{', '.join(f'{name}: {value}' for name, value in shown.items())}>"

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults; the queue by its name."""
        return self._changed()

    def _changed(self) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "queue":
                value = value and value.name
            if field.name == "meta" and not value:
                continue
            # By type and value: `False == 0`, and arrays have no truth.
            if type(value) is type(field.default) and _same(value, field.default):
                continue
            changed[field.name] = value
        return changed

    @property
    def id(self) -> str:
        """The name of its record in Redis once it is finished."""
        return self.get_queue().job_id(self.key)

    @property
    def abort_id(self) -> str:
        """The name that its abort goes by. The intent itself is part of the job."""
        return f"{self.id}:abort"

    @property
    def results(self) -> Any:
        """The same as ``result``."""
        return self.result

    @property
    def stuck(self) -> bool:
        """Whether it runs past its timeout or without a heartbeat, by the local clock."""
        if self.status not in (Status.ACTIVE, Status.ABORTING):
            return False
        current = now()
        return bool(
            (self.timeout and seconds(current - self.started) > self.timeout)
            or (self.heartbeat and seconds(current - self.touched) > self.heartbeat)
        )

    @property
    def retryable(self) -> bool:
        """Whether another attempt is left, those not counted that were given back or lost their worker."""
        return self.retries > self._charged

    def duration(self, kind: DurationKind) -> int | None:
        """A span in milliseconds, never negative; None where an end of it has not happened.

        ``process``: from start to end; ``start``: from queueing to start; ``total``: from queueing to end;
        ``running``: from start until now.
        """
        spans = {
            "process": (self.started, self.completed),
            "start": (self.queued, self.started),
            "total": (self.queued, self.completed),
            "running": (self.started, now()),
        }
        if kind not in spans:
            raise ValueError(f"unknown duration {kind!r}; one of {', '.join(spans)}")
        begin, end = spans[kind]
        return max(0, end - begin) if begin and end else None

    def next_retry_delay(self) -> float:
        """Seconds to wait before the next attempt; random if backoff is on."""
        if self.retry_backoff is False:
            return self.retry_delay
        limit = None if self.retry_backoff is True else self.retry_backoff
        return exponential_backoff(max(self._charged, 1), self.retry_delay, limit)

    def get_queue(self) -> Queue:
        """Its queue. Raises TypeError if it has none yet."""
        if self.queue is None:
            raise TypeError(f"{self.info()} belongs to no queue yet: enqueue it first")
        return self.queue

    async def enqueue(self, queue: Queue | None = None) -> None:
        """Enqueues it to ``queue``, or its own. If its key is incomplete already, this becomes that job."""
        if not await (queue or self.get_queue()).enqueue(self):
            await self.refresh()

    async def abort(self, error: str, ttl: float = 5) -> None:
        """Ends it if it waits, asks for its end if it runs. ``ttl`` has no effect."""
        await self.get_queue().abort(self, error, ttl=ttl)

    async def finish(self, status: Status, *, result: Any = None, error: str | None = None) -> None:
        """Ends it with that outcome."""
        await self.get_queue().finish(self, status, result=result, error=error)

    async def retry(self, error: str | None) -> None:
        """Ends this attempt and has it tried again; a finished job is enqueued again."""
        await self.get_queue().retry(self, error)

    async def update(self, **fields: Any) -> None:
        """Changes stored fields; without any, it is a heartbeat."""
        await self.get_queue().update(self, **fields)

    async def refresh(self, until_complete: float | None = None) -> None:
        """Reads it anew.

        Args:
            until_complete: None reads once; a number waits that many seconds for its end; 0 waits as long as
                it takes.

        Raises:
            RuntimeError: there is no such job.
            TimeoutError: it did not end in time.
        """
        queue = self.get_queue()
        if until_complete is None:
            job = await queue.job(self.key)
        else:
            job = await queue.wait(self.key, until_complete or None)
        if job is None:
            raise RuntimeError(f"{self.info()} does not exist (any more)")
        self.replace(job)

    def replace(self, job: Job) -> None:
        """Takes over the fields of another handle."""
        for field in dataclasses.fields(job):
            setattr(self, field.name, getattr(job, field.name))
        self.__dict__["_charged"] = job._charged
        self.__dict__["_past"] = job._past


def _same(a: object, b: object) -> bool:
    try:
        return bool(a == b)
    except Exception:  # an array, or whatever else a user keeps in a job
        return False
