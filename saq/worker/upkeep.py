"""What a worker does beside running jobs: cron, registration, sweeping.

Owns the tasks of this and when they run. Must not claim or settle.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import tzinfo
from typing import Any

from saq import cron, serializer
from saq.cron import CronJob
from saq.errors import SerializationError, ServerError
from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import CronEntry

logger = logging.getLogger("saq")

#: The server's clock is asked for so often, in seconds, however far the next tick is.
CLOCK_EVERY = 300.0
#: What failed is tried again after so many seconds, from … to.
RETRY = (0.5, 2.0)


class Schedule:
    """The cron entries of a worker.

    Every worker with an entry says each of its ticks; the queue lets the first one through. Ticks are
    reckoned from the server's clock, so that workers whose clocks differ agree on them.
    """

    def __init__(
        self, queue: Queue, entries: Collection[CronJob], names: Mapping[Any, str], tz: tzinfo
    ) -> None:
        self._queue = queue
        self._tz = tz
        self._entries = [(entry, names[entry.function], _entry_name(entry, names)) for entry in entries]
        self._said: dict[str, float] = {}

    def entries(self) -> list[CronEntry]:
        """The entries as they are reported."""
        return [
            CronEntry(
                name, entry.cron, str(self._tz), entry.unique, _cron_job(entry, function, f"cron:{name}")
            )
            for entry, function, name in self._entries
        ]

    async def enqueue_due(self) -> float:
        """Says the latest tick of each entry. Returns seconds until the next one."""
        if not self._entries:
            return CLOCK_EVERY
        now = await self._queue.server_time()
        wait = CLOCK_EVERY
        for entry, function, name in self._entries:
            tick = cron.last_tick(entry.cron, now, self._tz)
            if self._said.get(name) != tick:
                key = f"cron:{name}" if entry.unique else f"cron:{name}:{int(tick)}"
                verdict = await self._queue.tick(name, tick, _cron_job(entry, function, key))
                self._said[name] = tick
                if verdict == "enqueued":
                    logger.info("Cron: enqueued %s for %s", function, entry.cron)
                elif verdict == "running":
                    logger.info("Cron: skipped %s for %s, the one before still runs", function, entry.cron)
            wait = min(wait, cron.next_tick(entry.cron, now, self._tz) - now)
        return wait


def _entry_name(entry: CronJob, names: Mapping[Any, str]) -> str:
    """Its function, expression and arguments: two of one function do not get in each other's way."""
    name = f"{names[entry.function]}:{entry.cron}"
    if entry.kwargs:
        try:
            said = serializer.dumps(dict(entry.kwargs), "kwargs")
        except SerializationError:
            # The queue has a dump of its own. What that makes may differ each time; this is but a name.
            said = repr(sorted(entry.kwargs.items(), key=lambda item: item[0])).encode("utf-8", "replace")
        digest = hashlib.sha1(said, usedforsecurity=False)
        name = f"{name}:{digest.hexdigest()[:8]}"
    return name


def _cron_job(entry: CronJob, function: str, key: str) -> Job:
    given = {
        "timeout": entry.timeout,
        "heartbeat": entry.heartbeat,
        "retries": entry.retries,
        "ttl": entry.ttl,
        "meta": dict(entry.meta) if entry.meta else None,
        "kwargs": dict(entry.kwargs) if entry.kwargs else None,
    }
    return Job(function, key=key, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


class Upkeep:
    """Named tasks that run again and again, and are not ended by an error."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, name: str, seconds: float, do: Callable[[], Awaitable[Any]]) -> None:
        """Does it now and every so many seconds, a little spread out."""

        async def once() -> float:
            await do()
            return seconds * random.uniform(0.9, 1.0)

        self.repeat(name, once)

    def repeat(self, name: str, do: Callable[[], Awaitable[float]]) -> None:
        """Does it again and again; it returns after how many seconds."""
        self._tasks.append(asyncio.create_task(self._repeat(name, do), name=f"saq-{name}"))

    def retry(self, name: str, do: Callable[[], Awaitable[None]]) -> None:
        """Does it until it has succeeded once."""

        async def once() -> None:
            await asyncio.sleep(random.uniform(*RETRY))
            await do()

        self._tasks.append(asyncio.create_task(self._repeat(name, once), name=f"saq-{name}"))

    async def _repeat(self, name: str, do: Callable[[], Awaitable[float | None]]) -> None:
        failing = False
        while True:
            try:
                wait = await do()
                if wait is None:
                    return
                failing = False
            except Exception as error:
                if not failing:
                    known = isinstance(error, ServerError)
                    logger.error(
                        "Upkeep: %s failed, trying again: %s", name, error, exc_info=None if known else error
                    )
                failing = True
                wait = random.uniform(*RETRY)
            await asyncio.sleep(max(0.0, wait))

    async def stop(self) -> None:
        """Ends the tasks."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
