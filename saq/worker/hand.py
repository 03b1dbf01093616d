"""Jobs that a caller has a worker claim and run, one a call.

Owns `Worker.process`: the parts of a worker that was not started, for as long as a call needs them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from saq.job import Job
from saq.worker.parts import Parts
from saq.worker.run import Why
from saq.worker.source import Source
from saq.worker.turns import Turns

if TYPE_CHECKING:
    from saq.worker.worker import Worker


class Hand:
    """Works by hand: each call claims a job and runs it to its end."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker
        #: What the calls under way share, if the worker was not started.
        self.parts: Parts | None = None
        self._turns = Turns([source.share.weight for source in worker._sources])
        self._calls = 0
        self._ending: asyncio.Task[None] | None = None

    async def process(self) -> bool:
        """Claims one job and runs it to its end; False if there was none."""
        worker = self._worker
        for source in worker._sources:
            await source.attach(worker._lease, worker._max_lost)
        source, job = await self._dequeue()
        if job is None:
            return False
        parts = worker._parts
        if parts is None:
            parts = worker._parts = self.parts = Parts(worker)
            parts.put_to_work()
            for fetcher in parts.fetchers:
                fetcher.start_settling()
        ours = parts is self.parts
        self._calls += ours
        position = worker._sources.index(source)
        runner = parts.runners[position]
        run = parts.starter(position)(job)
        assert run.task is not None
        try:
            await asyncio.shield(run.task)
        finally:
            if not run.task.done():
                runner.interrupt(run, Why.STOP)
                await asyncio.wait({run.task}, timeout=worker._hard_deadline)
            if ours:
                self._calls -= 1
                if self._calls == 0:
                    # Whoever waits for it may be cancelled; it goes on to the end all the same.
                    self._ending = asyncio.create_task(self._end(parts), name="saq-end")
                    await asyncio.shield(self._ending)
        return True

    async def _dequeue(self) -> tuple[Source, Job | None]:
        worker = self._worker
        if len(worker._sources) == 1:
            return worker._sources[0], await worker.queue.dequeue(worker.dequeue_timeout)
        position, job = await self._turns.dequeue(worker.queues, worker.dequeue_timeout)
        return worker._sources[position], job

    async def _end(self, parts: Parts) -> None:
        worker = self._worker
        if worker._parts is parts:
            worker._parts = None
            worker._rest()
        self.parts = None
        await asyncio.gather(*(runner.stop() for runner in parts.runners))
        await parts.close()
        parts.threads.close()
