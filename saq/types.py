"""The public vocabulary of types. Must not hold code that runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, TypeVar

if TYPE_CHECKING:
    from asyncio import Task
    from datetime import tzinfo

    from saq.cron import CronJob
    from saq.job import Job, Status
    from saq.queue.base import Queue
    from saq.worker import Worker
    from saq.worker.options import Handler, Share


class Context(TypedDict, total=False):
    """What a function and the hooks are called with. ``startup`` may put anything else in."""

    worker: Required[Worker[Any]]
    job: Job
    queue: Queue
    exception: BaseException | None


class JobTaskContext(TypedDict, total=True):
    """What a worker knows of a job it runs."""

    task: Task[Any]
    aborted: str | None


class WorkerStats(TypedDict):
    """Counts of a worker's own process since it started; ``uptime`` in milliseconds."""

    complete: int
    failed: int
    retried: int
    aborted: int
    uptime: int


class WorkerInfo(TypedDict):
    """What a worker registered of itself."""

    queue_key: str | None
    stats: WorkerStats | None
    metadata: dict[str, Any] | None


class QueueInfo(TypedDict):
    """A queue at one moment."""

    workers: dict[str, WorkerInfo]
    name: str
    queued: int
    active: int
    scheduled: int
    jobs: list[dict[str, Any]]


class TimersDict(TypedDict):
    """How often a worker does its upkeep, in seconds."""

    schedule: float
    worker_info: float
    sweep: float
    abort: float


class PartialTimersDict(TypedDict, total=False):
    """``TimersDict`` with any of its keys."""

    schedule: float
    worker_info: float
    sweep: float
    abort: float


Function = Callable[..., Any]
FunctionsType = Collection["Function | tuple[str, Function] | Handler"]
QueuesType = Collection["Queue | Share"] | Mapping["Queue", float]
ReceivesContext = Callable[[Any], Any]
LifecycleFunctionsType = ReceivesContext | Collection[ReceivesContext]
BeforeEnqueueType = Callable[["Job"], Awaitable[Any] | Any]
CountKind = Literal["queued", "active", "incomplete", "scheduled"]
DurationKind = Literal["process", "start", "total", "running"]
DumpType = Callable[[Mapping[str, Any]], bytes | str]
LoadType = Callable[[bytes], Any]
ListenCallback = Callable[[str, "Status"], Any]
CtxType = TypeVar("CtxType", bound=Context)


class SettingsDict(TypedDict, total=False):
    """The keyword parameters of ``Worker``, as a settings module holds them."""

    queue: Queue
    queues: QueuesType
    functions: Required[FunctionsType]
    processes: int
    concurrency: int
    cron_jobs: Collection[CronJob]
    cron_tz: tzinfo
    startup: LifecycleFunctionsType
    shutdown: LifecycleFunctionsType
    before_process: LifecycleFunctionsType
    after_process: LifecycleFunctionsType
    timers: PartialTimersDict
    dequeue_timeout: float
    burst: bool
    max_burst_jobs: int
    shutdown_grace_period_s: float
    cancellation_hard_deadline_s: float
    metadata: dict[str, Any]
    poll_interval: float
    id: str
    lease: float
    max_lost: int
