"""A queue, as its users see it.

Owns everything a user calls, in terms of a few primitive operations that a backend provides. Must not know
Redis, and must not run a job.

A handle of a job is *owner* when this process claimed the job, and *guest* otherwise. What each may do in
which state stands in `docs/internals.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from saq.errors import ServerError, UsageError
from saq.job import UNSUCCESSFUL_TERMINAL_STATUSES, Job, Status
from saq.queue.backend import Backend, Step
from saq.types import (
    BeforeEnqueueType,
    DumpType,
    ListenCallback,
    LoadType,
    WorkerInfo,
    WorkerStats,
)
from saq.utils import now

logger = logging.getLogger("saq")

#: Names that `enqueue` takes as fields of the job; all others are arguments of the function.
JOB_FIELDS = frozenset(field.name for field in dataclasses.fields(Job))
#: Who waits for work looks so often, in seconds, without being told of any: a dead peer must be noticed.
LOOK_EVERY = 5.0
#: Seconds beyond its timeout for which the lease of a dequeued job is renewed.
HOLD_MARGIN = 2.0
#: `enqueue_many` sends so many jobs in one part, and reads as many ahead while that is under way.
MANY = 200

#: The jobs enqueued by the `batch` blocks around this code, innermost last.
_batches: contextvars.ContextVar[tuple[list[Job], ...]] = contextvars.ContextVar("saq_batches", default=())


class JobError(Exception):
    """A job that was waited for did not complete. ``job`` is its handle."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"{job.info()} {job.status.value}\n\n{job.error or 'no error was recorded'}")


