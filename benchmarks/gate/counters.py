"""What an operation costs, counted rather than timed.

Owns the scenarios and the counting. Must not judge: `exact.py` compares with what is on record.

Each scenario is run for N and for 2 N operations on a private server; the difference per operation is its
cost, and whatever it costs once cancels out. Counted are

    calls     commands that the client sends, by name
    inside    commands that the scripts run, by name
    bytes     on the wire, to the server and back
    left      keys that are still there afterwards, by kind
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from saq.job import Job, Status
from saq.queue.backend import Settlement
from saq.queue.redis import RedisQueue
from saq.queue.redis.wire import Wire
from tests.servers import Server

#: Operations of the shorter run. Call numbers keep their digits between 100 and 999, so that bytes agree; and
#: it is no multiple of what goes out in one batch.
N = 400

Operation = Callable[[RedisQueue, int], Awaitable[None]]


class Cost(NamedTuple):
    """What one operation costs."""

    calls: dict[str, float]
    inside: dict[str, float]
    bytes_in: float
    bytes_out: float
    left: list[str]


async def _enqueue(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        await queue.enqueue(new_job(i))


async def _enqueue_together(queue: RedisQueue, n: int) -> None:
    await asyncio.gather(*(queue.enqueue(new_job(i)) for i in range(n)))


async def _enqueue_many(queue: RedisQueue, n: int) -> None:
    await queue.enqueue_many(new_job(i) for i in range(n))


async def _enqueue_later(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        await queue.enqueue(new_job(i, scheduled=4_000_000_000 + i))


async def _drain(queue: RedisQueue, n: int, at_once: int) -> None:
    await queue.enqueue_many(new_job(i) for i in range(n))
    done: list[Settlement] = []
    settled = 0
    while settled < n:
        step = await queue.step(done, min(at_once, n - settled - len(done)))
        settled += len(done)
        done = [queue.settle(job, Status.COMPLETE, result=1) for job in step.jobs]


async def _drain_one(queue: RedisQueue, n: int) -> None:
    await _drain(queue, n, 1)


async def _drain_ten(queue: RedisQueue, n: int) -> None:
    await _drain(queue, n, 10)


async def _drain_forty(queue: RedisQueue, n: int) -> None:
    await _drain(queue, n, 40)


async def _each_claimed(queue: RedisQueue, n: int) -> AsyncIterator[Job]:
    for i in range(n):
        await queue.enqueue(new_job(i))
        yield (await queue.step((), 1)).jobs[0]


async def _fail(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.step([queue.settle(job, Status.FAILED, error="x" * 100)], 0)


async def _retry(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.step([queue.settle_retry(job, "x" * 100, 0.0)], 0)
        again = (await queue.step((), 1)).jobs[0]
        await queue.step([queue.settle(again, Status.COMPLETE)], 0)


async def _update(queue: RedisQueue, n: int) -> None:
    async for job in _each_claimed(queue, n):
        await queue.update(job, progress=0.5)
        await queue.step([queue.settle(job, Status.COMPLETE)], 0)


async def _abort_queued(queue: RedisQueue, n: int) -> None:
    for i in range(n):
        job = new_job(i)
        await queue.enqueue(job)
        await queue.abort(job, "no more")


async def _read(queue: RedisQueue, n: int) -> None:
    await queue.enqueue(new_job(0))
    for _ in range(n):
        await queue.job(new_job(0).key)


async def _info(queue: RedisQueue, n: int) -> None:
    await queue.enqueue(new_job(0))
    for _ in range(n):
        await queue.info()


async def _tick(queue: RedisQueue, n: int) -> None:
    await queue.tick("entry", 1_700_000_000, new_job(0))
    for i in range(n):
        await queue.tick("entry", 1_700_000_001 + i, new_job(i))


async def _sweep(queue: RedisQueue, n: int) -> None:
    for _ in range(n):
        await queue.sweep()


async def _look(queue: RedisQueue, n: int) -> None:
    for _ in range(n):
        await queue.step((), 10)


SCENARIOS: dict[str, Operation] = {
    "enqueue one by one": _enqueue,
    "enqueue together": _enqueue_together,
    "enqueue in bulk": _enqueue_many,
    "enqueue for later": _enqueue_later,
    "enqueue and drain by 1": _drain_one,
    "enqueue and drain by 10": _drain_ten,
    "enqueue and drain by 40": _drain_forty,
    "enqueue, claim, fail": _fail,
    "enqueue, claim, retry, complete": _retry,
    "enqueue, claim, update, complete": _update,
    "enqueue, abort": _abort_queued,
    "read a job": _read,
    "read the counts": _info,
    "cron tick": _tick,
    "sweep": _sweep,
    "look for work": _look,
}


def new_job(number: int, **fields: Any) -> Job:
    """A job whose bytes are as many as those of any other."""
    return Job("function", {"number": 100_000 + number}, key=f"key-{100_000 + number}", **fields)


@contextlib.contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Counts what every connection of this process sends."""
    calls: Counter[str] = Counter()
    send = Wire.send

    def counting(wire: Wire, *command: Any) -> asyncio.Future[Any]:
        calls[str(command[0])] += 1
        return send(wire, *command)

    Wire.send = counting  # type: ignore[method-assign,assignment]
    try:
        yield calls
    finally:
        Wire.send = send  # type: ignore[method-assign]


