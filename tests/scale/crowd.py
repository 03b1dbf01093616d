"""A queue that holds very many jobs, and what its server says that the calls to it cost.

Owns filling it and reading the server's own books. Must not know which calls are made.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.outbox import BATCH_JOBS
from saq.queue.redis.scripts import load
from saq.worker.fetcher import STEP_JOBS
from tests.conformance.helpers import attached
from tests.redis.helpers import prefix, session
from tests.servers import Server

#: No call may take the server longer, in µs: meanwhile it answers nobody.
LIMIT = 3_000
#: How the books are kept, and how a connection introduces itself: none of it is a call of the queue.
OURS = {"config", "slowlog", "info", "hello", "client", "auth", "select", "ping"}


class Calls:
    """What a server did in a while: commands, those in scripts included, by name."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.scripts = 0
        #: µs that a script took on average.
        self.script_time = 0.0
        #: µs of each call above the limit, less what its thread stood in the line of the processor.
        self.slow: list[float] = []


class Books:
    """What the server writes down about itself."""

    def __init__(self, server: Server) -> None:
        self.raw = server.client()
        self.raw.config_set("slowlog-log-slower-than", LIMIT)
        self.raw.config_set("slowlog-max-len", 10_000)
        self._schedule = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat")

    @contextmanager
    def kept(self) -> Iterator[Calls]:
        """The calls made within the block; complete at its end."""
        calls = Calls()
        self.raw.slowlog_reset()
        self.raw.config_resetstat()
        waited = self._waited()
        yield calls
        waited = self._waited() - waited
        used = 0
        for name, stats in self.raw.info("commandstats").items():
            command = name.removeprefix("cmdstat_").partition("|")[0]
            calls.commands[command] += stats["calls"]
            if command in ("evalsha", "eval"):
                calls.scripts += stats["calls"]
                used += stats["usec"]
        calls.commands -= Counter(dict.fromkeys(OURS, 1_000_000))
        calls.script_time = used / max(1, calls.scripts)
        log: Any = self.raw.slowlog_get(10_000)
        durations = [entry["duration"] - waited for entry in log if b"SLOWLOG" not in entry["command"]]
        calls.slow = [duration for duration in durations if duration > LIMIT]

    def _waited(self) -> float:
        """µs that its main thread was ready to run, while something else had the processor."""
        try:
            return int(self._schedule.read_text().split()[1]) / 1_000
        except OSError:  # no Linux: then it has to be fast on a busy machine as well
            return 0.0

    def memory(self) -> int:
        return int(self.raw.info("memory")["used_memory"])

    def connections(self) -> int:
        return int(self.raw.info("clients")["connected_clients"])


class Crowd:
    """A server with a queue of ``size`` jobs.

    A hundredth of it runs, has ended well, has failed, and is waited for; a tenth of it is scheduled. These
    are the crowd; what tests do, they do beside it or to its last members.
    """

    def __init__(self, server: Server, size: int) -> None:
        self.server, self.size = server, size
        self.books = Books(server)
        self._last = size
        asyncio.run(self._gather())

    async def _gather(self) -> None:
        part = self.size // 100
        queue = RedisQueue.from_url(self.server.url())
        async with attached(queue, lease=86_400):
            self.fill(queue, part, "ended", ttl=0)
            await self._settle_all(queue, Status.COMPLETE)
            self.fill(queue, part, "failed")
            await self._settle_all(queue, Status.FAILED)
            self.fill(queue, part, "running")
            while (await queue.step((), STEP_JOBS)).jobs:
                pass
        self.fill(queue, self.size // 10, "scheduled", scheduled=4e9)
        self.fill(queue, self.size, "queued")
        for i in range(0, part, BATCH_JOBS):
            keys = [f"queued-{n}" for n in range(i, min(i + BATCH_JOBS, part))]
            await session(queue).run("read", "somebody", *keys)
        await queue.disconnect()

    async def _settle_all(self, queue: RedisQueue, status: Status) -> None:
        while jobs := (await queue.step((), STEP_JOBS)).jobs:
            await queue.step([queue.settle(job, status, error="e" * 200) for job in jobs], 0)

    def fill(self, queue: RedisQueue, count: int, name: str, **fields: Any) -> None:
        """Enqueues so many jobs of the same fields, by the same script as ever, as fast as it goes."""
        value = queue._records.value(Job("f", kwargs={"n": 1}, **fields))
        fill(self.books.raw, queue, [(f"{name}-{n}".encode(), value) for n in range(count)])

    def last(self) -> str:
        """The key of the last of those that are queued; another one each time."""
        self._last -= 1
        return f"queued-{self._last}"


def fill(raw: Redis, queue: RedisQueue, jobs: list[tuple[bytes, bytes]]) -> None:
    """Enqueues jobs (key, value) past the queue object, by its own script."""
    script = load("enqueue")
    raw.script_load(script.source)
    with raw.pipeline(transaction=False) as pipe:
        for number, i in enumerate(range(0, len(jobs), BATCH_JOBS), 1):
            part = jobs[i : i + BATCH_JOBS]
            words = [word for job in part for word in job]
            client = b"fill-" + part[0][0].partition(b"-")[0]
            pipe.execute_command(
                "EVALSHA", script.sha, 1, prefix(queue), client, number, "", "-" * len(part), *words
            )
            if number % 40 == 0:
                pipe.execute()
        pipe.execute()
