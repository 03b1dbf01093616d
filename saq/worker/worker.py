"""A worker: wiring and life cycle, nothing else.

Owns what it was configured with, its hooks, and the order in which its parts start and stop. Running a job is
`runner.py`, talking to the queue `fetcher.py`, everything at intervals `upkeep.py`.

    start   startup hooks → attach to the queue → upkeep → claim
    stop    claim nothing more → let running jobs end, for the grace period → cancel them → give back what was
            interrupted → deliver → take the registration away → shutdown hooks
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import platform
import signal
import socket
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from saq import cron
from saq.cron import CronJob
from saq.errors import UsageError
from saq.job import Job
from saq.queue.base import LOOK_EVERY, Queue
from saq.queue.views import Report
from saq.types import (
    CtxType,
    FunctionsType,
    JobTaskContext,
    LifecycleFunctionsType,
    PartialTimersDict,
    TimersDict,
    WorkerInfo,
)
from saq.utils import now, uuid1
from saq.version import __version__
from saq.worker.fetcher import Fetcher
from saq.worker.runner import Run, Runner, Why
from saq.worker.tally import Taken, Tally
from saq.worker.threads import Threads
from saq.worker.upkeep import Schedule, Upkeep

if TYPE_CHECKING:
    from saq.worker.observer import Observer

logger = logging.getLogger("saq")
#: What the server's settings may cost. Whoever knows better silences it by its name.
checkup = logging.getLogger("saq.checkup")

#: A server ends a blocked call up to so many seconds late. Where nobody steps for half a lease, all seem to
#: have been cut off, and no lost job is taken over for a lease.
SERVER_TICK = 0.1
#: Seconds that a stopping worker tries to deliver its last results while the server is away.
DELIVERY_PATIENCE = 5.0

Hooks = tuple[Callable[..., Any], ...]


class Worker(Generic[CtxType]):
    """Claims jobs from a queue and runs them.

    Args:
        queue: whose jobs.
        functions: async or sync callables ``f(ctx, *, …)``, or pairs (name, callable). A callable is known by
            its ``__qualname__``.
        id: its name; a new one by default.
        concurrency: how many jobs run at once.
        cron_jobs: functions that the clock enqueues.
        cron_tz: the time zone of their expressions.
        startup, shutdown: called with the context once, before the first job and after the last.
        before_process, after_process: called with the context around each job; the latter when its result has
            been accepted. All four: one or several, async or sync.
        timers: seconds between registrations (``worker_info``) and sweeps (``sweep``). ``schedule`` and
            ``abort`` are accepted, and needed for nothing.
        dequeue_timeout: with ``burst``, seconds without work after which it is done.
        burst: stop when the queue is empty.
        max_burst_jobs: stop after so many jobs.
        shutdown_grace_period_s: seconds that running jobs have to end when it stops; then they are cancelled.
        cancellation_hard_deadline_s: seconds that a cancelled function has to end.
        metadata: registered with the worker.
        poll_interval: accepted, and needed for nothing.
        lease: seconds after which the jobs of a worker that died run elsewhere.
        max_lost: a job whose worker died so often is failed.

    Raises:
        UsageError: a ValueError that names the setting, and what was expected.
    """

    SIGNALS: ClassVar[list[signal.Signals]] = [signal.SIGINT, signal.SIGTERM] if os.name != "nt" else []

    def __init__(
        self,
        queue: Queue,
        functions: FunctionsType,
        *,
        id: str | None = None,
        concurrency: int = 10,
        cron_jobs: Collection[CronJob] | None = None,
        cron_tz: tzinfo = UTC,
        startup: LifecycleFunctionsType | None = None,
        shutdown: LifecycleFunctionsType | None = None,
        before_process: LifecycleFunctionsType | None = None,
        after_process: LifecycleFunctionsType | None = None,
        timers: PartialTimersDict | None = None,
        dequeue_timeout: float = 0.0,
        burst: bool = False,
        max_burst_jobs: int | None = None,
        shutdown_grace_period_s: float | None = None,
        cancellation_hard_deadline_s: float = 1.0,
        metadata: dict[str, Any] | None = None,
        poll_interval: float = 0.0,
        lease: float = 30.0,
        max_lost: int = 3,
    ) -> None:
        if not isinstance(queue, Queue):
            raise UsageError(f"queue must be a Queue, got {queue!r}; see Queue.from_url")
        _at_least("concurrency", concurrency, 1, whole=True)
        _at_least("max_lost", max_lost, 1, whole=True)
        _at_least("lease", lease, 0.1)
        _at_least("cancellation_hard_deadline_s", cancellation_hard_deadline_s, 0)
        _at_least("shutdown_grace_period_s", shutdown_grace_period_s or 0, 0)
        _at_least("dequeue_timeout", dequeue_timeout or 0, 0)
        if burst and not dequeue_timeout:
            raise UsageError(
                "burst needs a dequeue_timeout above 0: so long without work, in seconds, and it is done"
            )
        if max_burst_jobs is not None:
            _at_least("max_burst_jobs", max_burst_jobs, 1, whole=True)
        if not isinstance(cron_tz, tzinfo):
            raise UsageError(f"cron_tz must be a time zone such as zoneinfo.ZoneInfo({cron_tz!r})")
        if not isinstance(metadata, (dict, type(None))):
            raise UsageError(f"metadata must be a dict, got {metadata!r}")
        _hooks("startup", startup)
        _hooks("shutdown", shutdown)
        self.queue = queue
        self.id = uuid1() if id is None else str(id)
        self.concurrency = concurrency
        self.cron_jobs: Collection[CronJob] = _several("cron_jobs", cron_jobs or ())
        self.cron_tz = cron_tz
        self.timers: TimersDict = {"schedule": 1, "worker_info": 10, "sweep": 60, "abort": 1}
        if not isinstance(timers, (dict, type(None))):
            raise UsageError(f"timers must be a dict of seconds, got {timers!r}")
        for name, seconds in (timers or {}).items():
            if name not in self.timers:
                raise UsageError(f"timers has no {name!r}; it has {', '.join(self.timers)}")
            _at_least(f"timers[{name!r}]", seconds, 0.01 if name in ("worker_info", "sweep") else 0)
            self.timers[name] = seconds  # type: ignore[literal-required]
        self.dequeue_timeout = dequeue_timeout
        self.burst = burst
        self.max_burst_jobs = max_burst_jobs
        self.functions: dict[str, Callable[..., Any]] = dict(map(_named, _several("functions", functions)))
        self._names = {function: name for name, function in self.functions.items()}
        for entry in self.cron_jobs:
            if not isinstance(entry, CronJob):
                raise UsageError(f"cron_jobs holds CronJob(function, cron, …), not {entry!r}")
            cron.check(entry.cron)
            if entry.function not in self._names:
                name, function = _named(entry.function)
                self.functions[name] = function
                self._names[function] = name
        self.startup = startup
        self.shutdown = shutdown
        self.before_process = before_process
        self.after_process = after_process
        self.context: Any = {"worker": self, "queue": queue}
        self.event = asyncio.Event()
        self._grace = shutdown_grace_period_s or 0
        self._hard_deadline = cancellation_hard_deadline_s
        self._metadata = metadata
        self._lease = lease
        self._max_lost = max_lost
        self._hurry = asyncio.Event()
        self._tally = Tally()
        self._observer: Observer | None = None
        self._untold: Taken | None = None
        self._began = now()
        self._quiet = False
        self._parts: _Parts | None = None
        #: The parts of `process` calls under way, and how many they are.
        self._by_hand: _Parts | None = None
        self._hands = 0
        self._attached = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    # Hooks may be set at any time, one or several.

    @property
    def before_process(self) -> Hooks:
        """Called with the context before each job."""
        return self._before_process

    @before_process.setter
    def before_process(self, hooks: LifecycleFunctionsType | None) -> None:
        self._before_process = _hooks("before_process", hooks)

    @property
    def after_process(self) -> Hooks:
        """Called with the context after each job, when its result has been accepted."""
        return self._after_process

    @after_process.setter
    def after_process(self, hooks: LifecycleFunctionsType | None) -> None:
        self._after_process = _hooks("after_process", hooks)

    @property
    def quiet(self) -> bool:
        """Whether it was asked to take no jobs for the time being."""
        return self._quiet

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks of the jobs that run."""
        runs = self._parts.runner.runs.values() if self._parts is not None else ()
        return {run.task for run in runs if run.task is not None}

    @property
    def job_task_contexts(self) -> dict[Job, JobTaskContext]:
        """What runs: job → its task, and why it shall be aborted."""
        runs = self._parts.runner.runs.values() if self._parts is not None else ()
        return {
            run.job: {"task": run.task, "aborted": run.error if run.why is Why.ABORT else None}
            for run in runs
            if run.task is not None
        }

    # Life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Works until ``stop``, a signal, or, in burst mode, until the queue is empty."""
        if self._stopping is not None and not self._stopping.done():
            await asyncio.shield(self._stopping)
        logger.info("Worker %s starts: %r", self.id, self.queue)
        logger.debug("It knows: %s", ", ".join(self.functions))
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            # An event belongs to the loop that waited for it first.
            self.event, self._hurry = asyncio.Event(), asyncio.Event()
        self._loop = loop
        self.event.clear()
        self._hurry.clear()
        self._stopping = None
        for signum in self.SIGNALS:
            loop.add_signal_handler(signum, self._on_signal, signum)
        try:
            try:
                self._beginning = asyncio.create_task(self._begin(), name="saq-begin")
                try:
                    await self._beginning
                except asyncio.CancelledError:
                    # `start` itself was cancelled, or it was told to stop before it had begun.
                    if not self.event.is_set():
                        raise
                await self.event.wait()
            finally:
                await self.stop()
        except asyncio.CancelledError:
            # Cancelling `start` is a way to stop it, as ever.
            await self.stop()
        finally:
            # Only now: a second signal while it stops must find its handler.
            for signum in self.SIGNALS:
                loop.remove_signal_handler(signum)

    async def _begin(self) -> None:
        parts = self._make_parts()
        for hook in _hooks("startup", self.startup):
            await parts.runner.call(hook, self.context)
        await self._attach()
        self._quiet = False
        # Together they take one round trip, and nothing is claimed later for it.
        warnings, _ = await asyncio.gather(self.queue.check(), self._register())
        for warning in warnings:
            checkup.warning("The queue %s: %s", self.queue.name, warning)
        if self._observer is not None:
            self._observer.begin([parts.runner.runs])
            parts.upkeep.repeat("beat", self._observer.beat)
        if self.cron_jobs:
            parts.upkeep.repeat("cron", self._schedule.enqueue_due)
        parts.upkeep.every("registration", self.timers["worker_info"], self._register)
        parts.upkeep.every("sweep", self.timers["sweep"], self.queue.sweep)
        parts.fetcher.start()

    @property
    def _registration(self) -> float:
        """Seconds that a registration is good for: one that is late by a little does not end it."""
        return max(2 * self.timers["worker_info"] + 10, 1)

    async def _register(self) -> None:
        """Says that it lives, and what it has done since it said so last."""
        await asyncio.gather(self.worker_info(self._registration), self._report())

    async def _report(self) -> None:
        # What could not be handed in is kept for the next time.
        self._untold = self._untold or self._tally.take()
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "python": platform.python_version(),
            "concurrency": self.concurrency,
            "lease": self._lease,
            "uptime": now() - self._began,
        }
        report = Report(about, self._schedule.entries(), self._untold.waits, self._untold.functions)
        quiet = await self.queue.report(self.id, report)
        self._untold = None
        self.on_quiet(quiet)

    @property
    def _schedule(self) -> Schedule:
        return Schedule(self.queue, self.cron_jobs, self._names, self.cron_tz)

    def _make_parts(self) -> _Parts:
        if self._parts is None or self._parts is self._by_hand:
            self._parts = _Parts(self)
        return self._parts

    async def _attach(self) -> None:
        if not self._attached:
            await self.queue.attach(self, self._lease, self._max_lost)
            self._attached = True

    def _on_signal(self, signum: signal.Signals) -> None:
        if self.event.is_set():
            logger.warning("%s again: running jobs are cancelled now", signum.name)
            self._hurry.set()
        else:
            logger.info("%s: no more jobs are taken", signum.name)
            self.event.set()
            if self._beginning is not None:
                self._beginning.cancel()
            if self._parts is not None:
                self._parts.fetcher.stop_claiming()

    async def stop(self) -> None:
        """Stops it: see the order at the top of this module. Calling it twice is harmless."""
        self.event.set()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="saq-stop")
        # Whoever waits for it may be cancelled; it goes on to the end all the same.
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        logger.info("Worker %s stops", self.id)
        if self._observer is not None:
            self._observer.end()
        if self._beginning is not None and not self._beginning.done():
            self._beginning.cancel()
            await asyncio.wait({self._beginning})
        parts = self._parts
        if parts is not None:
            parts.fetcher.stop_claiming()
            await self._drain(parts.runner)
            await parts.runner.stop()
            await parts.upkeep.stop()
            await parts.fetcher.close(DELIVERY_PATIENCE)
        if self._attached:
            self._attached = False
            try:
                async with asyncio.timeout(DELIVERY_PATIENCE):
                    await self._report()
                    await self.queue.detach(self)
            except Exception as error:
                logger.warning("The registration of worker %s stays until it ends: %s", self.id, error)
        self._parts = None
        await self._call_shutdown(parts.threads if parts is not None else Threads(1))
        logger.info("Worker %s has stopped", self.id)

    async def _drain(self, runner: Runner) -> None:
        """Waits for running jobs as long as they are given, or until a second signal."""
        if not runner.runs or self._grace <= 0:
            return
        logger.info("%d jobs have %g s to end", len(runner.runs), self._grace)
        waits = {
            asyncio.create_task(runner.wait_idle(self._grace), name="saq-grace"),
            asyncio.create_task(self._hurry.wait(), name="saq-hurry"),
        }
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)

    async def _call_shutdown(self, threads: Threads) -> None:
        try:
            for hook in _hooks("shutdown", self.shutdown):
                if inspect.iscoroutinefunction(hook):
                    await hook(self.context)
                else:
                    result = await threads.run(hook, self.context)
                    if inspect.isawaitable(result):
                        await result
        finally:
            threads.close()

    # What the queue tells it (`Claimant`) -------------------------------------------------------------------

    def on_abort(self, job: Job, reason: str) -> None:
        """A job that it runs shall end."""
        run = self._run_of(job)
        if run is not None and self._parts is not None:
            logger.info("Aborting %s: %s", job.info(), reason)
            self._parts.runner.interrupt(run, Why.ABORT, reason)

    def on_lost(self, job: Job) -> None:
        """A job that it runs belongs to somebody else by now."""
        run = self._run_of(job)
        if run is not None and self._parts is not None:
            self._parts.runner.interrupt(run, Why.LOST, "its lease was lost")
            if self._observer is not None:
                self._observer.watch(self.queue).lost(job)

    def on_news(self) -> None:
        """There may be something to claim."""
        if self._parts is not None:
            self._parts.fetcher.look()

    def on_quiet(self, quiet: bool) -> None:
        """It shall take no jobs for the time being, or take jobs again."""
        if quiet != self._quiet:
            self._quiet = quiet
            logger.info("Worker %s %s", self.id, "was asked to take no jobs" if quiet else "takes jobs again")
            if self._parts is not None:
                self._parts.fetcher.be_quiet(quiet)

    def _run_of(self, job: Job) -> Run | None:
        return self._parts.runner.find(job) if self._parts is not None else None

    # Watching it --------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Has somebody watch it, from its next start on; see ``saq.observe``."""
        self._observer = observer
        self._tally = observer.watch(self.queue).tally

    # By hand ------------------------------------------------------------------------------------------------

    async def process(self) -> bool:
        """Claims one job, waiting up to ``dequeue_timeout`` (0: without limit), and runs it to its end.

        Returns False if there was none.
        """
        await self._attach()
        job = await self.queue.dequeue(self.dequeue_timeout)
        if job is None:
            return False
        parts = self._parts
        if parts is None:
            parts = self._parts = self._by_hand = _Parts(self)
            parts.fetcher.start_settling()
        by_hand = parts is self._by_hand
        self._hands += by_hand
        run = parts.start(job)
        assert run.task is not None
        try:
            await asyncio.shield(run.task)
        finally:
            if not run.task.done():
                parts.runner.interrupt(run, Why.STOP)
                await asyncio.wait({run.task}, timeout=self._hard_deadline)
            if by_hand:
                self._hands -= 1
                if self._hands == 0:
                    await self._end_by_hand(parts)
        return True

    async def _end_by_hand(self, parts: _Parts) -> None:
        if self._parts is parts:
            self._parts = None
        self._by_hand = None
        await parts.runner.stop()
        await parts.fetcher.close(DELIVERY_PATIENCE)
        parts.threads.close()

    async def schedule(self, lock: int = 1) -> None:
        """Enqueues what the clock has made due. A started worker does this by itself."""
        await self._schedule.enqueue_due()
        await self.queue.schedule(lock)

    async def abort(self, abort_threshold: float = 0) -> None:
        """Looks for jobs of its own that shall be aborted. A started worker is told of them."""
        runs = list(self._parts.runner.runs.values()) if self._parts is not None else []
        for job in await self.queue.jobs(run.job.key for run in runs):
            if job is not None and job.status == "aborting":
                run = self._run_of_key(job.key)
                if run is not None:
                    self.on_abort(run.job, job.error or "abort")

    def _run_of_key(self, key: str) -> Run | None:
        return self._parts.runner.runs.get(key) if self._parts is not None else None

    async def upkeep(self) -> list[asyncio.Task[None]]:
        """Does the upkeep once. A started worker does it by itself; there are no tasks to return."""
        await self.schedule()
        await self.queue.sweep()
        await self.worker_info()
        return []

    async def worker_info(self, ttl: float = 60) -> WorkerInfo:
        """Registers itself for ``ttl`` seconds and returns what it registered."""
        return await self.queue.worker_info(
            self.id,
            queue_key=self.queue.name,
            metadata=self._metadata,
            ttl=ttl,
            functions=self.functions,
        )


