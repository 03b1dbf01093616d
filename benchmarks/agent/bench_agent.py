"""The side of a benchmark that runs in a contender's own process and environment.

Owns what is the same for every contender written in Python: the jobs, counting them, the load that a client
makes, and the lines of JSON that are exchanged with the harness. Needs nothing but the standard library: it
is imported in environments that hold no more than a contender. The adapters of Node and Ruby speak the same
lines.

    adapter.py client CONFIG    enqueues what it is told to
    adapter.py worker CONFIG    says "ready", and on "go" works until it is killed

Standard output belongs to the lines; what a library prints goes to standard error. When standard input ends,
whoever started us is gone: the process ends, and with it all it has forked.
"""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import itertools
import json
import logging
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

now = time.monotonic_ns

#: Enqueued at once by sync clients, which have threads rather than tasks.
THREADS = 10
#: So many jobs are handed to a bulk call at once.
BULK = 1000
#: So many handles are kept of the jobs that were enqueued, to look at their results.
KEPT = 20
_MAX = 2**32
_RECORD = struct.Struct("=qq")


# The jobs ---------------------------------------------------------------------------------------------------
# Every library calls them with keywords. Some put a context in front.


async def async_noop(ctx: Any = None, *, i: int, x: int) -> int:
    _hit(i)
    return i


async def async_sleep(ctx: Any = None, *, i: int, x: int) -> int:
    await asyncio.sleep(x / 1000)
    _hit(i)
    return i


async def async_cpu(ctx: Any = None, *, i: int, x: int) -> int:
    value = churn(i, x)
    _hit(i)
    return value


async def async_stamp(ctx: Any = None, *, i: int, x: int) -> int:
    _stamp(i)
    return i


def sync_noop(ctx: Any = None, *, i: int, x: int) -> int:
    _hit(i)
    return i


def sync_sleep(ctx: Any = None, *, i: int, x: int) -> int:
    time.sleep(x / 1000)
    _hit(i)
    return i


def sync_cpu(ctx: Any = None, *, i: int, x: int) -> int:
    value = churn(i, x)
    _hit(i)
    return value


def sync_stamp(ctx: Any = None, *, i: int, x: int) -> int:
    _stamp(i)
    return i


ASYNC_JOBS: list[Callable[..., Any]] = [async_noop, async_sleep, async_cpu, async_stamp]
SYNC_JOBS: list[Callable[..., Any]] = [sync_noop, sync_sleep, sync_cpu, sync_stamp]
JOBS: list[Callable[..., Any]] = [*ASYNC_JOBS, *SYNC_JOBS]


def churn(i: int, rounds: int) -> int:
    """Work for the processor: a linear congruential generator, the same number in every language."""
    for _ in range(rounds):
        i = (i * 1103515245 + 12345) & 0x7FFFFFFF
    return i


def argument(job: str, i: int, seed: int, cpu_rounds: int) -> int:
    """The argument of job ``i``: milliseconds to sleep, rounds to churn, or nothing."""
    if job.endswith("_sleep"):
        return ((i + seed) * 2654435761 % _MAX) * 51 // _MAX
    return cpu_rounds if job.endswith("_cpu") else 0


def expected(job: str, i: int, cpu_rounds: int) -> int:
    """What job ``i`` has to return."""
    return churn(i, cpu_rounds) if job.endswith("_cpu") else i


# Counting ---------------------------------------------------------------------------------------------------


def _hit(i: int) -> None:
    raise RuntimeError("nobody counts in this process")


def _stamp(i: int) -> None:
    raise RuntimeError("nobody counts in this process")


class Tally:
    """Counts jobs that ended in this process, from any thread, and tells of each mark that is reached."""

    def __init__(self, emit: Callable[..., None], marks: Sequence[int]) -> None:
        self._emit = emit
        self._numbers = itertools.count(1)  # next() is atomic where += is not
        self._seen = array.array("q")
        self._stamps: list[tuple[int, int]] = []
        self._marks = sorted(marks)
        self._warm = self._marks[0] if self._marks else 0
        self._mark = self._marks[0] if self._marks else -1

    def start(self) -> None:
        global _hit, _stamp
        _hit, _stamp = self.hit, self.stamp

    def hit(self, i: int) -> None:
        self._seen.append(i)
        n = next(self._numbers)
        if n == self._mark:
            self._reached(n, now())

    def stamp(self, i: int) -> None:
        self._stamps.append((i, now()))
        self.hit(i)

    def _reached(self, n: int, at: int) -> None:
        self._marks.pop(0)
        self._mark = self._marks[0] if self._marks else -1
        self._emit(event="mark", n=n, t=at)

    def report(self) -> dict[str, Any]:
        seen = list(self._seen)
        return {
            "count": len(seen),
            "sum": sum(seen),
            "distinct": len(set(seen)),
            "first": seen[: self._warm],
            "stamps": list(self._stamps),
        }