class Queue(Backend):
    """The interface of every backend. Made by ``Queue.from_url``."""

    def __init__(self, name: str, dump: DumpType | None, load: LoadType | None) -> None:
        if not isinstance(name, str):
            raise UsageError(f"a queue's name is text, got {name!r}")
        self.name = name
        self.started: int = now()
        self.complete = 0
        self.failed = 0
        self.retried = 0
        self.aborted = 0
        self._dump = dump
        self._load = load
        #: A list, for a bound method is another object each time that it is looked up.
        self._before_enqueues: list[BeforeEnqueueType] = []
        #: What a worker puts around each run of a job of this queue, or None; see `saq.observe.tracing`.
        self.around_run: Callable[[Any], Any] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.name}>"

    @staticmethod
    def from_url(url: str, **kwargs: Any) -> Queue:
        """A queue on the server at ``url``.

        Args:
            url: ``redis://``, ``rediss://``, ``valkey://``, ``unix://``, ``redis+sentinel://``,
                ``redis+cluster://``, or ``embedded://NAME-or-PATH`` for a private server that is started on
                demand.
            kwargs: parameters of the backend, such as ``name``; of ``RedisQueue``.

        Raises:
            InvalidUrlError: no backend goes by that URL, or it cannot be read.
        """
        from saq.queue.redis import RedisQueue

        return RedisQueue.from_url(str(url), **kwargs)

    # What is made of it -----------------------------------------------------------------------------------

    @property
    def swept_error_message(self) -> str | None:
        """What a job says that was failed because its worker was lost; None for the reason itself."""
        return None

    @property
    def server_errors(self) -> Mapping[str, int]:
        """How often this queue object could not connect to its server ("connect"), lost a connection that it
        had ("lost"), or was answered with an error ("refused")."""
        return {}

    def register_before_enqueue(self, callback: BeforeEnqueueType) -> None:
        """Calls ``callback(job)``, async or sync, before each job of this queue object is enqueued."""
        if callback not in self._before_enqueues:
            self._before_enqueues.append(callback)

    def unregister_before_enqueue(self, callback: BeforeEnqueueType) -> None:
        """Calls it no more."""
        if callback in self._before_enqueues:
            self._before_enqueues.remove(callback)

    def _make_job(self, job_or_func: str | Job, kwargs: dict[str, Any]) -> Job:
        if isinstance(job_or_func, Job):
            job = job_or_func
            for name in JOB_FIELDS.intersection(kwargs):
                setattr(job, name, kwargs.pop(name))
            if kwargs:
                job.kwargs = {**(job.kwargs or {}), **kwargs}
        elif JOB_FIELDS.isdisjoint(kwargs):
            job = Job(job_or_func, kwargs or None)
        else:
            fields = {name: kwargs.pop(name) for name in JOB_FIELDS.intersection(kwargs)}
            if kwargs:
                fields["kwargs"] = {**(fields.get("kwargs") or {}), **kwargs}
            job = Job(job_or_func, **fields)
        if job.queue is not None and job.queue.name != self.name:
            raise UsageError(f"{job.info()} belongs to another queue than {self.name!r}")
        job.queue = self
        return job

    async def _prepare(self, job: Job) -> None:
        for callback in list(self._before_enqueues):
            answer = callback(job)
            if inspect.isawaitable(answer):
                await answer

    def _track(self, job: Job) -> None:
        for children in _batches.get():
            children.append(job)

    async def _send_tracked(self, jobs: Sequence[Job]) -> list[bool]:
        """Inside a batch, a caller who is cancelled waits for what is under way: it is to be aborted, too."""
        sending = asyncio.ensure_future(self._send(jobs))
        try:
            return await asyncio.shield(sending)
        finally:
            with contextlib.suppress(Exception):
                for job, fresh in zip(jobs, await sending, strict=True):
                    if fresh:
                        self._track(job)

    async def _ends(self, jobs: Sequence[Job]) -> list[asyncio.Future[Job | None]]:
        """The same for those who wait for the ends of their jobs."""
        if not _batches.get():
            return await self._send_and_wait(jobs)
        sending = asyncio.ensure_future(self._send_and_wait(jobs))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                for end in await sending:
                    end.cancel()
            raise

    async def enqueue(self, job_or_func: str | Job, **kwargs: Any) -> Job | None:
        """Enqueues a job.

        Args:
            job_or_func: the name of a function, or a job.
            kwargs: those that are fields of ``Job`` set the job (``key``, ``timeout``, ``scheduled`` …), the
                others are the function's. An argument that is called like a field goes into ``kwargs={…}``.

        Returns:
            The job, or None when a job of that key is incomplete.

        Raises:
            UsageError: a field cannot be right.
            SerializationError: an argument cannot be stored.
            UnreachableError: the server is away.
        """
        job = self._make_job(job_or_func, kwargs)
        if self._before_enqueues:
            await self._prepare(job)
        send = self._send if not _batches.get() else self._send_tracked
        return job if (await send((job,)))[0] else None

    async def enqueue_many(self, jobs: Iterable[Job | str]) -> list[Job | None]:
        """Enqueues any number of jobs in few calls; ``jobs`` may be a generator.

        Returns what ``enqueue`` would return for each. An error says in a note how many had been enqueued by
        then, and how many more may be.
        """
        sent: list[Job | None] = []
        chunk: list[Job] = []
        under_way: asyncio.Task[None] | None = None

        async def flush(part: list[Job]) -> None:
            send = self._send if not _batches.get() else self._send_tracked
            taken = await send(part)
            sent.extend(job if fresh else None for job, fresh in zip(part, taken, strict=True))

        try:
            for item in jobs:
                job = self._make_job(item, {})
                if self._before_enqueues:
                    await self._prepare(job)
                chunk.append(job)
                if len(chunk) == MANY:
                    # The server takes in one part while the next is put together.
                    before, under_way = under_way, asyncio.create_task(flush(chunk), name="saq-enqueue-many")
                    chunk = []
                    if before is not None:
                        await before
            if under_way is not None:
                await under_way
            if chunk:
                await flush(chunk)
        except BaseException as error:
            if under_way is not None:
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)
            error.add_note(f"{len(sent)} jobs had been enqueued, and some of the next {2 * MANY} may be")
            raise
        return sent

    async def apply(
        self,
        job_or_func: str | Job,
        timeout: float | None = None,
        poll_interval: float = 0.5,
        **kwargs: Any,
    ) -> Any:
        """Enqueues a job and returns its result.

        Args:
            job_or_func, kwargs: as those of ``enqueue``. A key that is incomplete attaches to that job.
            timeout: seconds to wait in all, and the job's own timeout as well; None is none.
            poll_interval: accepted, and needed for nothing: the result is sent here when it is there.

        Returns:
            The result; None if the job keeps none (ttl below 0).

        Raises:
            JobError: the job failed or was aborted.
            TimeoutError: it took too long. The job goes on.
        """
        if isinstance(job_or_func, Job):
            kwargs.setdefault("key", job_or_func.key)
        return (await self.map(job_or_func, [kwargs], timeout=timeout))[0]

    async def map(
        self,
        job_or_func: str | Job,
        iter_kwargs: Iterable[dict[str, Any]],
        timeout: float | None = None,
        return_exceptions: bool = False,
        poll_interval: float = 0.5,
        **kwargs: Any,
    ) -> list[Any]:
        """Enqueues a job for each item and returns their results in that order.

        Args:
            job_or_func: as that of ``enqueue``.
            iter_kwargs: for each job what ``enqueue`` takes.
            timeout: seconds to wait in all, and each job's own timeout as well; None is none.
            return_exceptions: put a ``JobError`` in the place of a result, rather than raise the first one.
                The other jobs go on either way.
            poll_interval: accepted, and needed for nothing.
            kwargs: for all jobs; those of an item win.

        Raises:
            JobError: a job failed or was aborted.
            TimeoutError: they took too long. They go on.
            UsageError: the same key twice.
        """
        jobs: list[Job] = []
        keys: set[str] = set()
        for item in iter_kwargs:
            fields = {"timeout": timeout, **kwargs, **item}
            if fields.get("key", "") is None:
                del fields["key"]
            job = self._make_job(job_or_func if isinstance(job_or_func, str) else _twin(job_or_func), fields)
            if job.key in keys:
                raise UsageError(f"two jobs of one call have the key {job.key!r}: their results would be one")
            keys.add(job.key)
            jobs.append(job)
        if not jobs:
            return []
        async with asyncio.timeout(timeout or None):
            if self._before_enqueues:
                for job in jobs:
                    await self._prepare(job)
            ends = await self._ends(jobs)
            try:
                if not return_exceptions:
                    return await _first_failure(jobs, ends)
                await asyncio.wait(ends)
            finally:
                for end in ends:
                    end.cancel()
        results: list[Any] = []
        for job, end in zip(jobs, ends, strict=True):
            try:
                results.append(_result(job, end.result()))
            except Exception as error:
                results.append(error)
        return results

    async def listen(
        self,
        job_keys: Iterable[str],
        callback: ListenCallback,
        timeout: float | None = 10,
        poll_interval: float = 0.5,
    ) -> None:
        """Calls ``callback(key, status)``, async or sync, on every change of status and every update of these
        jobs, until it returns true.

        Args:
            timeout: seconds in all; 0 or None is no limit.
            poll_interval: accepted, and needed for nothing.

        Raises:
            TimeoutError: the callback did not return true in time.
        """

        async def take(key: str, status: Status) -> bool:
            answer = callback(key, status)
            if inspect.isawaitable(answer):
                answer = await answer
            return bool(answer)

        async with asyncio.timeout(timeout or None):
            await self._listen(list(job_keys), take)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Aborts the jobs that were enqueued inside, by this code and the tasks it started, if the block
        raises or is cancelled."""
        children: list[Job] = []
        token = _batches.set((*_batches.get(), children))
        try:
            yield
        except BaseException:
            # Also when cancelled: the block must not be left before its jobs are aborted.
            aborts = asyncio.gather(*(child.abort("cancelled") for child in children), return_exceptions=True)
            for child, answer in zip(children, await asyncio.shield(aborts), strict=True):
                if isinstance(answer, BaseException):
                    logger.warning("%s goes on although its batch has ended: %s", child.info(), answer)
            raise
        finally:
            _batches.reset(token)

    async def job(self, job_key: str) -> Job | None:
        """The job of that key as it is now, or None."""
        return (await self.jobs([job_key]))[0]

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:
        """Claims a job, waiting for one up to ``timeout`` seconds (0: without limit). The caller owns it, and
        settles it with ``finish`` or ``retry``. ``poll_interval`` is accepted, and needed for nothing."""
        try:
            async with asyncio.timeout(timeout or None):
                while True:
                    step = await self._claim_one()
                    if step.jobs:
                        job = step.jobs[0]
                        if job.timeout:
                            self.hold(job, job.timeout + HOLD_MARGIN)
                        return job
                    await self._wait_until_due(step.wait)
        except TimeoutError:
            return None

    async def _wait_until_due(self, wait: float | None) -> None:
        """Waits for work, or until a scheduled job is due: by the clock here, which is finer than a server's
        blocking commands."""
        try:
            async with asyncio.timeout(min(LOOK_EVERY, LOOK_EVERY if wait is None else wait)):
                await self.wait_for_work(LOOK_EVERY)
        except TimeoutError:
            return
        except ServerError:
            await asyncio.sleep(0.05)  # if the server is gone, the next claim will say so

    async def _claim_one(self) -> Step:
        """A claim that is not lost with its caller: cancelled under way, it is handed back."""
        claim = asyncio.ensure_future(self.step((), 1))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # Without the server there is nothing to hand back: its lease runs out.
            with contextlib.suppress(ServerError):
                step = await claim
                if step.jobs:
                    await self.step([self.settle_return(step.jobs[0], "cancelled")], 0)
            raise

    async def worker_info(
        self,
        worker_id: str,
        queue_key: str | None = None,
        metadata: dict[str, Any] | None = None,
        ttl: float = 60,
        functions: Iterable[str] = (),
    ) -> WorkerInfo:
        """Registers a worker of this process for ``ttl`` seconds, with the counts of this queue object."""
        stats: WorkerStats = {
            "complete": self.complete,
            "failed": self.failed,
            "retried": self.retried,
            "aborted": self.aborted,
            "uptime": now() - self.started,
        }
        info: WorkerInfo = {"stats": stats, "queue_key": queue_key, "metadata": metadata}
        await self.register(worker_id, info, functions, ttl)
        return info


def _twin(job: Job) -> Job:
    """A new job with the fields that a user sets, and a key of its own."""
    names = [field.name for field in dataclasses.fields(job) if field.name != "key"]
    fields = {name: getattr(job, name) for name in names}
    fields["kwargs"] = dict(job.kwargs) if job.kwargs else None
    fields["meta"] = dict(job.meta)
    return type(job)(**fields)


def _result(job: Job, ended: Job | None) -> Any:
    if ended is None:
        raise JobError(_deleted(job))
    if ended.status in UNSUCCESSFUL_TERMINAL_STATUSES:
        raise JobError(ended)
    return ended.result if ended.ttl >= 0 else None


def _deleted(job: Job) -> Job:
    job.status = Status.ABORTED
    job.error = "the job was deleted while it was waited for"
    return job


async def _first_failure(jobs: list[Job], ends: list[asyncio.Future[Job | None]]) -> list[Any]:
    """The results; a job that did not complete raises as soon as it has ended."""
    results: dict[asyncio.Future[Job | None], Any] = dict(zip(ends, jobs, strict=True))
    pending = len(ends)
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(end: asyncio.Future[Job | None]) -> None:
        nonlocal pending
        pending -= 1
        if end.cancelled() or over.done():
            return
        try:
            results[end] = _result(results[end], end.result())
        except Exception as error:
            over.set_exception(error)
        else:
            if not pending:
                over.set_result(None)

    for end in ends:
        end.add_done_callback(look)
    await over
    return list(results.values())
