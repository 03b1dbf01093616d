"""Everything that is done to a queue, once each.

An operation prepares what it needs, yields, and then makes the calls that are looked at.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.outbox import BATCH_JOBS
from saq.worker.fetcher import STEP_JOBS, UNUSUAL
from tests.conformance.helpers import FAR
from tests.redis.helpers import prefix, session
from tests.scale.crowd import Crowd
from tests.worker.support import until

numbers = itertools.count()


#: A step settles so many that are not complete.
UNUSUAL_JOBS = STEP_JOBS // UNUSUAL


class Bench:
    """The queue of a crowd, as a worker (``queue``) and as another process (``client``) have it."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.queue = RedisQueue.from_url(crowd.server.url())
        self.client = RedisQueue.from_url(crowd.server.url())

    async def claimed(self, count: int = STEP_JOBS, **fields: Any) -> list[Job]:
        """New jobs, ahead of the crowd, claimed by the worker."""
        await self.added(count, priority=-1, **fields)
        return (await self.queue.step((), count)).jobs

    async def added(self, count: int = 1, **fields: Any) -> list[str]:
        """New jobs."""
        jobs = [Job("f", key=new_key(), kwargs={"n": 1}, **fields) for _ in range(count)]
        await self.client.enqueue_many(jobs)
        return [job.key for job in jobs]

    def held(self) -> list[Job]:
        """What the worker runs."""
        return list(self.queue._claims.held.values())

    def handle(self, key: str) -> Job:
        return Job("f", key=key, queue=self.client)

    async def close(self) -> None:
        await self.queue.step([self.queue.settle(job, Status.ABORTED) for job in self.held()], 0)
        await self.queue.disconnect()
        await self.client.disconnect()


Operation = Callable[[Bench], AsyncIterator[None]]


def new_key() -> str:
    return f"new-{next(numbers)}"


async def enqueue(at: Bench) -> AsyncIterator[None]:
    yield
    await at.client.enqueue("f", key=new_key(), n=1)


async def enqueue_what_is_there(at: Bench) -> AsyncIterator[None]:
    key = at.crowd.last()
    yield
    assert await at.client.enqueue("f", key=key) is None


async def enqueue_many(at: Bench) -> AsyncIterator[None]:
    yield
    await at.added(BATCH_JOBS, retries=3, timeout=5)


async def enqueue_by_priority(at: Bench) -> AsyncIterator[None]:
    yield
    await at.client.enqueue_many(Job("f", key=new_key(), priority=n) for n in range(1, BATCH_JOBS))


async def enqueue_for_later(at: Bench) -> AsyncIterator[None]:
    yield
    await at.client.enqueue_many(Job("f", key=new_key(), scheduled=FAR - n) for n in range(BATCH_JOBS))


async def enqueue_and_wait(at: Bench) -> AsyncIterator[None]:
    await at.client.wait("nobody")
    yield
    waiting = asyncio.create_task(at.client.apply("f", key=new_key(), priority=-2))
    while not waiting.done():
        jobs = (await at.queue.step((), 1)).jobs
        await at.queue.step([at.queue.settle(job, Status.COMPLETE, result=1) for job in jobs], 0)
    assert await waiting == 1


