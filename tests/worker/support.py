"""What the tests of the worker share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import ConnectionError

from saq import Job, Queue, Worker
from saq.queue.redis import RedisQueue


async def until(
    condition: Callable[[], Any | Awaitable[Any]], timeout: float = 10.0, why: Callable[[], str] = str
) -> Any:
    """Waits until a condition holds, and returns what it said. For what no event tells of.

    If it does not come about, ``why`` may tell more."""
    deadline = time.monotonic() + timeout
    while True:
        held = condition()
        if isinstance(held, Awaitable):
            held = await held
        if held:
            return held
        assert time.monotonic() < deadline, f"this did not come about in {timeout:g} s {why()}"
        await asyncio.sleep(0.005)


def make_worker(queue: Queue, functions: dict[str, Callable[..., Any]], **settings: Any) -> Worker[Any]:
    """A worker that leaves the signals of the test's process alone."""
    worker: Worker[Any] = Worker(queue, list(functions.items()), **settings)
    worker.SIGNALS = []  # type: ignore[misc]
    return worker


@asynccontextmanager
async def running(worker: Worker[Any]) -> AsyncIterator[Worker[Any]]:
    """A worker at work; it is stopped at the end, and what `start` raised comes out here."""
    task = asyncio.create_task(worker.start(), name="worker")
    await asyncio.sleep(0)  # a `stop` before the first line of `start` would be one before it
    try:
        yield worker
    finally:
        await worker.stop()
        await task


async def ended(queue: Queue, key: str | Job, timeout: float = 10.0) -> Job:
    """The job when it has ended, as another client sees it."""
    job = await queue.wait(key.key if isinstance(key, Job) else key, timeout)
    assert job is not None
    return job


async def enqueue(queue: Queue, function: str, **kwargs: Any) -> Job:
    """Enqueues what must be new."""
    job = await queue.enqueue(function, **kwargs)
    assert job is not None
    return job


async def idle(queue: RedisQueue, workers: int = 1) -> None:
    """Waits until so many workers have nothing to do and block on the marker."""

    async def blocked() -> bool:
        try:
            clients = await queue.redis.info("clients")
        except ConnectionError:
            return False  # of before the server was started again
        return bool(clients["blocked_clients"] == workers)

    await until(blocked)


@asynccontextmanager
async def took(at_most: float, at_least: float = 0.0) -> AsyncIterator[None]:
    """What is done inside takes that long, in seconds."""
    began = time.monotonic()
    async with asyncio.timeout(at_most):
        yield
    assert time.monotonic() - began >= at_least


async def made_known(client: RedisQueue, function: str, seconds_ago: float) -> None:
    """Pretends that a worker that knows a function was last seen so long ago."""
    now, _ = await client.redis.time()
    await client.redis.zadd("saq:{default}:functions", {function: (now - seconds_ago) * 1000})
