"""A producer of a run: `python -m tests.chaos.producer URL NAME SEED RATE`.

It writes down what it is about to enqueue, what was acknowledged or refused, what its waiters were told, and
what its aborts were answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from saq import Job, Queue
from saq.errors import ServerError
from saq.queue import JobError
from saq.queue.redis import RefusedError
from saq.worker.process import run_loop
from tests.chaos.functions import KINDS
from tests.chaos.journal import Journal
from tests.chaos.process import MARK

#: How often each function is asked for. Together, those that fail stay below 10,000 in the longest run: of
#: more, the queue keeps the newest.
MIX = {
    "quick": 60.0,
    "sleepy": 20.0,
    "threaded": 8.0,
    "beating": 2.0,
    "novel": 2.0,
    "unique": 3.0,
    "flaky": 2.0,
    "raising": 1.0,
    "raising_thread": 0.5,
    "overlong": 0.2,
    "stubborn": 0.1,
    "unstorable": 0.2,
    "spoiled": 0.2,
    "endless": 0.3,
    "distant": 0.3,
}
#: And what costs a worker seconds or its life: once in so many seconds.
EVERY = {"blocking": 15.0, "deadly": 30.0}
WAITED_FOR = ("quick", "sleepy", "threaded", "flaky", "raising", "beating")
UNIQUE_KEYS = 5
#: Seconds between two tries to abort what could not be asked for.
ABORT_AGAIN = 0.2


class Producer:
    """Enqueues until it is told to stop, then waits for its last waiters and aborts.

    Args:
        queue: the queue.
        spoiled: the same, with a `dump` that makes rubbish.
        rate: jobs per second.
    """

    def __init__(
        self, queue: Queue, spoiled: Queue, journal: Journal, name: str, seed: str, rate: float
    ) -> None:
        self._queue = queue
        self._spoiled = spoiled
        self._journal = journal
        self._name = name
        self._random = random.Random(seed)
        self._rate = rate
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._due = {function: time.monotonic() + seconds / 4 for function, seconds in EVERY.items()}

    async def run(self) -> None:
        """Enqueues one by one, in bulk, for later and with a waiter."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        while not self._stop.is_set():
            functions = self._pick()
            await self._produce(functions)
            try:
                pause = self._random.uniform(0.0, 2.0) * len(functions) / self._rate
                await asyncio.wait_for(self._stop.wait(), pause)
            except TimeoutError:
                continue
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _pick(self) -> list[str]:
        now = time.monotonic()
        for function, due in self._due.items():
            if due <= now:
                self._due[function] = now + EVERY[function] * self._random.uniform(0.7, 1.3)
                return [function]
        count = self._random.choice([1, 1, 1, 5, 40])
        return self._random.choices(list(MIX), list(MIX.values()), k=count)

    async def _produce(self, functions: list[str]) -> None:
        if len(functions) == 1 and functions[0] in WAITED_FOR and self._random.random() < 0.5:
            self._in_background(self._apply(self._job(functions[0])))
            return
        jobs = [self._job(function) for function in functions]
        await self._enqueue(self._queue, [job for job in jobs if job.function != "spoiled"])
        await self._enqueue(self._spoiled, [job for job in jobs if job.function == "spoiled"])
        for job in jobs:
            if job.function in ("endless", "distant"):
                self._in_background(self._abort(job))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _job(self, function: str) -> Job:
        self._number += 1
        number = self._number
        key = f"{self._name}-{number}-{function}"
        later = 0.0
        if function == "unique":
            key = f"u-{self._random.randrange(UNIQUE_KEYS)}-unique"
        elif function == "distant":
            later = time.time() + 3600
        elif self._random.random() < 0.1:
            later = time.time() + self._random.uniform(0.0, 2.0)
        fields: dict[str, Any] = {"timeout": 30, "ttl": 0, **KINDS[function].options}
        return Job(
            function,
            {"number": number, "life": f"{self._name}{number}"},
            key=key,
            scheduled=later,
            priority=self._random.choice([0, 0, 0, -5, 5]),
            **fields,
        )

    def _intend(self, job: Job) -> None:
        self._journal.write("intent", job.key, life=_life(job))

    async def _enqueue(self, queue: Queue, jobs: list[Job]) -> None:
        if not jobs:
            return
        for job in jobs:
            self._intend(job)
        try:
            taken = await queue.enqueue_many(jobs)
        except RefusedError as error:
            self._failed("refused", jobs, error.code)
            return
        except ServerError as error:
            self._failed("unknown", jobs, type(error).__name__)
            return
        for job, answer in zip(jobs, taken, strict=True):
            what = "acknowledged" if answer is not None else "duplicate"
            self._journal.write(what, job.key, life=_life(job))

    def _failed(self, what: str, jobs: list[Job], error: str) -> None:
        for job in jobs:
            self._journal.write(what, job.key, life=_life(job), error=error)

    async def _apply(self, job: Job) -> None:
        self._intend(job)
        self._journal.write("waits", job.key, life=_life(job))
        try:
            result = await self._queue.apply(job, timeout=None, ttl=0)
            self._journal.write("told", job.key, life=_life(job), status="complete", result=result)
        except JobError as error:
            self._journal.write("told", job.key, life=_life(job), status=error.job.status.value)
        except RefusedError as error:
            self._failed("refused", [job], error.code)
        except ServerError as error:
            self._failed("unknown", [job], type(error).__name__)

    async def _abort(self, job: Job) -> None:
        """Asks until there is an answer: a job that could not be enqueued is not there to be aborted."""
        await asyncio.sleep(self._random.uniform(0.0, 1.5))
        while True:
            try:
                answer = await self._queue.abort(job, "no more")
            except ServerError:
                await asyncio.sleep(ABORT_AGAIN)
                continue
            self._journal.write("aborted", job.key, life=_life(job), answer=answer)
            return


def _life(job: Job) -> str:
    return str((job.kwargs or {})["life"])


async def main(url: str, name: str, seed: str, rate: float) -> None:
    """Produces until SIGTERM."""
    rubbish: Callable[[Any], bytes] = lambda fields: b"\xff{rubbish"  # noqa: E731
    queue, spoiled = Queue.from_url(url), Queue.from_url(url, dump=rubbish, load=lambda data: None)
    journal = Journal(Path(os.environ[MARK]) / f"produce-{name}.jsonl")
    try:
        await Producer(queue, spoiled, journal, name, seed, rate).run()
    finally:
        await queue.disconnect()
        await spoiled.disconnect()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    run_loop(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