async def claim_and_complete(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed()
    await at.added(STEP_JOBS, priority=-1)
    yield
    step = await at.queue.step([at.queue.settle(job, Status.COMPLETE, result=1) for job in jobs], STEP_JOBS)
    await at.queue.step([at.queue.settle(job, Status.COMPLETE) for job in step.jobs], 0)


async def complete_what_was_updated(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed()
    await asyncio.gather(*(at.queue.update(job, meta={"a": 1}) for job in jobs))
    yield
    await at.queue.step([at.queue.settle(job, Status.COMPLETE, result=1) for job in jobs], 0)


async def fail(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed(UNUSUAL_JOBS)
    yield
    await at.queue.step([at.queue.settle(job, Status.FAILED, error="e" * 1_000) for job in jobs], 0)


async def fail_when_a_record_is_gone(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed(UNUSUAL_JOBS)
    oldest: Any = at.crowd.books.raw.zrange(prefix(at.queue) + b"failed", 0, 0)
    at.crowd.books.raw.delete(prefix(at.queue) + b"job:" + oldest[0])
    yield
    await at.queue.step([at.queue.settle(job, Status.FAILED, error="e" * 1_000) for job in jobs], 0)
    await at.client.delete(oldest[0].decode())


async def retry(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed(UNUSUAL_JOBS, retries=2)
    yield
    await at.queue.step([at.queue.settle_retry(job, "e" * 1_000, 0) for job in jobs], 0)


async def retry_later(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed(UNUSUAL_JOBS, retries=2)
    yield
    await at.queue.step([at.queue.settle_retry(job, "e" * 1_000, 3_600) for job in jobs], 0)


async def give_back(at: Bench) -> AsyncIterator[None]:
    jobs = await at.claimed(UNUSUAL_JOBS)
    yield
    await at.queue.step([at.queue.settle_return(job, "cancelled") for job in jobs], 0)


async def renew(at: Bench) -> AsyncIterator[None]:
    at.held() or await at.claimed(500)
    keeper = session(at.queue).leases
    assert keeper is not None
    yield
    await keeper._renew(session(at.queue).wire)


async def say_that_thousands_run_for_too_long(at: Bench) -> AsyncIterator[None]:
    for job in at.held() or await at.claimed(2_000):
        at.queue.hold(job, 0.0)
        job.__dict__.pop("_overtime", None)
    keeper = session(at.queue).leases
    assert keeper is not None
    yield
    await keeper._renew(session(at.queue).wire)
    assert all("_overtime" in job.__dict__ for job in at.held())


async def update(at: Bench) -> AsyncIterator[None]:
    (job,) = await at.claimed(1)
    yield
    await job.update(progress=0.5, meta={"a": 1})
    await at.client.update(at.handle(at.crowd.last()), ttl=5)


async def abort(at: Bench) -> AsyncIterator[None]:
    (running,) = await at.claimed(1)
    (scheduled,) = await at.added(scheduled=FAR)
    yield
    for key in (at.crowd.last(), scheduled, running.key):
        assert await at.client.abort(at.handle(key), "no more")


async def delete(at: Bench) -> AsyncIterator[None]:
    yield
    assert await at.client.delete(at.crowd.last())


async def requeue(at: Bench) -> AsyncIterator[None]:
    (job,) = await at.claimed(1)
    await job.finish(Status.FAILED)
    yield
    assert await at.client.requeue(job.key)


async def run_now(at: Bench) -> AsyncIterator[None]:
    (key,) = await at.added(scheduled=FAR)
    yield
    assert await at.client.run_now(key)


async def become_due(at: Bench) -> AsyncIterator[None]:
    due = await at.client.server_time() + 0.02
    await at.added(STEP_JOBS, scheduled=due)
    while await at.client.server_time() < due + 0.002:
        pass
    yield
    assert len(await at.client.schedule()) == STEP_JOBS


async def sweep(at: Bench) -> AsyncIterator[None]:
    yield
    assert await at.client.sweep() == []


async def tick(at: Bench) -> AsyncIterator[None]:
    at_second = 1_000_000 + next(numbers)
    await at.client.tick("entry", at_second - 0.5, Job("f", key=new_key()))
    yield
    assert await at.client.tick("entry", at_second, Job("f", key=new_key())) == "enqueued"


async def pause_and_resume(at: Bench) -> AsyncIterator[None]:
    yield
    await at.client.pause()
    await at.client.resume()


async def register(at: Bench) -> AsyncIterator[None]:
    yield
    await at.queue.worker_info("somebody")


async def count(at: Bench) -> AsyncIterator[None]:
    yield
    for kind in ("queued", "active", "scheduled", "incomplete"):
        assert await at.client.count(kind) > 0


async def read_one(at: Bench) -> AsyncIterator[None]:
    yield
    assert await at.client.job(at.crowd.last()) is not None


async def read_many(at: Bench) -> AsyncIterator[None]:
    keys = [f"queued-{at.crowd.size // 2 + n}" for n in range(STEP_JOBS)]
    yield
    assert None not in await at.client.jobs(keys)


async def look_at_pages(at: Bench) -> AsyncIterator[None]:
    yield
    for place in (0, at.crowd.size // 2, at.crowd.size):
        assert len((await at.client.info(jobs=True, offset=place, limit=50))["jobs"]) == 50


async def iterate(at: Bench) -> AsyncIterator[None]:
    yield
    for status in (Status.ACTIVE, Status.FAILED):
        seen = 0
        async for _ in at.client.iter_jobs([status]):
            seen += 1
            if seen == 2:
                break


async def listen(at: Bench) -> AsyncIterator[None]:
    key = at.crowd.last()
    yield
    listening = asyncio.create_task(at.client.listen([key], lambda key, status: True))
    while not listening.done():
        await at.queue.notify(Job("f", key=key, queue=at.queue))
    await listening


async def listen_to_thousands(at: Bench) -> AsyncIterator[None]:
    watching = prefix(at.queue) + b"watching"
    yield
    keys = [f"queued-{n}" for n in range(2_000)]
    listening = asyncio.create_task(at.client.listen(keys, lambda key, status: True))
    await until(lambda: at.crowd.books.raw.hlen(watching) == len(keys))
    await at.queue.notify(Job("f", key=keys[0], queue=at.queue))
    await listening


OPERATIONS: list[Operation] = [
    enqueue,
    enqueue_what_is_there,
    enqueue_many,
    enqueue_by_priority,
    enqueue_for_later,
    enqueue_and_wait,
    claim_and_complete,
    complete_what_was_updated,
    fail,
    fail_when_a_record_is_gone,
    retry,
    retry_later,
    give_back,
    renew,
    say_that_thousands_run_for_too_long,
    update,
    abort,
    delete,
    requeue,
    run_now,
    become_due,
    sweep,
    tick,
    pause_and_resume,
    register,
    count,
    read_one,
    read_many,
    look_at_pages,
    iterate,
    listen,
    listen_to_thousands,
]