async def _run(server: Server, operation: Operation, n: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Calls, server-side counters and what is left, of ``n`` operations."""
    client = server.client()
    server.flush()
    queue = RedisQueue.from_url(server.url())
    try:
        # Handshake, script cache and the first entries of everything are not what is counted.
        await _warm_up(queue, operation)
        server.flush()
        client.config_resetstat()
        before = client.info("stats")
        with _counted() as calls:
            await operation(queue, n)
        after = client.info("stats")
        stats = client.info("commandstats")
    finally:
        await queue.disconnect()
    served: Counter[str] = Counter()
    for name, row in stats.items():
        served[name.removeprefix("cmdstat_").replace("|", " ")] = row["calls"]
    for name in ("info", "config resetstat", "client setinfo", "client setname"):
        del served[name]
    served["bytes in"] = after["total_net_input_bytes"] - before["total_net_input_bytes"]
    served["bytes out"] = after["total_net_output_bytes"] - before["total_net_output_bytes"]
    left = sorted({_kind(key.decode()) for key in client.scan_iter()})
    return calls, served, left


async def _warm_up(queue: RedisQueue, operation: Operation) -> None:
    await operation(queue, 2)
    # Call numbers of two digits would cost a byte less than those of three.
    while queue._session.calls._number < 99:
        await queue.abort(Job("none", key="none", queue=queue), "")
    lanes = [*queue._session.steps, queue._session.outbox._lane]
    for lane in lanes:
        lane._number = max(lane._number, 99)


def _kind(key: str) -> str:
    """A key of Redis without what is different each time."""
    name = key.partition("}:")[2]
    return re.sub(r"^(job|last|worker):.*$", r"\1:*", name)


async def cost_of(server: Server, operation: Operation) -> Cost:
    """What one operation costs, by the difference between N and 2 N of them."""
    calls, served, _ = await _run(server, operation, N)
    calls_2, served_2, left = await _run(server, operation, 2 * N)
    sent = {name.lower() for name in calls_2}

    def slope(two: Counter[str], one: Counter[str]) -> dict[str, float]:
        rows = {name: round((two[name] - one[name]) / N, 3) for name in sorted(two)}
        return {name: value for name, value in rows.items() if value}

    inside = slope(served_2, served)
    bytes_in, bytes_out = inside.pop("bytes in"), inside.pop("bytes out")
    for name in sent:
        inside.pop(name, None)
    return Cost(slope(calls_2, calls), inside, bytes_in, bytes_out, left)


def imported_modules() -> int:
    """How many modules `import saq` brings with it."""
    script = (
        "import sys, json; before = set(sys.modules); import saq; "
        "print(json.dumps(len(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    return int(json.loads(done.stdout))