class ForkTally(Tally):
    """The same for contenders whose jobs run in children: each tells through a pipe that it inherits."""

    def __init__(self, emit: Callable[..., None], marks: Sequence[int]) -> None:
        super().__init__(emit, marks)
        self._read, self._write = os.pipe()
        os.set_inheritable(self._write, True)

    def start(self) -> None:
        global _hit, _stamp
        _hit, _stamp = self._tell, self._tell
        threading.Thread(target=self._listen, daemon=True).start()

    def _tell(self, i: int) -> None:
        os.write(self._write, _RECORD.pack(i, now()))  # below PIPE_BUF: never in pieces

    def _listen(self) -> None:
        with open(self._read, "rb", buffering=0, closefd=False) as pipe:
            rest = b""
            while data := pipe.read(65536):
                data = rest + data
                whole = len(data) - len(data) % _RECORD.size
                rest = data[whole:]
                for i, at in _RECORD.iter_unpack(data[:whole]):
                    self._seen.append(i)
                    self._stamps.append((i, at))
                    n = next(self._numbers)
                    if n == self._mark:
                        self._reached(n, at)


# The lines --------------------------------------------------------------------------------------------------


class Lines:
    """Lines of JSON to and from the harness. Taken away from the libraries, which may print."""

    def __init__(self) -> None:
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._in = os.fdopen(os.dup(0), "rb")
        # A library that forks must not hand our input to children that read it.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        self._lock = threading.Lock()

    def emit(self, **what: Any) -> None:
        line = json.dumps(what).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]

    def read(self) -> dict[str, Any] | None:
        line = self._in.readline()
        return json.loads(line) if line else None


