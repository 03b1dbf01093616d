"""The whole life of a worker: it starts, runs jobs of every kind with hooks, and stops.

Owns that life and what its jobs did. Must not know what happens to it at its suspensions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from saq import CronJob, Worker
from saq.job import Job
from saq.queue.redis import RedisQueue
from saq.types import Context
from tests.suspensions.promises import PREFIX, QUEUE
from tests.suspensions.stepping import Stepper
from tests.worker.support import make_worker

#: How often each job runs when nothing goes wrong; its name is its key and its function.
RUNS = Counter({"plain": 1, "threaded": 1, "flaky": 2, "noting": 1, "endless": 1})


@dataclass
class Life:
    """A worker, and what its jobs did."""

    queue: RedisQueue
    raw: Redis
    ran: Counter[str] = field(default_factory=Counter)
    _worker: Worker[Any] = field(init=False)
    _starting: asyncio.Task[None] = field(init=False)

    def worker(self) -> Worker[Any]:
        functions = {"plain": self._plain, "threaded": self._threaded, "flaky": self._flaky}
        return make_worker(
            self.queue,
            functions | {"noting": self._noting, "endless": self._endless},
            id="stepped",
            concurrency=2,
            cron_jobs=[CronJob(self._plain, "0 0 1 1 *")],
            startup=self._hook,
            shutdown=self._hook,
            before_process=[self._hook, self._sync_hook],
            after_process=self._hook,
            shutdown_grace_period_s=0.01,
        )

    async def all(self) -> None:
        """Starts the worker, has it run all there is, and stops it."""
        self._worker = self.worker()
        self._starting = asyncio.create_task(self._worker.start(), name="start")
        await self._idle(self._starting)
        await self.end()

    async def end(self) -> None:
        """Stops it."""
        await self._worker.stop()
        await self._starting

    def _idle(self, starting: asyncio.Task[None]) -> asyncio.Future[None]:
        """Is done when nothing runs but what does not end by itself, or the worker has ended."""
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if idle.done():
                return  # cancelled
            left = self.raw.hlen(f"{PREFIX}jobs")
            if starting.done() or not left or (left == 1 and self.ran["endless"]):
                idle.set_result(None)
            else:
                asyncio.get_running_loop().call_later(0.002, look)

        look()
        return idle

    async def _hook(self, ctx: Context) -> None:
        await asyncio.sleep(0)

    def _sync_hook(self, ctx: Context) -> None:
        pass

    async def _plain(self, ctx: Context) -> str:
        self.ran["plain"] += 1
        await asyncio.sleep(0)
        return "done"

    def _threaded(self, ctx: Context) -> str:
        self.ran["threaded"] += 1
        return "done"

    async def _flaky(self, ctx: Context) -> str:
        self.ran["flaky"] += 1
        if self.ran["flaky"] == 1:
            raise ValueError("not yet")
        return "done"

    async def _endless(self, ctx: Context) -> None:
        self.ran["endless"] += 1
        await asyncio.Event().wait()

    async def _noting(self, ctx: Context) -> str:
        self.ran["noting"] += 1
        await ctx["job"].update(progress=0.5)
        await ctx["worker"].abort()
        return "done"


async def enqueue_all(queue: RedisQueue) -> None:
    """A job of each kind."""
    await queue.enqueue_many(Job(name, key=name, retries=runs) for name, runs in RUNS.items())


async def worker_life(stepper: Stepper, name: str, url: str) -> None:
    """The same in a process of its own."""
    queue = RedisQueue.from_url(f"{url}?client_name=tried", name=QUEUE)
    await stepper.start(Life(queue, Redis.from_url(url)).all())
    await queue.disconnect()
