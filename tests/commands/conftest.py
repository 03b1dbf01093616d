"""Commands of a test, ended with it, and the queue that they work on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from saq.queue.redis import RedisQueue
from tests.processes import Command, saq

Start = Callable[..., Command]


@pytest.fixture
async def start(redis_url: str) -> AsyncIterator[Start]:
    """Starts `python -m saq` with these words, on the server of the test."""
    started: list[Command] = []

    def command(*words: str, **kwargs: object) -> Command:
        started.append(saq(*words, **{"url": redis_url, **kwargs}))  # type: ignore[arg-type]
        return started[-1]

    yield command
    for process in started:
        process.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisQueue]:
    """The queue as another process has it."""
    queue = RedisQueue.from_url(redis_url)
    yield queue
    await queue.disconnect()