class _Parts:
    """What a worker is made of while it works."""

    def __init__(self, worker: Worker[Any]) -> None:
        limit = worker.max_burst_jobs if worker.burst else None
        watch = worker._observer.watch(worker.queue) if worker._observer is not None else None
        self.upkeep = Upkeep()
        self.threads = Threads(worker.concurrency)
        self.fetcher = Fetcher(
            worker.queue,
            self.run,
            worker.concurrency if limit is None else min(worker.concurrency, limit),
            limit=limit,
            look_every=min(LOOK_EVERY, max(worker._lease / 3 - SERVER_TICK, 0.01)),
            idle_limit=worker.dequeue_timeout if worker.burst else None,
            drained=worker.event.set,
            stepped=watch.stepped if watch is not None else None,
        )
        self.runner = Runner(
            worker,
            self.threads,
            self.fetcher.settle,
            self.fetcher.accepted,
            self.fetcher.freed,
            worker._hard_deadline,
            worker._tally,
            worker.queue.around_run,
        )
        self.start = self.runner.start if watch is None else watch.counting(self.runner.start)

    def run(self, job: Job) -> None:
        """Starts a claimed job."""
        self.start(job)


def _named(function: Any) -> tuple[str, Callable[..., Any]]:
    if isinstance(function, tuple):
        if len(function) != 2 or not isinstance(function[0], str) or not callable(function[1]):
            raise UsageError(f"functions holds callables and pairs (name, callable), not {function!r}")
        return function
    name = getattr(function, "__qualname__", None)
    if not callable(function) or name is None:
        raise UsageError(
            f"functions holds callables and pairs (name, callable), not {function!r}"
            + ("; it has no __qualname__: give it a name" if callable(function) else "")
        )
    return name, function


def _hooks(name: str, hooks: Any) -> Hooks:
    if hooks is None:
        return ()
    found = (hooks,) if callable(hooks) else tuple(hooks) if isinstance(hooks, Iterable) else (hooks,)
    for hook in found:
        if not callable(hook):
            raise UsageError(f"{name} must be a callable or several, got {hook!r}")
    return found


def _several(name: str, values: Any) -> list[Any]:
    if callable(values) or not isinstance(values, Iterable) or isinstance(values, str):
        raise UsageError(f"{name} must be a collection, such as a list, got {values!r}")
    return list(values)


def _at_least(name: str, value: Any, least: float, *, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not value >= least:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name} must be {kind} of at least {least:g}, got {value!r}")
