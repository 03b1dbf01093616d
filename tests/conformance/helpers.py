"""What the modules of the conformance suite share. Knows only what every queue offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from saq.job import Job, Status
from saq.queue.base import Queue

#: Long enough that nothing which works needs it, short enough that what hangs is told soon.
SOON = 10.0
FAR = 4_000_000_000.0  # some day in 2096


class QueueFactory(Protocol):
    def __call__(self, name: str = "default", **options: Any) -> Queue: ...


async def turns(count: int) -> None:
    """Lets everything else go on for so many rounds of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def enqueue(queue: Queue, *keys: str, **fields: Any) -> list[Job]:
    """Enqueues a job for each key, one after the other."""
    jobs = [await queue.enqueue("f", key=key, **fields) for key in keys]
    return [job for job in jobs if job is not None]


async def claim(queue: Queue) -> Job:
    """The next job, claimed at once."""
    (job,) = (await queue.step((), 1)).jobs
    return job


async def claim_keys(queue: Queue, count: int = 100) -> list[str]:
    """The keys of the next jobs, claimed at once, in order."""
    return [job.key for job in (await queue.step((), count)).jobs]


async def run_one(queue: Queue, status: Status = Status.COMPLETE, **outcome: Any) -> Job:
    """Claims the next job and ends it."""
    job = await claim(queue)
    await queue.finish(job, status, **outcome)
    return job


async def status_of(queue: Queue, key: str) -> str:
    """Where a job is, in one word: its status, or 'scheduled', or 'missing'."""
    job = await queue.job(key)
    if job is None:
        return "missing"
    if job.status is Status.QUEUED and key in {k async for k in scheduled_keys(queue)}:
        return "scheduled"
    return job.status.value


async def scheduled_keys(queue: Queue) -> AsyncIterator[str]:
    """Keys of incomplete jobs beyond those that run and those that are queued."""
    info = await queue.info(jobs=True, limit=1000)
    waiting = info["jobs"][info["active"] + info["queued"] :]
    for fields in waiting:
        yield fields["key"]


async def counts(queue: Queue) -> dict[str, int]:
    """Every count, those that are 0 left out."""
    kinds = ("queued", "active", "scheduled", "incomplete")
    found = {kind: await queue.count(kind) for kind in kinds}  # type: ignore[arg-type]
    return {kind: count for kind, count in found.items() if count}


async def all_keys(queue: Queue, statuses: Iterable[Status] = tuple(Status), **options: Any) -> list[str]:
    return sorted([job.key async for job in queue.iter_jobs(statuses, **options)])


class Recorder:
    """Who claims jobs, and notes what it is told."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.aborted: asyncio.Queue[tuple[Job, str]] = asyncio.Queue()
        self.lost: asyncio.Queue[Job] = asyncio.Queue()
        self.news = asyncio.Event()
        self.quiet = False

    def on_abort(self, job: Job, reason: str) -> None:
        self.aborted.put_nowait((job, reason))

    def on_lost(self, job: Job) -> None:
        self.lost.put_nowait(job)

    def on_news(self) -> None:
        self.news.set()

    def on_quiet(self, quiet: bool) -> None:
        self.quiet = quiet


@asynccontextmanager
async def attached(
    queue: Queue, id: str = "worker", lease: float = 30.0, max_lost: int = 3
) -> AsyncIterator[Recorder]:
    """A claimant on this queue object."""
    recorder = Recorder(id)
    await queue.attach(recorder, lease, max_lost)
    yield recorder
    await queue.detach(recorder)


@asynccontextmanager
async def listening(
    queue: Queue, *keys: str, until: Callable[[str, Status], bool] = lambda key, status: False
) -> AsyncIterator[asyncio.Queue[tuple[str, Status]]]:
    """Listens to these keys, and is sure of being heard before the block begins."""
    heard: asyncio.Queue[tuple[str, Status]] = asyncio.Queue()
    ready: set[str] = set()
    all_ready = asyncio.Event()

    def take(key: str, status: Status) -> bool:
        if status is Status.NEW:  # said by nobody but ourselves, below
            ready.add(key)
            if len(ready) == len(set(keys)):
                all_ready.set()
            return False
        heard.put_nowait((key, status))
        return until(key, status)

    task = asyncio.create_task(queue.listen(keys, take, timeout=None))
    while not all_ready.is_set():
        for key in keys:
            await queue.notify(Job("f", key=key, queue=queue))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])
