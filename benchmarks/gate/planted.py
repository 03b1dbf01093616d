"""What the self-test plants in an operation.

Owns the planted operations. Each does one thing more than the scenario it stands beside.
"""

from __future__ import annotations

from benchmarks.gate import scenarios
from benchmarks.gate.scenarios import Operation, new_job
from saq.queue.redis import RedisQueue
from saq.utils import now

#: The scenario that is planted in.
PLAIN = "enqueue one by one"


async def with_command(queue: RedisQueue, n: int) -> None:
    """A command, and with it a round trip, for each job."""
    for number in range(n):
        await queue._session.wire.call("PING")
        await queue.enqueue(new_job(number))


async def with_key(queue: RedisQueue, n: int) -> None:
    """A key that nobody takes away."""
    await queue._session.wire.call("SET", "saq:{default}:forgotten", "")
    for number in range(n):
        await queue.enqueue(new_job(number))


async def with_operation(queue: RedisQueue, n: int) -> None:
    """A script for each job, which does one thing."""
    for number in range(n):
        await queue._session.wire.call("EVAL", "return redis.call('PTTL', 'none')", "0")
        await queue.enqueue(new_job(number))


async def _with_call(queue: RedisQueue, n: int) -> None:
    """A call of a Python function for each job."""
    for number in range(n):
        now()
        await queue.enqueue(new_job(number))


#: For `calls.py`: the scenario as it is, and with the call.
SCENARIOS: dict[str, Operation] = {"plain": scenarios.SCENARIOS[PLAIN], "planted": _with_call}
