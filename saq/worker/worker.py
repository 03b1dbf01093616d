"""A worker: wiring and life cycle, nothing else.

Owns what it was configured with, its hooks, and the order in which its parts start and stop. Running a job is
`runner.py`, talking to the queue `fetcher.py`, being known to it `membership.py`.

    start   startup hooks → attach to the queue → upkeep → claim
    stop    claim nothing more → let running jobs end, for the grace period → cancel them → give back what was
            interrupted → deliver → take the registration away → shutdown hooks
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from saq import cron
from saq.cron import CronJob
from saq.errors import UsageError
from saq.job import Job
from saq.queue.base import Queue
from saq.types import (
    CtxType,
    FunctionsType,
    JobTaskContext,
    LifecycleFunctionsType,
    PartialTimersDict,
    QueuesType,
    TimersDict,
    WorkerInfo,
)
from saq.utils import uuid1
from saq.worker.hand import Hand
from saq.worker.membership import Membership
from saq.worker.options import Hooks, at_least, handler, hooks, reference, several, shares
from saq.worker.parts import DELIVERY_PATIENCE, Ending, Parts
from saq.worker.run import Run, Why
from saq.worker.source import Source
from saq.worker.threads import Threads

if TYPE_CHECKING:
    from saq.worker.observer import Observer

logger = logging.getLogger("saq")


class Worker(Generic[CtxType]):
    """Claims jobs from a queue, or from several, and runs them.

    Args:
        queue: whose jobs.
        functions: async or sync callables ``f(ctx, *, …)``, pairs (name, callable), or
            ``Handler(function, …)``. A callable is known by its ``__qualname__``.
        queues: instead of ``queue``, several: a list in the order in which they are served, a dict of queues
            and their weights, or a list of ``Share(queue, …)``.
        processes: how many processes run the functions that are to run in one, at the most; as many as there
            are processors by default.
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
        queue: Queue | None = None,
        functions: FunctionsType | None = None,
        *,
        queues: QueuesType | None = None,
        processes: int | None = None,
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
        found = shares(queue, queues)
        at_least("concurrency", concurrency, 1, whole=True)
        at_least("max_lost", max_lost, 1, whole=True)
        at_least("lease", lease, 0.1)
        at_least("cancellation_hard_deadline_s", cancellation_hard_deadline_s, 0)
        at_least("shutdown_grace_period_s", shutdown_grace_period_s or 0, 0)
        at_least("dequeue_timeout", dequeue_timeout or 0, 0)
        if burst and not dequeue_timeout:
            raise UsageError(
                "burst needs a dequeue_timeout above 0: so long without work, in seconds, and it is done"
            )
        if processes is not None:
            at_least("processes", processes, 1, whole=True)
        if max_burst_jobs is not None:
            at_least("max_burst_jobs", max_burst_jobs, 1, whole=True)
        if not isinstance(cron_tz, tzinfo):
            raise UsageError(f"cron_tz must be a time zone such as zoneinfo.ZoneInfo({cron_tz!r})")
        if not isinstance(metadata, (dict, type(None))):
            raise UsageError(f"metadata must be a dict, got {metadata!r}")
        hooks("startup", startup)
        hooks("shutdown", shutdown)
        self.queues: tuple[Queue, ...] = tuple(share.queue for share in found)
        self.queue = self.queues[0]
        self.id = uuid1() if id is None else str(id)
        self.concurrency = concurrency
        self.cron_jobs: Collection[CronJob] = several("cron_jobs", cron_jobs or ())
        self.cron_tz = cron_tz
        self.timers: TimersDict = {"schedule": 1, "worker_info": 10, "sweep": 60, "abort": 1}
        if not isinstance(timers, (dict, type(None))):
            raise UsageError(f"timers must be a dict of seconds, got {timers!r}")
        for name, seconds in (timers or {}).items():
            if name not in self.timers:
                raise UsageError(f"timers has no {name!r}; it has {', '.join(self.timers)}")
            at_least(f"timers[{name!r}]", seconds, 0.01 if name in ("worker_info", "sweep") else 0)
            self.timers[name] = seconds  # type: ignore[literal-required]
        self.dequeue_timeout = dequeue_timeout
        self.burst = burst
        self.max_burst_jobs = max_burst_jobs
        self.functions: dict[str, Callable[..., Any]] = {}
        self.processes = processes or os.cpu_count() or 1
        self._remote: dict[str, bytes] = {}
        self._names: dict[Callable[..., Any], str] = {}
        for given in several("functions", functions):
            self._know(given)
        for entry in self.cron_jobs:
            if not isinstance(entry, CronJob):
                raise UsageError(f"cron_jobs holds CronJob(function, cron, …), not {entry!r}")
            cron.check(entry.cron)
            if entry.queue is not None and entry.queue not in self.queues:
                raise UsageError(f"cron_jobs: {entry.queue!r} of {entry!r} is none of the worker's queues")
            if entry.function not in self._names:
                self._know(entry.function)
        self.startup = startup
        self.shutdown = shutdown
        self.before_process = before_process
        self.after_process = after_process
        self.context: Any = {"worker": self, "queue": self.queue}
        self.event = asyncio.Event()
        self._grace = shutdown_grace_period_s or 0
        self._hard_deadline = cancellation_hard_deadline_s
        self._metadata = metadata
        self._lease = lease
        self._max_lost = max_lost
        self._hurry = asyncio.Event()
        self._sources = [Source(self, share, alone=len(found) == 1) for share in found]
        self._membership = Membership(self)
        self._observer: Observer | None = None
        #: For the process around it, set before it starts: it retires after so many jobs.
        self.max_jobs: int | None = None
        #: Called when it has begun.
        self.on_begun: Callable[[], None] | None = None
        #: Why it ended, or is about to.
        self.ending = Ending.STOPPED
        #: Its own process has it take no jobs.
        self._held = False
        self._retiring: asyncio.Task[None] | None = None
        self._parts: Parts | None = None
        self._hand = Hand(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def _know(self, given: Any) -> None:
        found = handler(given)
        assert found.name is not None
        self.functions[found.name] = found.function
        self._names[found.function] = found.name
        self._remote.pop(found.name, None)
        if found.process:
            self._remote[found.name] = reference(found.function)

    # Hooks may be set at any time, one or several.

    @property
    def before_process(self) -> Hooks:
        """Called with the context before each job."""
        return self._before_process

    @before_process.setter
    def before_process(self, given: LifecycleFunctionsType | None) -> None:
        self._before_process = hooks("before_process", given)

    @property
    def after_process(self) -> Hooks:
        """Called with the context after each job, when its result has been accepted."""
        return self._after_process

    @after_process.setter
    def after_process(self, given: LifecycleFunctionsType | None) -> None:
        self._after_process = hooks("after_process", given)

    @property
    def quiet(self) -> bool:
        """Whether all its queues have asked it to take no jobs for the time being."""
        return self._held or all(source.quiet for source in self._sources)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks of the jobs that run."""
        return {run.task for run in self._runs() if run.task is not None}

    @property
    def job_task_contexts(self) -> dict[Job, JobTaskContext]:
        """What runs: job → its task, and why it shall be aborted."""
        return {
            run.job: {"task": run.task, "aborted": run.error if run.why is Why.ABORT else None}
            for run in self._runs()
            if run.task is not None
        }

    def _runs(self) -> list[Run]:
        return [run for source in self._sources for run in source.runs]

    # Life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Works until ``stop``, a signal, or, in burst mode, until the queue is empty."""
        if self._stopping is not None and not self._stopping.done():
            await asyncio.shield(self._stopping)
        queues = ", ".join(map(repr, self.queues))
        logger.info("Worker %s starts: %s", self.id, queues, extra=self._fields)
        logger.debug("It knows: %s", ", ".join(self.functions), extra=self._fields)
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            # An event belongs to the loop that waited for it first.
            self.event, self._hurry = asyncio.Event(), asyncio.Event()
        self._loop = loop
        self.event.clear()
        self._hurry.clear()
        self._stopping = None
        self.ending = Ending.STOPPED
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
        for hook in hooks("startup", self.startup):
            await parts.runners[0].call(hook, self.context)
        for source in self._sources:
            source.quiet = False
        if self._observer is not None:
            self._observer.begin([runner.runs for runner in parts.runners])
            parts.upkeep.repeat("beat", self._observer.beat)
        await self._membership.join(parts)
        if self.on_begun is not None:
            self.on_begun()

    def about(self) -> Mapping[str, Any]:
        """What it reports of itself."""
        return self._membership.about()

    def _make_parts(self) -> Parts:
        if self._parts is None or self._parts is self._hand.parts:
            self._parts = Parts(self)
            self._parts.put_to_work()
        return self._parts

    def _on_signal(self, signum: signal.Signals) -> None:
        if self.event.is_set():
            logger.warning("%s again: running jobs are cancelled now", signum.name, extra=self._fields)
            self._hurry.set()
        else:
            logger.info("%s: no more jobs are taken", signum.name, extra=self._fields)
            self.ending = Ending.SIGNALLED
            self.event.set()
            if self._beginning is not None:
                self._beginning.cancel()
            if self._parts is not None:
                self._parts.stop_claiming()

    async def stop(self) -> None:
        """Stops it: see the order at the top of this module. Calling it twice is harmless."""
        self.event.set()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="saq-stop")
        # Whoever waits for it may be cancelled; it goes on to the end all the same.
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        logger.info("Worker %s stops", self.id, extra=self._fields)
        if self._observer is not None:
            self._observer.end()
        if self._beginning is not None and not self._beginning.done():
            self._beginning.cancel()
            await asyncio.wait({self._beginning})
        if self._retiring is not None:
            self._retiring.cancel()
            self._retiring = None
        parts = self._parts
        if parts is not None:
            parts.stop_claiming()
            await self._drain(parts)
            await asyncio.gather(*(runner.stop() for runner in parts.runners))
            await parts.upkeep.stop()
            await parts.close()
        await asyncio.gather(*(self._leave(source) for source in self._sources if source.attached))
        self._parts = None
        self._rest()
        await self._call_shutdown(parts.threads if parts is not None else Threads(1))
        logger.info("Worker %s has stopped", self.id, extra=self._fields)

    async def _leave(self, source: Source) -> None:
        try:
            async with asyncio.timeout(DELIVERY_PATIENCE):
                await source.detach()
        except Exception as error:
            logger.warning("The registration of worker %s stays until it ends: %s", self.id, error)

    def _rest(self) -> None:
        for source in self._sources:
            source.fetcher = source.runner = None

    async def _drain(self, parts: Parts) -> None:
        """Waits for running jobs as long as they are given, or until a second signal."""
        running = sum(len(runner.runs) for runner in parts.runners)
        if not running or self._grace <= 0:
            return
        logger.info("%d jobs have %g s to end", running, self._grace, extra=self._fields)
        waits = {
            asyncio.create_task(parts.wait_idle(self._grace), name="saq-grace"),
            asyncio.create_task(self._hurry.wait(), name="saq-hurry"),
        }
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)

    async def _call_shutdown(self, threads: Threads) -> None:
        try:
            for hook in hooks("shutdown", self.shutdown):
                if inspect.iscoroutinefunction(hook):
                    await hook(self.context)
                else:
                    result = await threads.run(hook, self.context)
                    if inspect.isawaitable(result):
                        await result
        finally:
            threads.close()

    # What the process around it tells it --------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether its own process has it take no jobs."""
        return self._held

    def hold(self, held: bool) -> None:
        """Takes no jobs, whatever the queues say, or goes by the queues again."""
        if held != self._held:
            self._held = held
            said = "holds: it takes no jobs" if held else "goes on"
            logger.info("Worker %s %s", self.id, said, extra=self._fields)
            for source in self._sources:
                source.be_quiet()

    async def report_now(self) -> None:
        """Says how it is without waiting for the next registration."""
        await asyncio.gather(*(source.report() for source in self._sources if source.attached))

    def retire(self) -> None:
        """Takes no more jobs, and ends when those that run have ended, however long they take.

        ``stop``, or a signal, does not wait for them.
        """
        parts = self._parts
        if parts is None or self._retiring is not None or self.event.is_set():
            return
        logger.info("Worker %s retires: it ends after its running jobs", self.id, extra=self._fields)
        self.ending = Ending.RETIRED
        parts.stop_claiming()
        self._retiring = asyncio.create_task(self._retire(parts), name="saq-retire")

    async def _retire(self, parts: Parts) -> None:
        await parts.wait_idle(None)
        self._retiring = None
        self.event.set()

    @property
    def spent(self) -> bool:
        """Whether it has taken all the jobs that it may."""
        return self._retiring is not None or (
            self._parts is not None and self._parts.slots.spent and self.max_jobs is not None
        )

    @property
    def _fields(self) -> dict[str, Any]:
        """What its log lines carry beside their text."""
        return {"worker_id": self.id, "queue": self.queue.name}

    # Watching it --------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Has somebody watch it, from its next start on; see ``saq.observe``."""
        self._observer = observer
        for source in self._sources:
            source.watch = observer.watch(source.queue)
            source.tally = source.watch.tally

    # By hand ------------------------------------------------------------------------------------------------

    async def process(self) -> bool:
        """Claims one job, waiting up to ``dequeue_timeout`` (0: without limit), and runs it to its end.

        Returns False if there was none.
        """
        return await self._hand.process()

    async def schedule(self, lock: int = 1) -> None:
        """Enqueues what the clock has made due. A started worker does this by itself."""
        for source in self._sources:
            await self._membership.schedule_of(source).enqueue_due()
            await source.queue.schedule(lock)

    async def abort(self, abort_threshold: float = 0) -> None:
        """Looks for jobs of its own that shall be aborted. A started worker is told of them."""
        for source in self._sources:
            runs = {run.job.key: run for run in source.runs}
            for job in await source.queue.jobs(runs):
                if job is not None and job.status == "aborting" and job.key in runs:
                    source.on_abort(runs[job.key].job, job.error or "abort")

    async def upkeep(self) -> list[asyncio.Task[None]]:
        """Does the upkeep once. A started worker does it by itself; there are no tasks to return."""
        await self.schedule()
        for queue in self.queues:
            await queue.sweep()
        await self.worker_info()
        return []

    async def worker_info(self, ttl: float = 60) -> WorkerInfo:
        """Registers itself with its queues for ``ttl`` seconds; returns what it registered with the first."""
        infos = [await self._membership.register(source, ttl) for source in self._sources]
        return infos[0]
