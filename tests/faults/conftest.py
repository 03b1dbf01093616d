"""A proxy before the server that all tests share, and queues whose way leads through it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, proxied
from tests.servers import Server
from tests.worker.conftest import MakeQueue, Work, client, make_queue, queue, work

__all__ = ["MakeQueue", "Work", "client", "make_queue", "queue", "work"]


@pytest.fixture
async def proxy(server: Server, redis_url: str) -> AsyncIterator[Proxy]:
    async with proxied(server.port) as between:
        yield between
