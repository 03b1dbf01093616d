"""What a worker is made of while it works.

Owns which parts there are, one fetcher and one runner for each queue, and what they share. Must not decide
when a worker begins or ends: it says only that there is nothing left to do.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from saq.job import Job
from saq.queue.base import LOOK_EVERY
from saq.worker.fetcher import KEEP_SLOTS, Fetcher
from saq.worker.run import Run
from saq.worker.runner import Runner
from saq.worker.slots import Slots
from saq.worker.source import Source
from saq.worker.threads import Threads
from saq.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from saq.worker.processes import Processes
    from saq.worker.worker import Worker

#: A server ends a blocked call up to so many seconds late. Where nobody steps for half a lease, all seem to
#: have been cut off, and no lost job is taken over for a lease.
SERVER_TICK = 0.1
#: Seconds that a stopping worker tries to deliver its last results while the server is away.
DELIVERY_PATIENCE = 5.0


class Ending(enum.Enum):
    """Why a worker ended."""

    STOPPED = "it was stopped by a call"
    SIGNALLED = "it was stopped by a signal"
    DRAINED = "there was nothing left to do"
    RETIRED = "it shall be replaced"


class Parts:
    """What a worker is made of while it works; a fetcher and a runner for each queue."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker
        self._bursts = worker.max_burst_jobs if worker.burst else None
        limits = [limit for limit in (self._bursts, worker.max_jobs) if limit is not None]
        limit = min(limits, default=None)
        self.slots = Slots(worker.concurrency if limit is None else min(worker.concurrency, limit), limit)
        self.upkeep = Upkeep()
        self.threads = Threads(worker.concurrency)
        self.processes: Processes | None = None
        if worker._remote:
            from saq.worker.processes import Processes

            self.processes = Processes(worker.processes, worker._remote)
        self.fetchers: list[Fetcher] = []
        self.runners: list[Runner] = []
        self._sources = worker._sources
        for source in worker._sources:
            self._add(worker, source)

    def _add(self, worker: Worker[Any], source: Source) -> None:
        fetcher = Fetcher(
            source.queue,
            self.slots,
            source.share.weight,
            source.share.limit,
            look_every=min(LOOK_EVERY, max(worker._lease / 4 - SERVER_TICK, 0.01)),
            idle_limit=worker.dequeue_timeout if worker.burst else None,
            drained=self._on_drained,
            stepped=source.watch.stepped if source.watch is not None else None,
        )
        runner = Runner(
            worker,
            source.queue,
            self.threads,
            self.processes,
            fetcher.settle,
            fetcher.accepted,
            fetcher.freed,
            worker._hard_deadline,
            source.tally,
            KEEP_SLOTS if len(worker.queues) > 1 else None,
        )
        self.fetchers.append(fetcher)
        self.runners.append(runner)

    def start(self, position: int) -> None:
        """Begins to claim from that queue."""
        if self._worker.held:
            self.fetchers[position].be_quiet(True)
        self.fetchers[position].start(self.starter(position))

    def starter(self, position: int) -> Callable[[Job], Run]:
        """What starts a job of that queue."""
        start, watch = self.runners[position].start, self._sources[position].watch
        return start if watch is None else watch.counting(start)

    def _on_drained(self) -> None:
        worker = self._worker
        if not worker.event.is_set():
            retired = self.slots.spent and worker.max_jobs is not None and worker.max_jobs != self._bursts
            worker.ending = Ending.RETIRED if retired else Ending.DRAINED
            worker.event.set()

    def put_to_work(self) -> None:
        """What the queues say from now on reaches these."""
        for source, fetcher, runner in zip(self._sources, self.fetchers, self.runners, strict=True):
            source.fetcher, source.runner = fetcher, runner

    def stop_claiming(self) -> None:
        """Claims nothing more from any queue."""
        for fetcher in self.fetchers:
            fetcher.stop_claiming()

    async def wait_idle(self, timeout: float | None) -> None:
        """Waits until nothing runs, or so long (seconds)."""
        await asyncio.gather(*(runner.wait_idle(timeout) for runner in self.runners))

    async def close(self) -> None:
        """Delivers what is settled, and ends."""
        if self.processes is not None:
            await self.processes.close()
        await asyncio.gather(*(fetcher.close(DELIVERY_PATIENCE) for fetcher in self.fetchers))
