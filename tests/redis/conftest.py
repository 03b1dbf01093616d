"""Queues on Redis, and a look behind them."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.conformance.conftest import other, queue, queue_factory
from tests.servers import Server

__all__ = ["other", "queue", "queue_factory", "raw"]


@pytest.fixture
def raw(server: Server, redis_url: str) -> Redis:
    """A plain client of the same server."""
    return server.client()
