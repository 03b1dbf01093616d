"""The operations whose cost is counted.

Owns what each scenario does, ``n`` times over. Must not count: that is `counters.py` and `calls.py`. Each
does the same however often it is run and whatever the machine is busy with, or its counts would be worth
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from saq.job import Job, Status
from saq.queue.backend import Settlement
from saq.queue.redis import RedisQueue
from saq.worker import Worker, slots

Operation = Callable[[RedisQueue, int], Awaitable[None]]

#: How many reads are asked for at once, and how many jobs a page shows.
TOGETHER = 10
LATER = 4_000_000_000


def new_job(number: int, **fields: Any) -> Job:
    """A job whose bytes are as many as those of any other."""
    return Job("function", {"number": 100_000 + number}, key=f"key-{100_000 + number}", **fields)


async def warm_up(queue: RedisQueue, operation: Operation) -> None:
    """Handshake, script cache and the first entries of everything are not what is counted."""
    await operation(queue, TOGETHER)
    # Call numbers of two digits would cost a byte less than those of three.
    session = queue._session
    for lane in (session.calls, *session.steps, session.outbox._lane):
        lane._number = max(lane._number, 99)


# Enqueue ----------------------------------------------------------------------------------------------------


async def _enqueue(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        await queue.enqueue(new_job(i))


async def _enqueue_together(queue: RedisQueue, n: int) -> None:
    await asyncio.gather(*(queue.enqueue(new_job(i)) for i in range(n)))


async def _enqueue_many(queue: RedisQueue, n: int) -> None:
    await queue.enqueue_many(new_job(i) for i in range(n))


async def _enqueue_later(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        await queue.enqueue(new_job(i, scheduled=LATER + i))


async def _tick(queue: RedisQueue, n: int) -> None:
    await queue.tick("entry", 1_700_000_000, new_job(0))
    for i in range(n):
        await queue.tick("entry", 1_700_000_001 + i, new_job(i))


# Claim and settle -------------------------------------------------------------------------------------------


def _drain(at_once: int) -> Operation:
    async def drain(queue: RedisQueue, n: int) -> None:
        await _enqueue_many(queue, n)
        done: list[Settlement] = []
        settled = 0
        while settled < n:
            step = await queue.step(done, min(at_once, n - settled - len(done)))
            settled += len(done)
            done = [queue.settle(job, Status.COMPLETE, result=1) for job in step.jobs]

    return drain


async def _function(ctx: Any, *, number: int) -> int:
    return 1


async def work(queue: RedisQueue, n: int) -> None:
    """A worker for one job at a time, and none ahead: else chance decides how many one step brings in."""
    await _enqueue_many(queue, n)
    worker: Worker[Any] = Worker(
        queue, [("function", _function)], concurrency=1, burst=True, dequeue_timeout=1, max_burst_jobs=n
    )
    worker.SIGNALS = []  # type: ignore[misc]
    ahead, slots.AHEAD = slots.AHEAD, 0.0
    try:
        await worker.start()
    finally:
        slots.AHEAD = ahead


async def _each_claimed(queue: RedisQueue, n: int) -> AsyncIterator[Job]:
    for i in range(n):
        await queue.enqueue(new_job(i))
        yield (await queue.step((), 1)).jobs[0]


async def _fail(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.step([queue.settle(job, Status.FAILED, error="x" * 100)], 0)


async def _retry(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.step([queue.settle_retry(job, "x" * 100, 0.0)], 0)
        again = (await queue.step((), 1)).jobs[0]
        await queue.step([queue.settle(again, Status.COMPLETE)], 0)


async def _update(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.update(job, progress=0.5)
        await queue.step([queue.settle(job, Status.COMPLETE)], 0)


async def _wait(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        [end] = await queue._send_and_wait([new_job(i)])
        job = (await queue.step((), 1)).jobs[0]
        await queue.step([queue.settle(job, Status.COMPLETE, result=1)], 0)
        await end


async def _look(queue: RedisQueue, n: int) -> None:
    for _ in range(n):
        await queue.step((), 10)


# What is done to jobs that wait, run or have ended ----------------------------------------------------------


async def _abort_queued(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        job = new_job(i)
        await queue.enqueue(job)
        await queue.abort(job, "no more")


async def _abort_running(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.abort(job, "no more")
        await queue.step([queue.settle(job, Status.ABORTED, error="no more")], 0)


async def _requeue(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.step([queue.settle(job, Status.COMPLETE)], 0)
        await queue.requeue(job.key)
        await queue.delete(job.key)


async def _run_now(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        job = new_job(i, scheduled=LATER)
        await queue.enqueue(job)
        await queue.run_now(job.key)


async def _read(queue: RedisQueue, n: int) -> None:
    await queue.enqueue(new_job(0))
    for _ in range(n):
        await queue.job(new_job(0).key)


async def _read_together(queue: RedisQueue, n: int) -> None:
    await queue.enqueue(new_job(0))
    for _ in range(n // TOGETHER):
        await asyncio.gather(*(queue.job(new_job(0).key) for _ in range(TOGETHER)))


async def _info(queue: RedisQueue, n: int) -> None:
    await queue.enqueue(new_job(0))
    for _ in range(n):
        await queue.info()


async def _page(queue: RedisQueue, n: int) -> None:
    await _enqueue_many(queue, TOGETHER)
    for _ in range(n):
        await queue.info(jobs=True, limit=TOGETHER)


# What workers do at intervals -------------------------------------------------------------------------------


async def _register(queue: RedisQueue, n: int) -> None:
    for _ in range(n):
        await queue.register("worker", {"queue_key": None, "stats": None, "metadata": None}, ["function"], 60)


async def _renew(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, 1):
        for _ in range(n):
            await queue._session.run("renew", 30_000, job._member)
        await queue.step([queue.settle(job, Status.COMPLETE)], 0)


async def _sweep(queue: RedisQueue, n: int) -> None:
    for _ in range(n):
        await queue.sweep()


SCENARIOS: dict[str, Operation] = {
    "enqueue one by one": _enqueue,
    "enqueue together": _enqueue_together,
    "enqueue in bulk": _enqueue_many,
    "enqueue for later": _enqueue_later,
    "cron tick": _tick,
    "enqueue and drain by 1": _drain(1),
    "enqueue and drain by 10": _drain(10),
    "enqueue and drain by 40": _drain(40),
    "enqueue, work one at a time": work,
    "enqueue, claim, fail": _fail,
    "enqueue, claim, retry, complete": _retry,
    "enqueue, claim, update, complete": _update,
    "enqueue, claim, complete, be told": _wait,
    "enqueue, claim, complete, requeue, delete": _requeue,
    "enqueue, claim, abort": _abort_running,
    "enqueue, abort": _abort_queued,
    "enqueue for later, run now": _run_now,
    "read a job": _read,
    "read ten jobs at once": _read_together,
    "read the counts": _info,
    "read a page of jobs": _page,
    "look for work": _look,
    "register a worker": _register,
    "renew a lease": _renew,
    "sweep": _sweep,
}
