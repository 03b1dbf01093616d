"""Runs jobs.

Owns a job from its claim to its settlement: hooks, the function, time limits, cancellation. Must not talk to
a queue's server: it hands settlements to the fetcher.

Why an attempt was interrupted decides what becomes of it:

    timeout, heartbeat   a failure: tried again if an attempt is left
    abort                aborted
    stop                 given back, not charged
    lost                 nothing: somebody else owns the job by now

A function that does not end when it is cancelled, or a thread, which cannot be, keeps its slot until it ends.
Without an attempt left, or aborted, its job is settled all the same; with one left, the retry waits until the
function or the lease has ended, so that two attempts do not run side by side.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from saq.errors import SerializationError
from saq.job import Job, Status
from saq.logs import job_fields
from saq.queue.backend import Settlement
from saq.queue.base import Queue
from saq.worker.run import Around, Run, Why, format_error
from saq.worker.tally import Tally
from saq.worker.threads import Threads

if TYPE_CHECKING:
    from saq.worker.processes import Processes

logger = logging.getLogger("saq")

#: A job whose function this worker does not know rests so long, in seconds, before it is offered again.
UNKNOWN_REST = 1.0
#: Seconds beyond a job's time limits for which its lease is still renewed.
RENEW_MARGIN = 1.0
#: Time limits that are looked at so much later than planned (seconds) are looked at once more, as much later.
LATE = 0.25
#: … so often at the most.
LATE_AT_MOST = 20
#: A job that is started so long after its claim has arrived, in seconds, may have been lost meanwhile.
OLD = 0.25


class Host(Protocol):
    """What a runner needs of the worker around it."""

    id: str
    context: dict[str, Any]
    functions: dict[str, Callable[..., Any]]
    before_process: tuple[Callable[..., Any], ...]
    after_process: tuple[Callable[..., Any], ...]


class Runner:
    """Runs the jobs of a queue, each in a task of its own.

    Args:
        host: the worker.
        queue: whose jobs.
        threads: for functions and hooks that are not async.
        processes: for functions that are registered for one; None: there are no such functions.
        settle: takes the settlement of a job.
        accepted: the same, and returns when it was accepted, with the status it led to (None: it was stale).
        ended: called when a slot is free again.
        hard_deadline: seconds that a cancelled function has to end.
        tally: counts what the jobs take.
        patience: seconds that a job keeps its slot while its end is not accepted, or None: until it is.
    """

    def __init__(
        self,
        host: Host,
        queue: Queue,
        threads: Threads,
        processes: Processes | None,
        settle: Callable[[Settlement], None],
        accepted: Callable[[Settlement], asyncio.Future[Status | None]],
        ended: Callable[[], None],
        hard_deadline: float,
        tally: Tally,
        patience: float | None = None,
    ) -> None:
        self.runs: dict[str, Run] = {}
        self._host = host
        self._queue = queue
        self._threads = threads
        self._processes = processes
        self._settle = settle
        self._accepted = accepted
        self._ended = ended
        self._hard_deadline = hard_deadline
        self._tally = tally
        # Of a queue that is instrumented; see `saq.observe.tracing`.
        self._around: Around | None = queue.around_run
        self._whole = self._run if self._around is None else self._around(self._run)
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        #: How many looks in a row came late and were put off.
        self._put_off = 0
        self._is_async: dict[Callable[..., Any], bool] = {}
        self._unknown: set[str] = set()
        self._idle = asyncio.Event()

    def start(self, job: Job) -> Run:
        """Runs a claimed job."""
        run = Run(job)
        self.runs[job.key] = run
        if job.status is Status.ABORTING:
            # Asked for between the claim and its arrival here.
            run.why, run.error = Why.ABORT, job.error or ""
        run.task = asyncio.get_running_loop().create_task(self._whole(run), name=job.key)
        return run

    async def _run(self, run: Run) -> None:
        job, host = run.job, self._host
        settlement: Settlement | None = None
        try:
            function = host.functions.get(job.function)
            if function is None:
                self._settle(self._not_known(job))
                return
            context = {**host.context, "queue": self._queue, "job": job}
            try:
                if host.before_process:
                    for hook in host.before_process:
                        await self.call(hook, context)
                if logger.isEnabledFor(logging.INFO):
                    logger.info(
                        "Processing %s", job.info(logger.isEnabledFor(logging.DEBUG)), extra=self._fields(job)
                    )
                result = await self._call_function(run, function, context)
                run.running = False
                self._tally.add(job, run.began)
                if run.why is not None and not (run.thread and run.why is Why.STOP):
                    settlement = self._interrupted(run, context, None)
                elif not run.settled and job._member is not None:
                    settlement = self._queue.settle(job, Status.COMPLETE, result=result)
            except BaseException as error:
                if isinstance(error, GeneratorExit) and _is_closed(run):
                    raise
                settlement = self._failed(run, context, error)
            # From here on there is nothing to interrupt: what has ended stays as it ended.
            run.settled = True
            run.deadline = 0.0
            if settlement is not None:
                if host.after_process:
                    await self._after(run, settlement, context)
                else:
                    self._settle(settlement)
                    if logger.isEnabledFor(logging.INFO):
                        self._log_end(run, settlement.status)
            elif host.after_process:
                await self._call_after(context)
        finally:
            if self.runs.get(job.key) is run:
                del self.runs[job.key]
            if not self.runs:
                self._idle.set()
            if not run.freed:
                self._ended()

    async def _call_function(self, run: Run, function: Callable[..., Any], context: dict[str, Any]) -> Any:
        job = run.job
        if run.why is not None:
            raise asyncio.CancelledError
        # The loop was blocked meanwhile, or the process frozen: it may belong to somebody else.
        old = time.monotonic() - job._received > OLD and job._received
        if old and not await self._queue.still_owned(job):
            await asyncio.sleep(0)  # where it is told so
            raise asyncio.CancelledError
        process = None
        processes = self._processes
        if processes is not None and job.function in processes.functions:
            # A job that waits for a process has not started: its time does not run yet.
            process = await processes.acquire()
        run.began = began = time.monotonic()
        run.running = True
        timeout, heartbeat = job.timeout, job.heartbeat
        if timeout or heartbeat:
            limit = min(timeout or heartbeat or 0, heartbeat or timeout or 0)
            run.deadline = deadline = began + limit
            if timeout:
                self._queue.hold(job, timeout + self._hard_deadline + RENEW_MARGIN)
            if deadline < self._timer_at:
                self._look_at(deadline)
        if processes is not None and process is not None:
            try:
                return await processes.call(process, job)
            except SerializationError:
                run.running = False  # what cannot be handed over now will not be the next time
                raise
        is_async = self._is_async.get(function)
        if is_async is None:
            is_async = self._is_async[function] = is_coroutine_function(function)
        if is_async:
            return await function(context, **job.kwargs) if job.kwargs else await function(context)
        run.thread = True
        call = self._threads.run(function, context, **(job.kwargs or {}))
        while not call.done():
            try:
                # A thread cannot be cancelled: its end is waited for whatever happens to this task.
                await asyncio.shield(call)
            except BaseException:
                if run.abandoned:
                    call.cancel()
                    raise
        result = call.result()
        if not inspect.isawaitable(result):
            return result
        # Back in the loop, it can be cancelled like any other.
        run.thread = False
        if run.interrupted:
            if inspect.iscoroutine(result):
                result.close()
            raise asyncio.CancelledError
        return await result

    async def call(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a hook, in a thread if it is not async."""
        if is_coroutine_function(hook):
            return await hook(*arguments)
        result = await self._threads.run(hook, *arguments)
        return await result if inspect.isawaitable(result) else result

    def _not_known(self, job: Job) -> Settlement:
        if job.function not in self._unknown:
            self._unknown.add(job.function)
            logger.warning(
                "This worker does not know the function %r and gives its jobs back; it knows: %s",
                job.function,
                ", ".join(sorted(self._host.functions)) or "none",
                extra=self._fields(job),
            )
        return self._queue.settle_unknown(job, UNKNOWN_REST)

    # How an attempt ended that did not return -------------------------------------------------------------

    def _failed(self, run: Run, context: dict[str, Any], error: BaseException) -> Settlement | None:
        if self._around is not None:
            run.raised = error
        if run.running:
            self._tally.add(run.job, run.began)
        if run.why is not None and not (run.thread and run.why is Why.STOP):
            return self._interrupted(run, context, error)
        job = run.job
        context["exception"] = error
        if run.settled or job._member is None:
            logger.error(
                "%s raised after it was settled", job.info(), exc_info=error, extra=self._fields(job)
            )
            return None
        text = format_error(error)
        if isinstance(error, SerializationError) and run.began and not run.running:
            # Another attempt would return the like of it again.
            fields = self._fields(job, error=str(error))
            logger.error("%s cannot be done: %s", job.info(), error, extra=fields)
            return self._end(job, Status.FAILED, text)
        logger.error(
            "Error processing %s\n%s",
            job.info(),
            text,
            extra=self._fields(job, error=text.rstrip().rpartition("\n")[2]),
        )
        return self._end_or_retry(job, text)

    def _interrupted(
        self, run: Run, context: dict[str, Any], error: BaseException | None
    ) -> Settlement | None:
        job = run.job
        if run.settled or run.why is Why.LOST or job._member is None:
            return None
        if run.why is Why.ABORT:
            return self._end(job, Status.ABORTED, run.error)
        if run.why is Why.STOP:
            return self._queue.settle_return(job, "cancelled")
        context["exception"] = error if isinstance(error, Exception) else TimeoutError(run.error)
        text = run.error
        if self._processes is not None and job.function in self._processes.functions:
            text = f"{text}; its process was killed"
        elif error is not None:
            text = f"{format_error(error)}\n{text}"
        logger.error(
            "Error processing %s: %s", job.info(), run.error, extra=self._fields(job, error=run.error)
        )
        return self._end_or_retry(job, text)

    def _end_or_retry(self, job: Job, text: str) -> Settlement:
        self._tally.add_failure(job)
        if job.retryable:
            return self._queue.settle_retry(job, text, job.next_retry_delay())
        return self._end(job, Status.FAILED, text)

    def _end(self, job: Job, status: Status, error: str) -> Settlement:
        try:
            return self._queue.settle(job, status, error=error)
        except SerializationError as reason:
            # The function has put something into `meta` that cannot be stored: the outcome comes first.
            logger.error("The meta of %s is dropped: %s", job.info(), reason, extra=self._fields(job))
            job.meta = {}
            return self._queue.settle(job, status, error=error)

    async def _after(self, run: Run, settlement: Settlement, context: dict[str, Any]) -> None:
        accepted = self._accepted(settlement)
        if self._patience is not None:
            await asyncio.wait({accepted}, timeout=self._patience)
            if not accepted.done():
                # Its queue does not answer: its slot is for the others, what comes after it has to wait.
                run.freed = True
                self._ended()
        status = await accepted
        if logger.isEnabledFor(logging.INFO):
            self._log_end(run, status or settlement.status)
        await self._call_after(context)

    async def _call_after(self, context: dict[str, Any]) -> None:
        for hook in self._host.after_process:
            try:
                await self.call(hook, context)
            except Exception:
                job = context["job"]
                logger.exception("after_process failed for %s", job.info(), extra=self._fields(job))

    def _log_end(self, run: Run, status: Status) -> None:
        took = time.monotonic() - run.began if run.began else 0.0
        job = run.job.info(logger.isEnabledFor(logging.DEBUG))
        fields = self._fields(run.job, status=status.value, duration_ms=round(took * 1000, 3))
        if status is not Status.QUEUED:
            logger.info("Finished (%s) %s in %.3f s", status.value, job, took, extra=fields)
        elif run.why is Why.STOP:
            logger.info("Gave back %s after %.3f s", job, took, extra=fields)
        else:
            logger.info("Retrying %s, which took %.3f s", job, took, extra=fields)

    def _fields(self, job: Job, **more: Any) -> dict[str, Any]:
        """What a log line about a job carries beside its text."""
        return {**job_fields(job, self._queue.name, self._host.id), **more}

    # Time limits and cancellation -------------------------------------------------------------------------

    def _look_at(self, moment: float) -> None:
        """One timer for all jobs, at the earliest deadline: a short job costs no timer at all."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = moment
        delay = max(0.0, moment - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        planned, self._timer, self._timer_at = self._timer_at, None, float("inf")
        now = time.monotonic()
        self._put_off = self._put_off + 1 if now - planned > LATE and self._put_off < LATE_AT_MOST else 0
        if self._put_off:
            # One job has blocked the loop, or the process was frozen. The others could neither end nor give a
            # heartbeat meanwhile: they get to do so before they are judged.
            self._look_at(now + LATE)
            return
        earliest = float("inf")
        for run in list(self.runs.values()):
            if run.deadline and run.deadline <= now:
                self._on_deadline(run, now)
            if run.deadline:
                earliest = min(earliest, run.deadline)
        if earliest < self._timer_at:
            self._look_at(earliest)

    def _on_deadline(self, run: Run, now: float) -> None:
        if run.why is not None:
            run.deadline = 0.0
            self._give_up(run)
            return
        job = run.job
        limits = []
        if job.timeout:
            limits.append((run.began + job.timeout, Why.TIMEOUT))
        if job.heartbeat:
            beat = max(run.began, job.__dict__.get("_beat", 0.0))
            limits.append((beat + job.heartbeat, Why.HEARTBEAT))
        run.deadline, why = min(limits, key=lambda limit: limit[0])
        if run.deadline > now:
            return
        limit = job.timeout if why is Why.TIMEOUT else job.heartbeat
        self.interrupt(run, why, f"{why.value}: no end within {limit:g} s of {job.function}")

    def interrupt(self, run: Run, why: Why, error: str = "") -> None:
        """Has an attempt end, if its function is under way or has not begun."""
        if run.why is not None or run.settled:
            return
        run.why, run.error = why, error
        if run.thread:
            run.deadline = 0.0
            if why is not Why.STOP:
                self._give_up(run)
            return
        run.deadline = time.monotonic() + self._hard_deadline
        if run.deadline < self._timer_at:
            self._look_at(run.deadline)
        task = run.task
        assert task is not None
        if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            # Cancelled before its first turn, it would end without a word.
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()

    def _give_up(self, run: Run) -> None:
        """It was told to end and did not."""
        job = run.job
        logger.warning(
            "%s %s and cannot be stopped: its slot stays taken until it ends",
            job.info(),
            (run.why or Why.STOP).value,
            extra=self._fields(job),
        )
        if run.why is Why.LOST or run.why is Why.STOP or job._member is None:
            return
        if run.why is Why.ABORT:
            self._settle_early(run, self._end(job, Status.ABORTED, run.error))
        elif job.retryable:
            # The retry waits for the end of the function, or of the lease.
            self._queue.hold(job, 0.0)
        else:
            self._settle_early(run, self._end(job, Status.FAILED, run.error))

    def _settle_early(self, run: Run, settlement: Settlement) -> None:
        run.settled = True
        self._settle(settlement)

    def find(self, job: Job) -> Run | None:
        """The run of a job, if it runs here."""
        run = self.runs.get(job.key)
        return run if run is not None and run.job is job else None

    async def wait_idle(self, timeout: float | None) -> bool:
        """Waits until nothing runs; whether that came about in time."""
        if not self.runs:
            return True
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Cancels what runs, gives back what does not end, and waits for it no more."""
        for run in list(self.runs.values()):
            self.interrupt(run, Why.STOP)
        await self.wait_idle(self._hard_deadline)
        for run in list(self.runs.values()):
            if not run.settled and run.job._member is not None:
                logger.warning(
                    "%s did not end when it was cancelled; it is given back",
                    run.job.info(),
                    extra=self._fields(run.job),
                )
                if run.why is Why.ABORT:
                    settlement = self._end(run.job, Status.ABORTED, run.error)
                elif run.why in (Why.TIMEOUT, Why.HEARTBEAT):
                    settlement = self._end_or_retry(run.job, run.error)
                else:
                    settlement = self._queue.settle_return(run.job, "cancelled")
                self._settle_early(run, settlement)
        left = []
        for run in self.runs.values():
            # A thread, a function that swallowed its cancellation, or a hook after the end.
            run.abandoned = True
            if run.task is not None:
                run.task.cancel()
                left.append(run.task)
        if left:
            await asyncio.wait(left, timeout=self._hard_deadline)
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, float("inf")


def _is_closed(run: Run) -> bool:
    """Whether its coroutine is being closed from outside, and may not await any more."""
    try:
        return asyncio.current_task() is not run.task
    except RuntimeError:
        return True


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; also for callable objects."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )
