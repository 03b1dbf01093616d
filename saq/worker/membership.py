"""A worker among the workers of its queues.

Owns how it joins them, and what it says of itself: its registration, its report, its cron entries. Must not
claim or settle.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import platform
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saq.errors import ServerError
from saq.types import WorkerInfo
from saq.utils import now
from saq.version import __version__
from saq.worker.parts import Parts
from saq.worker.source import Source
from saq.worker.upkeep import Schedule

if TYPE_CHECKING:
    from saq.worker.worker import Worker

logger = logging.getLogger("saq")
#: What the server's settings may cost. Whoever knows better silences it by its name.
checkup = logging.getLogger("saq.checkup")

#: Seconds that the queues of a worker are given to answer at its start before it begins without some.
JOIN_PATIENCE = 1.0


class Membership:
    """What a worker is to its queues."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker
        self._sources = worker._sources
        self._began = now()

    async def join(self, parts: Parts) -> None:
        """Joins the queues and begins to claim, unless the worker has been stopped meanwhile.

        With several, it begins with all at once, for they have an order; but waits for none that does not
        answer.

        Raises:
            ServerError: the only one does not answer, or none of several.
        """
        if len(self._sources) == 1:
            await self._join(self._sources[0], parts)
            self._start(0, parts)
            return
        joins = [
            asyncio.create_task(self._join(source, parts), name=f"saq-join-{source.queue.name}")
            for source in self._sources
        ]
        started: set[int] = set()

        def start() -> None:
            for position, join in enumerate(joins):
                if join.done() and join.exception() is None and position not in started:
                    started.add(position)
                    self._start(position, parts)

        try:
            _, pending = await asyncio.wait(joins, timeout=JOIN_PATIENCE)
            start()
            while pending:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                start()
        except asyncio.CancelledError:
            for join in joins:
                join.cancel()
            await asyncio.gather(*joins, return_exceptions=True)
            raise
        for position, (source, join) in enumerate(zip(self._sources, joins, strict=True)):
            error = join.exception()
            if error is None:
                continue
            if not started or not isinstance(error, ServerError):
                raise error
            logger.error("The queue %s cannot be used yet, trying again: %s", source.queue.name, error)
            parts.upkeep.retry("joining a queue", functools.partial(self._join_late, position, parts))

    async def _join_late(self, position: int, parts: Parts) -> None:
        source = self._sources[position]
        await self._join(source, parts)
        if self._start(position, parts):
            logger.info("The queue %s can be used now", source.queue.name)

    def _start(self, position: int, parts: Parts) -> bool:
        if self._worker.event.is_set():
            return False
        parts.start(position)
        return True

    async def _join(self, source: Source, parts: Parts) -> None:
        """Makes the worker known to a queue, from now on and again and again."""
        worker = self._worker
        await source.attach(worker._lease, worker._max_lost)
        # Together they take one round trip, and nothing is claimed later for it.
        warnings, _ = await asyncio.gather(source.queue.check(), self._renew(source))
        for warning in warnings:
            checkup.warning("The queue %s: %s", source.queue.name, warning)
        schedule = self.schedule_of(source)
        if schedule.entries():
            parts.upkeep.repeat("cron", schedule.enqueue_due)
        renew = functools.partial(self._renew, source)
        parts.upkeep.every("registration", worker.timers["worker_info"], renew)
        parts.upkeep.every("sweep", worker.timers["sweep"], source.queue.sweep)

    async def _renew(self, source: Source) -> None:
        """Says that the worker lives, and what it has done since it said so last."""
        source.schedule = self.schedule_of(source)
        # One that is late by a little does not end it.
        good_for = max(2 * self._worker.timers["worker_info"] + 10, 1)
        await asyncio.gather(self.register(source, good_for), source.report())

    async def register(self, source: Source, ttl: float) -> WorkerInfo:
        """Says for ``ttl`` seconds that the worker lives, and which functions it knows."""
        return await source.register(ttl, self._worker._metadata, self._worker.functions)

    def about(self) -> Mapping[str, Any]:
        """What the worker reports of itself."""
        worker = self._worker
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "python": platform.python_version(),
            "concurrency": worker.concurrency,
            "lease": worker._lease,
            "uptime": now() - self._began,
            **({"held": True} if worker.held else {}),
        }

    def schedule_of(self, source: Source) -> Schedule:
        """The cron entries for a queue: those that name it; the first one has those that name none."""
        worker = self._worker
        entries = [entry for entry in worker.cron_jobs if (entry.queue or worker.queue) is source.queue]
        return Schedule(source.queue, entries, worker._names, worker.cron_tz)