def end_with_parent() -> None:
    """Ends this process and all it has forked: nobody is left who would."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


# Clients ----------------------------------------------------------------------------------------------------


class AsyncClient:
    """What an adapter of an async library provides. ``enqueue_many``, ``result`` and ``map`` are optional."""

    enqueue_many: Any = None
    result: Any = None
    map: Any = None

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.url: str = config["url"]
        self.options: dict[str, Any] = config["options"]

    async def open(self) -> None: ...

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        """Enqueues one job, and returns what ``result`` needs; returns when the server has it."""
        raise NotImplementedError


class SyncClient:
    """The same for a library that blocks."""

    enqueue_many: Any = None
    result: Any = None
    map: Any = None

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.url: str = config["url"]
        self.options: dict[str, Any] = config["options"]

    def open(self) -> None: ...

    def enqueue(self, job: str, i: int, x: int) -> Any:
        raise NotImplementedError


class _Load:
    """What is common to both kinds of load: arguments, and the handles that are kept."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._seed = config["seed"]
        self._rounds = config["cpu_rounds"]
        self.handles: list[tuple[int, Any]] = []
        self.job = ""

    def items(self, job: str, first: int, n: int) -> list[tuple[int, int]]:
        return [(i, argument(job, i, self._seed, self._rounds)) for i in range(first, first + n)]

    def start(self, job: str, n: int) -> int:
        """Forgets the handles. Of so many jobs one is kept."""
        self.job = job
        self.handles = []
        return max(1, n // KEPT)

    def wrong(self, values: list[tuple[int, Any]]) -> list[str]:
        return [
            f"job {i} returned {value!r}"
            for i, value in values
            if value != expected(self.job, i, self._rounds)
        ]


class AsyncLoad(_Load):
    """Carries out the harness's commands with an async client."""

    def __init__(self, client: AsyncClient, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._client = client

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        arguments = {key: value for key, value in command.items() if key != "do"}
        answer: dict[str, Any] = await getattr(self, "do_" + command["do"])(**arguments)
        return answer

    async def do_enqueue(self, mode: str, job: str, first: int, n: int, width: int) -> dict[str, Any]:
        items = self.items(job, first, n)
        every = self.start(job, n)
        enqueue = self._client.enqueue
        if mode == "bulk" and self._client.enqueue_many is None:
            return {"unsupported": True}
        begin, begin_wall = now(), time.time()
        if mode == "one":
            for i, x in items:
                handle = await enqueue(job, i, x)
                if not i % every:
                    self.handles.append((i, handle))
        elif mode == "concurrent":
            feed = iter(items)

            async def some() -> None:
                for i, x in feed:
                    handle = await enqueue(job, i, x)
                    if not i % every:
                        self.handles.append((i, handle))

            await asyncio.gather(*(some() for _ in range(width)))
        else:
            for k in range(0, n, BULK):
                part = items[k : k + BULK]
                handles = await self._client.enqueue_many(job, part)
                self.handles += [(i, h) for (i, _), h in zip(part, handles, strict=True) if not i % every]
        return {"n": n, "seconds": (now() - begin) / 1e9, "wall": [begin_wall, time.time()]}

    async def do_results(self, timeout: float) -> dict[str, Any]:
        if self._client.result is None:
            return {"unsupported": True}
        async with asyncio.timeout(timeout):
            values = [(i, await self._client.result(handle)) for i, handle in self.handles]
        return {"checked": len(values), "wrong": self.wrong(values)}

    async def do_arrivals(
        self, job: str, first: int, n: int, rate: float, wait: bool, timeout: float
    ) -> dict[str, Any]:
        items = self.items(job, first, n)
        self.start(job, n)
        sent = [0] * n
        done = [0] * n
        values: list[tuple[int, Any]] = []
        wait = wait and self._client.result is not None

        async def one(k: int, i: int, x: int) -> None:
            handle = await self._client.enqueue(job, i, x)
            if wait:
                value = await self._client.result(handle)
                done[k] = now()
                values.append((i, value))

        tasks = []
        begin = now()
        for k, (i, x) in enumerate(items):
            due = begin + int(k * 1e9 / rate)
            while (left := due - now()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left / 1e9)
            # Not when it was due: a timer of the loop is late by up to a millisecond.
            sent[k] = now()
            tasks.append(asyncio.create_task(one(k, i, x)))
        async with asyncio.timeout(timeout):
            await asyncio.gather(*tasks)
        return {"sent": sent, "done": done if wait else None, "wrong": self.wrong(values)}

    async def do_map(self, job: str, first: int, n: int, timeout: float) -> dict[str, Any]:
        if self._client.map is None:
            return {"unsupported": True}
        items = self.items(job, first, n)
        self.start(job, n)
        begin = now()
        async with asyncio.timeout(timeout):
            values = await self._client.map(job, items)
        seconds = (now() - begin) / 1e9
        return {
            "n": n,
            "seconds": seconds,
            "wrong": self.wrong([(i, v) for (i, _), v in zip(items, values, strict=True)]),
        }


class SyncLoad(_Load):
    """Carries out the harness's commands with a client that blocks."""

    def __init__(self, client: SyncClient, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._client = client

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        arguments = {key: value for key, value in command.items() if key != "do"}
        answer: dict[str, Any] = getattr(self, "do_" + command["do"])(**arguments)
        return answer

    def do_enqueue(self, mode: str, job: str, first: int, n: int, width: int) -> dict[str, Any]:
        items = self.items(job, first, n)
        every = self.start(job, n)
        enqueue = self._client.enqueue
        if mode == "bulk" and self._client.enqueue_many is None:
            return {"unsupported": True}
        begin, begin_wall = now(), time.time()
        if mode == "one":
            for i, x in items:
                handle = enqueue(job, i, x)
                if not i % every:
                    self.handles.append((i, handle))
        elif mode == "concurrent":

            def some(part: list[tuple[int, int]]) -> None:
                for i, x in part:
                    handle = enqueue(job, i, x)
                    if not i % every:
                        self.handles.append((i, handle))

            threads = min(width, THREADS)
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                list(pool.map(some, [items[k::threads] for k in range(threads)]))
        else:
            for k in range(0, n, BULK):
                part = items[k : k + BULK]
                handles = self._client.enqueue_many(job, part)
                self.handles += [(i, h) for (i, _), h in zip(part, handles, strict=True) if not i % every]
        return {"n": n, "seconds": (now() - begin) / 1e9, "wall": [begin_wall, time.time()]}

    def do_results(self, timeout: float) -> dict[str, Any]:
        if self._client.result is None:
            return {"unsupported": True}
        values = [(i, self._client.result(handle, timeout)) for i, handle in self.handles]
        return {"checked": len(values), "wrong": self.wrong(values)}

    def do_arrivals(
        self, job: str, first: int, n: int, rate: float, wait: bool, timeout: float
    ) -> dict[str, Any]:
        items = self.items(job, first, n)
        self.start(job, n)
        sent = [0] * n
        done = [0] * n
        values: list[tuple[int, Any]] = []
        wait = wait and self._client.result is not None

        def one(k: int, i: int, x: int) -> None:
            handle = self._client.enqueue(job, i, x)
            if wait:
                value = self._client.result(handle, timeout)
                done[k] = now()
                values.append((i, value))

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            ends = []
            begin = now()
            for k, (i, x) in enumerate(items):
                due = begin + int(k * 1e9 / rate)
                while (left := due - now()) > 0:
                    time.sleep(left / 1e9)
                sent[k] = now()
                ends.append(pool.submit(one, k, i, x))
            for end in ends:
                end.result(timeout)
        return {"sent": sent, "done": done if wait else None, "wrong": self.wrong(values)}

    def do_map(self, job: str, first: int, n: int, timeout: float) -> dict[str, Any]:
        if self._client.map is None:
            return {"unsupported": True}
        items = self.items(job, first, n)
        self.start(job, n)
        begin = now()
        values = self._client.map(job, items)
        seconds = (now() - begin) / 1e9
        return {
            "n": n,
            "seconds": seconds,
            "wrong": self.wrong([(i, v) for (i, _), v in zip(items, values, strict=True)]),
        }


# Both roles -------------------------------------------------------------------------------------------------


def run_async(main: Any, uvloop: bool) -> Any:
    """Runs to the end in the event loop that the settings ask for."""
    if not uvloop:
        return asyncio.run(main)
    from uvloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def run(
    client: type[AsyncClient] | type[SyncClient],
    work: Callable[[dict[str, Any]], None],
    forks: Callable[[dict[str, Any]], bool] | bool = False,
) -> None:
    """What an adapter calls: becomes a client or a worker, as the command line says.

    Args:
        client: the class of the client.
        work: works until the process is killed; takes the configuration.
        forks: whether jobs run in other processes than the one that calls ``work``.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    role, config = sys.argv[1], json.loads(sys.argv[2])
    lines = Lines()
    if role == "worker":
        in_children = forks(config) if callable(forks) else forks
        _work(lines, config, work, ForkTally if in_children else Tally)
    elif issubclass(client, AsyncClient):
        run_async(_serve_async(lines, config, client), config["options"].get("uvloop", False))
    else:
        _serve(lines, config, client)


def _work(
    lines: Lines, config: dict[str, Any], work: Callable[[dict[str, Any]], None], kind: type[Tally]
) -> None:
    tally = kind(lines.emit, config["marks"])
    tally.start()
    lines.emit(event="ready")
    if lines.read() is None:
        return

    def listen() -> None:
        while (command := lines.read()) is not None:
            if command["do"] == "report":
                lines.emit(event="report", **tally.report())
        end_with_parent()

    threading.Thread(target=listen, daemon=True).start()
    work(config)


async def _serve_async(lines: Lines, config: dict[str, Any], kind: type[AsyncClient]) -> None:
    client = kind(config)
    load = AsyncLoad(client, config)
    await client.open()
    lines.emit(event="ready")
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def listen() -> None:
        while (command := lines.read()) is not None:
            loop.call_soon_threadsafe(commands.put_nowait, command)
        end_with_parent()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        command = await commands.get()
        try:
            answer = await load.do(command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        lines.emit(event="answer", **answer)


def _serve(lines: Lines, config: dict[str, Any], kind: type[SyncClient]) -> None:
    client = kind(config)
    load = SyncLoad(client, config)
    client.open()
    lines.emit(event="ready")
    while (command := lines.read()) is not None:
        try:
            answer = load.do(command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        lines.emit(event="answer", **answer)
    end_with_parent()
