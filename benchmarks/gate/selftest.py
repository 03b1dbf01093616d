"""Whether the gates can fail at all.

Owns what is planted: one command more in an operation, and a slowdown. A gate that stays green is broken.
"""

from __future__ import annotations

import asyncio
import json

from benchmarks.gate import exact, ratios
from benchmarks.gate.counters import cost_of, new_job
from saq.queue.redis import RedisQueue
from tests.servers import Server

SCENARIO = "enqueue one by one"


async def _enqueue_with_ping(queue: RedisQueue, n: int) -> None:
    for number in range(n):
        await queue._session.wire.call("PING")
        await queue.enqueue(new_job(number))


async def _slow_drain(url: str) -> float:
    return await ratios._drain(url) / 4


def check() -> bool:
    """Whether each gate goes red for what is planted."""
    recorded = json.loads(exact.RECORD.read_text())[SCENARIO]
    with Server(save="") as server:
        found = exact._row(asyncio.run(cost_of(server, _enqueue_with_ping)))
    red = list(exact.differences({SCENARIO: recorded}, {SCENARIO: found}))
    command = any("PING" in line for line in red)
    print(f"selftest: an extra command is {'seen' if command else 'NOT SEEN'}")
    slow = ratios.measure(_slow_drain) < ratios.FLOOR
    print(f"selftest: a slowdown is {'seen' if slow else 'NOT SEEN'}")
    return command and slow
