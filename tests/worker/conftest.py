"""Queues and workers of a test, ended in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from saq import Worker
from saq.queue.redis import RedisQueue
from tests.worker.support import make_worker

MakeQueue = Callable[..., RedisQueue]
Work = Callable[..., Awaitable[Worker[Any]]]


@pytest.fixture
async def make_queue(redis_url: str) -> AsyncIterator[MakeQueue]:
    """Another process would have a queue object of its own: `make_queue(name=...)`."""
    made: list[RedisQueue] = []

    def make(url: str = redis_url, **kwargs: Any) -> RedisQueue:
        made.append(RedisQueue.from_url(url, **kwargs))
        return made[-1]

    yield make
    for queue in made:
        await queue.disconnect()


@pytest.fixture
async def queue(make_queue: MakeQueue) -> RedisQueue:
    """The queue object of the worker."""
    return make_queue()


@pytest.fixture
async def client(make_queue: MakeQueue) -> RedisQueue:
    """The same queue, as another process would have it."""
    return make_queue()


@pytest.fixture
async def work(queue: RedisQueue) -> AsyncIterator[Work]:
    """Starts workers: `worker = await work({"double": double}, concurrency=2)`. They are claiming when it
    returns, and are stopped at the end of the test."""
    started: list[tuple[Worker[Any], asyncio.Task[None]]] = []

    async def start(
        functions: dict[str, Callable[..., Any]] | None = None,
        queue: RedisQueue = queue,
        **settings: Any,
    ) -> Worker[Any]:
        worker = make_worker(queue, functions or {}, **settings)
        task = asyncio.create_task(worker.start(), name="worker")
        started.append((worker, task))
        return worker

    yield start
    for worker, _ in started:
        await worker.stop()
    for _, task in started:
        await task
