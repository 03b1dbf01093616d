from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from saq import Queue
from tests.web.faces import KINDS, Face, open_face

#: A queue may have any name.
ODD = "a/b {c}:* <b>%2F"


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTH_PASSWORD", raising=False)
    monkeypatch.delenv("AUTH_USER", raising=False)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Queue]:
    """The queue that is shown."""
    queue = Queue.from_url(redis_url)
    yield queue
    await queue.disconnect()


@pytest.fixture
async def odd(redis_url: str) -> AsyncIterator[Queue]:
    """Another one that is shown, by the name of ``ODD``."""
    queue = Queue.from_url(redis_url, name=ODD)
    yield queue
    await queue.disconnect()


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Queue]:
    """The first queue as a worker elsewhere has it."""
    queue = Queue.from_url(redis_url)
    yield queue
    await queue.disconnect()


@pytest.fixture
async def face(kind: str, queue: Queue, odd: Queue) -> AsyncIterator[Face]:
    async with open_face(kind, [queue, odd]) as face:
        yield face
