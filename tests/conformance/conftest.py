"""The backend that the conformance suite holds to its promises.

A second backend is held to them by another `queue_factory`: nothing else in this folder knows what is behind
a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from saq.queue.base import Queue
from tests.conformance.helpers import QueueFactory


@pytest.fixture
async def queue_factory(redis_url: str) -> AsyncIterator[QueueFactory]:
    """Makes queue objects on one server, each like that of another process; they are empty at first."""
    queues: list[Queue] = []

    def make(name: str = "default", **options: object) -> Queue:
        queue = Queue.from_url(redis_url, name=name, **options)
        queues.append(queue)
        return queue

    yield make
    await asyncio.gather(*(queue.disconnect() for queue in queues))


@pytest.fixture
async def queue(queue_factory: QueueFactory) -> Queue:
    """A queue."""
    return queue_factory()


@pytest.fixture
async def other(queue_factory: QueueFactory) -> Queue:
    """The same queue, as another process sees it."""
    return queue_factory()
