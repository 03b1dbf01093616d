"""What waking costs: the way of a lone job from its client to a worker and back, with nothing to do on it.

    python -m benchmarks.micro.hops [--rate 50] [--jobs 200]

A client pushes, a worker that blocks is given it and publishes, the client hears of it: two commands and
three processes, as with a job, and no code but hiredis. No queue on this machine answers faster than that.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis
import uvloop

from benchmarks.server import Target
from benchmarks.stats import percentile

#: Jobs before those that are measured.
WARM_UP = 20


class _Connection(asyncio.Protocol):
    def __init__(self, heard: Callable[[Any], None]) -> None:
        self._heard = heard
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._heard(answer)

    def send(self, *command: Any) -> None:
        self._transport.write(hiredis.pack_command(command))


async def _connect(port: int, heard: Callable[[Any], None]) -> _Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: _Connection(heard), "127.0.0.1", port)
    return connection


def _work(port: int) -> None:
    async def main() -> None:
        def given(answer: Any) -> None:
            published.send("PUBLISH", "done", "x")
            blocked.send("BLPOP", "jobs", "0")

        published = await _connect(port, lambda answer: None)
        blocked = await _connect(port, given)
        blocked.send("BLPOP", "jobs", "0")
        await asyncio.Event().wait()

    uvloop.run(main())


async def _measure(port: int, rate: float, jobs: int) -> list[float]:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def heard(answer: Any) -> None:
        if answer[0] == b"message":
            told.set_result(None)

    (await _connect(port, heard)).send("SUBSCRIBE", "done")
    pushed = await _connect(port, lambda answer: None)
    took = []
    for _ in range(WARM_UP + jobs):
        told = loop.create_future()
        began = time.perf_counter()
        pushed.send("RPUSH", "jobs", "x")
        await told
        took.append(time.perf_counter() - began)
        await asyncio.sleep(1 / rate)
    return took[WARM_UP:]


def main() -> None:
    """Prints the percentiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro.hops", description="What waking costs.")
    parser.add_argument("--rate", type=float, default=50.0, help="jobs a second [50]")
    parser.add_argument("--jobs", type=int, default=200, help="how many [200]")
    options = parser.parse_args()
    with Target("embedded") as target:
        port = urlsplit(target.url).port or 0
        worker = multiprocessing.get_context("spawn").Process(target=_work, args=(port,), daemon=True)
        worker.start()
        try:
            took = uvloop.run(_measure(port, options.rate, options.jobs))
        finally:
            worker.kill()
            worker.join()
    shown = (f"p{p} {percentile(took, p) * 1e3:.2f} ms" for p in (50, 95, 99))
    print(f"{options.jobs} at {options.rate:g} a second: {', '.join(shown)}")


if __name__ == "__main__":
    main()
