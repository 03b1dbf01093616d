"""Workers, queues and processes, as the tests of the worker have them, and a look behind."""

from __future__ import annotations

from tests.redis.conftest import raw
from tests.worker.conftest import client, make_queue, queue, work
from tests.worker.test_lifecycle import start

__all__ = ["client", "make_queue", "queue", "raw", "start", "work"]
