"""A producer of a run: `python -m tests.chaos.producer URL FOLDER NAME SEED`.

It writes down what it is about to enqueue, what was acknowledged, and what its waiters were told.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from pathlib import Path

from saq import Job, Queue
from saq.errors import ServerError
from saq.queue import JobError
from saq.worker.process import run_loop
from tests.chaos.journal import Journal

#: How often each function is asked for.
MIX = {"quick": 60, "sleepy": 20, "threaded": 10, "flaky": 5, "doomed": 4, "blocking": 0.06, "deadly": 0.03}


class Producer:
    """Enqueues until it is told to stop, then waits for its last waiters."""

    def __init__(self, queue: Queue, journal: Journal, name: str, seed: str) -> None:
        self._queue = queue
        self._journal = journal
        self._name = name
        self._random = random.Random(seed)
        self._stop = asyncio.Event()
        self._waiters: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Enqueues one by one, in bulk, for later and with a waiter."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        number = 0
        while not self._stop.is_set():
            jobs = []
            for _ in range(self._random.choice([1, 1, 1, 5, 40])):
                number += 1
                jobs.append(self._job(number))
            if len(jobs) == 1 and self._random.random() < 0.2:
                self._wait_for(jobs[0])
            else:
                await self._enqueue(jobs)
            try:
                await asyncio.wait_for(self._stop.wait(), self._random.uniform(0.0, 0.05))
            except TimeoutError:
                continue
        if self._waiters:
            await asyncio.wait(self._waiters)

    def _job(self, number: int) -> Job:
        function = self._random.choices(list(MIX), list(MIX.values()))[0]
        later = self._random.random() < 0.1
        return Job(
            function,
            {"number": number},
            key=f"{self._name}-{number}-{function}",
            retries=5 if function == "flaky" else 1,
            ttl=0,
            timeout=30,
            scheduled=time.time() + self._random.uniform(0.0, 2.0) if later else 0,
            priority=self._random.choice([0, 0, 0, -5, 5]),
        )

    async def _enqueue(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._journal.write("intent", job.key)
        try:
            taken = await self._queue.enqueue_many(jobs)
        except ServerError as error:
            for job in jobs:
                self._journal.write("unknown", job.key, error=type(error).__name__)
            return
        for job, answer in zip(jobs, taken, strict=True):
            self._journal.write("acknowledged" if answer is not None else "refused", job.key)

    def _wait_for(self, job: Job) -> None:
        task = asyncio.create_task(self._apply(job), name=f"waiter of {job.key}")
        self._waiters.add(task)
        task.add_done_callback(self._waiters.discard)

    async def _apply(self, job: Job) -> None:
        self._journal.write("intent", job.key)
        self._journal.write("waits", job.key)
        try:
            result = await self._queue.apply(job, timeout=None, ttl=0)
            self._journal.write("told", job.key, result=result)
        except JobError as error:
            self._journal.write("told", job.key, failed=error.job.status.value)
        except ServerError as error:
            self._journal.write("untold", job.key, error=type(error).__name__)


async def main(url: str, folder: Path, name: str, seed: str) -> None:
    """Produces until SIGTERM."""
    queue = Queue.from_url(url)
    try:
        await Producer(queue, Journal(folder / f"produce-{name}.jsonl"), name, seed).run()
    finally:
        await queue.disconnect()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    run_loop(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
