"""A worker of a run: `python -m tests.chaos.worker URL FOLDER NAME`.

Every function writes down that it starts and that it ends, so that the verdict can count what really ran.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from saq import CronJob, Queue, Worker
from saq.worker.process import run_loop
from tests.chaos.journal import Journal

#: Seconds: short, so that a run sees many of them end.
LEASE = 2.0

_journal: Journal


def _note(what: str, ctx: dict[str, Any], **more: Any) -> None:
    job = ctx["job"]
    _journal.write(what, job.key, attempt=job.attempts, process=os.getpid(), **more)


async def quick(ctx: dict[str, Any], *, number: int) -> int:
    _note("start", ctx)
    _note("end", ctx)
    return number * 2


async def sleepy(ctx: dict[str, Any], *, number: int) -> int:
    _note("start", ctx)
    await asyncio.sleep(random.uniform(0.0, 0.3))
    _note("end", ctx)
    return number * 2


def threaded(ctx: dict[str, Any], *, number: int) -> int:
    _note("start", ctx)
    time.sleep(random.uniform(0.0, 0.1))
    _note("end", ctx)
    return number * 2


async def blocking(ctx: dict[str, Any], *, number: int) -> int:
    """Keeps the event loop for longer than a lease: the lease must be kept all the same."""
    _note("start", ctx)
    time.sleep(LEASE * 1.5)  # noqa: ASYNC251
    _note("end", ctx)
    return number * 2


async def flaky(ctx: dict[str, Any], *, number: int) -> int:
    _note("start", ctx)
    if ctx["job"]._charged < 3:
        raise RuntimeError("not yet")
    _note("end", ctx)
    return number * 2


async def doomed(ctx: dict[str, Any], *, number: int) -> int:
    _note("start", ctx)
    raise ValueError("never")


async def deadly(ctx: dict[str, Any], *, number: int) -> int:
    """Kills its worker, whoever runs it."""
    _note("start", ctx)
    os._exit(13)


async def ticking(ctx: dict[str, Any]) -> None:
    _note("start", ctx)
    _note("end", ctx)


FUNCTIONS = [quick, sleepy, threaded, blocking, flaky, doomed, deadly]


async def main(url: str, folder: Path, name: str) -> None:
    """Works until it is told to stop, or killed."""
    global _journal
    _journal = Journal(folder / f"work-{name}.jsonl")
    queue = Queue.from_url(url)
    worker: Worker[Any] = Worker(
        queue,
        FUNCTIONS,
        concurrency=10,
        cron_jobs=[CronJob(ticking, "* * * * * *", unique=False, ttl=0)],
        lease=LEASE,
        max_lost=3,
        shutdown_grace_period_s=2,
        timers={"worker_info": 2, "sweep": 5},
    )
    try:
        await worker.start()
    finally:
        await queue.disconnect()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    run_loop(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
