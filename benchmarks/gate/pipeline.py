"""The drain of a worker against a bare pipeline.

Owns that comparison and its floor. A bare pipeline is the least that a queue could send for the same jobs
(take the job out, keep its result), without scripts, leases, retries or any code of ours. Both run in turns,
on the same server, in the same process.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as aioredis

from benchmarks.progress import Progress
from saq.job import Job
from saq.queue.redis import RedisQueue
from saq.worker import Worker
from saq.worker.process import run_loop
from tests.servers import Server

Function = Callable[[dict[str, Any]], Awaitable[None]]
JOBS, CONCURRENCY, ROUNDS = 20_000, 100, 5
#: A drain does at least so much of what the bare pipeline does. Measured: 1.5 to 1.9.
FLOOR = 1.0


async def _noop(ctx: dict[str, Any]) -> None:
    """Does nothing."""


def spinning(seconds: float) -> Function:
    """A job that takes so long: what the self-test plants."""

    async def spin(ctx: dict[str, Any]) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    return spin


async def _drain(url: str, function: Function, jobs: int) -> float:
    """Jobs a second of one worker."""
    queue = RedisQueue.from_url(url)
    await queue.enqueue_many(Job("noop") for _ in range(jobs))
    worker: Worker[Any] = Worker(
        queue,
        [("noop", function)],
        concurrency=CONCURRENCY,
        burst=True,
        dequeue_timeout=1,
        max_burst_jobs=jobs,
    )
    worker.SIGNALS = []  # type: ignore[misc]
    done = asyncio.Event()
    _when(queue, jobs, done)
    began = time.perf_counter()
    running = asyncio.create_task(worker.start())
    await done.wait()
    took = time.perf_counter() - began
    await running
    await queue.disconnect()
    return jobs / took


def _when(queue: RedisQueue, count: int, done: asyncio.Event) -> None:
    """Sets the event as the last job is settled: no poll adds to the figure."""
    claims = queue._claims
    settled = claims.settled

    def counting(*arguments: Any) -> Any:
        answer = settled(*arguments)
        if queue.complete >= count:
            done.set()
        return answer

    claims.settled = counting  # type: ignore[method-assign,assignment]


async def _pipeline(url: str, jobs: int) -> float:
    """The same number of jobs through a bare pipeline, in batches as large as the worker's."""
    client = aioredis.Redis.from_url(url)
    payload = b'{"function":"noop"}'
    fill = client.pipeline(transaction=False)
    for i in range(jobs):
        fill.hset("jobs", f"key-{i}", payload)
        fill.zadd("queued", {f"key-{i}": i})
        if i % 500 == 499:
            await fill.execute()
    began = time.perf_counter()
    for _ in range(0, jobs, CONCURRENCY):
        popped: Any = await client.zpopmin("queued", CONCURRENCY)
        names: list[bytes] = [name for name, _ in popped]
        pipe = client.pipeline(transaction=False)
        pipe.hmget("jobs", names)
        pipe.hdel("jobs", *names)
        for name in names:
            pipe.set(b"job:" + name, payload, ex=600)
        await pipe.execute()
    took = time.perf_counter() - began
    await client.aclose()
    return jobs / took


async def _pair(url: str, first: bool, function: Function, jobs: int) -> float:
    if first:
        ours, bare = await _drain(url, function, jobs), await _pipeline(url, jobs)
    else:
        bare = await _pipeline(url, jobs)
        ours = await _drain(url, function, jobs)
    return ours / bare


def measure(progress: Progress, function: Function, jobs: int) -> float:
    """The median of the ratios drain to pipeline, pair by pair."""
    ratios = []
    progress.begin([1.5] * (ROUNDS + 1))
    with Server() as server:
        for number in range(ROUNDS + 1):
            progress.show("drain", "a bare pipeline", f"pair {number + 1}")
            server.flush()
            ratio = run_loop(_pair(server.url(), number % 2 == 0, function, jobs))
            if number:  # the first warms up
                ratios.append(ratio)
            progress.done()
    progress.end()
    return statistics.median(ratios)


def check(progress: Progress, function: Function = _noop, jobs: int = JOBS) -> bool:
    """Whether the drain keeps its floor."""
    ratio = measure(progress, function, jobs)
    held = ratio >= FLOOR
    print(
        f"{'pipeline' if held else '  ✗ pipeline'}: a drain at concurrency {CONCURRENCY} does {ratio:.2f} "
        f"of a bare pipeline (floor {FLOOR:g})"
    )
    return held
