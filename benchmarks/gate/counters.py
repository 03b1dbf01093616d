"""What an operation costs Redis and the network, counted rather than timed.

Owns the counting. Must not judge: `exact.py` compares with what is on record.

Each scenario is run for N and for 2 N operations on a private server; the difference per operation is its
cost, and whatever it costs once cancels out. Counted are

    calls     commands that the client sends, by name
    trips     round trips: commands that one connection sends in the same turn of the loop share one
    inside    commands that the scripts run, by name
    bytes     on the wire, to the server and back
    memory    bytes that stay behind in Redis: those of a queued job, of a finished one
    left      keys that are still there afterwards, by kind
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.gate.scenarios import Operation, warm_up
from saq.queue.redis import RedisQueue
from saq.queue.redis.wire import Wire
from tests.servers import Server

#: Operations of the shorter run. Call numbers keep their digits between 100 and 999, so that bytes agree; and
#: it is no multiple of what goes out in one batch.
N = 400


class Cost(NamedTuple):
    """What one operation costs."""

    calls: dict[str, float]
    trips: float
    inside: dict[str, float]
    bytes_in: float
    bytes_out: float
    memory: float
    left: list[str]


class _Count(NamedTuple):
    """What was counted in one run."""

    calls: Counter[str]
    served: Counter[str]
    sums: Counter[str]
    left: list[str]


@contextlib.contextmanager
def _counted(calls: Counter[str], sums: Counter[str]) -> Iterator[None]:
    """Counts what every connection of this process sends."""
    send, write = Wire.send, Wire.write
    #: Those that have sent something in this turn of the loop.
    sending: set[Wire] = set()

    def count(wire: Wire, command: tuple[Any, ...]) -> None:
        calls[str(command[0]).lower()] += 1
        if wire not in sending:
            sums["trips"] += 1
            sending.add(wire)
            asyncio.get_running_loop().call_soon(sending.discard, wire)

    def counting_send(wire: Wire, *command: Any) -> asyncio.Future[Any]:
        count(wire, command)
        return send(wire, *command)

    def counting_write(wire: Wire, *command: Any) -> None:
        count(wire, command)
        write(wire, *command)

    Wire.send, Wire.write = counting_send, counting_write  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Wire.send, Wire.write = send, write  # type: ignore[method-assign]


async def _run(server: Server, operation: Operation, n: int) -> _Count:
    client = server.client()
    server.flush()
    calls: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    queue = RedisQueue.from_url(server.url())
    try:
        await warm_up(queue, operation)
        server.flush()
        client.config_resetstat()
        before = client.info("stats")
        with _counted(calls, sums):
            await operation(queue, n)
        after = client.info("stats")
        stats = client.info("commandstats")
    finally:
        await queue.disconnect()
    served: Counter[str] = Counter()
    for name, row in stats.items():
        served[name.removeprefix("cmdstat_").partition("|")[0]] += row["calls"]
    for name in ("info", "config", "client"):
        del served[name]
    sums["bytes in"] = after["total_net_input_bytes"] - before["total_net_input_bytes"]
    sums["bytes out"] = after["total_net_output_bytes"] - before["total_net_output_bytes"]
    keys = list(client.scan_iter(count=1000))
    sums["memory"] = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
    return _Count(calls, served, sums, sorted({_kind(key.decode()) for key in keys}))


def _kind(key: str) -> str:
    """A key of Redis without what is different each time."""
    name = key.partition("}:")[2]
    return re.sub(r"^(job|last|worker|hour):.*$", r"\1:*", name)


async def cost_of(server: Server, operation: Operation) -> Cost:
    """What one operation costs, by the difference between N and 2 N of them."""
    one = await _run(server, operation, N)
    two = await _run(server, operation, 2 * N)

    def slopes(first: Counter[str], second: Counter[str]) -> dict[str, float]:
        rows = {name: round((second[name] - first[name]) / N, 3) for name in sorted(first | second)}
        return {name: value for name, value in rows.items() if value}

    calls = slopes(one.calls, two.calls)
    # The server counts what scripts run under the same names as what clients send.
    inside = slopes(one.served - one.calls, two.served - two.calls)
    sums = slopes(one.sums, two.sums)
    return Cost(
        calls={name.upper(): value for name, value in calls.items()},
        trips=sums.get("trips", 0.0),
        inside=inside,
        bytes_in=sums.get("bytes in", 0.0),
        bytes_out=sums.get("bytes out", 0.0),
        memory=round(sums.get("memory", 0.0)),
        left=two.left,
    )
