"""A worker of a run: `python -m tests.chaos.worker VARIANT`, or, as several processes,
`python -m saq tests.chaos.worker.settings --workers 2`.

Owns what workers differ in: a deployment has old and new ones side by side, on machines whose clocks differ.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from saq import CronJob, Queue, Worker, _speedups
from saq.errors import SaqError
from saq.types import SettingsDict
from saq.worker.process import run_loop
from tests.chaos import functions
from tests.chaos.functions import FUNCTIONS, LEASE, MAX_LOST, TICKING
from tests.chaos.journal import Journal, clock
from tests.chaos.process import MARK

#: In the environment: where the server is, directly and through the proxy, and which variant this is.
URL, PROXY_URL, VARIANT = "SAQ_CHAOS_URL", "SAQ_CHAOS_PROXY_URL", "SAQ_CHAOS_VARIANT"


class Variant(NamedTuple):
    """What one worker differs in from the others.

    Args:
        proxied: reaches the server through the proxy.
        processes: under one parent; 0 is a worker without.
        clock: by how many seconds its clock is wrong.
        hooks: whether it has hooks, which make it wait until a result was accepted.
        lacks: a function that it does not know.
    """

    concurrency: int = 10
    lease: float = LEASE
    proxied: bool = False
    processes: int = 0
    clock: float = 0.0
    speedups: bool = True
    uvloop: bool = True
    hooks: bool = False
    lacks: str = ""

    @property
    def kind(self) -> str:
        """What its workers have to say that they are."""
        return _kind(self.speedups, self.uvloop, round(self.clock / 3600))


VARIANTS = (
    Variant(),
    Variant(concurrency=25, proxied=True, clock=3600.0, speedups=False, uvloop=False, hooks=True),
    Variant(concurrency=5, lease=LEASE * 1.5, processes=2, clock=-3600.0, lacks="novel"),
    Variant(concurrency=2, proxied=True, lease=LEASE * 1.5, hooks=True),
)


def settings() -> SettingsDict:
    """Of the variant that the environment names."""
    number = int(os.environ[VARIANT])
    variant = VARIANTS[number]
    if variant.clock:
        real = time.time
        time.time = lambda: real() + variant.clock
    functions.write_to(Journal(Path(os.environ[MARK]) / f"work-{number}.jsonl"), str(number))
    found: dict[str, Any] = {
        "queue": Queue.from_url(os.environ[PROXY_URL if variant.proxied else URL]),
        "functions": [item for item in FUNCTIONS.items() if item[0] != variant.lacks],
        "concurrency": variant.concurrency,
        "cron_jobs": [CronJob(TICKING, "* * * * * *", unique=False, ttl=0)],
        "lease": variant.lease,
        "max_lost": MAX_LOST,
        "startup": _say_what_it_is,
        "shutdown_grace_period_s": 1,
        "timers": {"worker_info": 2, "sweep": 5},
    }
    if variant.hooks:
        found["before_process"] = _before
        found["after_process"] = _after
    return found  # type: ignore[return-value]


async def _say_what_it_is(ctx: Any) -> None:
    """As it turned out, not as it was meant."""
    journal = Journal(Path(os.environ[MARK]) / f"ready-{os.environ[VARIANT]}.jsonl")
    uvloop = "uvloop" in type(asyncio.get_running_loop()).__module__
    hours = round((time.time() - clock()) / 3600)
    journal.write("ready", "", kind=_kind(_speedups.COMPILED, uvloop, hours))


def _kind(compiled: bool, uvloop: bool, hours: int) -> str:
    kernels, loop = "compiled" if compiled else "uncompiled", "uvloop" if uvloop else "asyncio"
    return f"worker with {kernels} kernels, {loop}, clock {hours:+d} h"


async def _before(ctx: Any) -> None:
    await asyncio.sleep(0)


async def _after(ctx: Any) -> None:
    functions.note("accepted", ctx, status=ctx["job"].status.value)


async def main() -> None:
    """Works until it is told to stop, or killed, and then writes down what is left over."""
    worker: Worker[Any] = Worker(**settings())
    try:
        await worker.start()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one may come late
        await worker.queue.disconnect()
        await _note_what_is_left(Journal(Path(os.environ[MARK]) / f"left-{os.environ[VARIANT]}.jsonl"))


async def _note_what_is_left(journal: Journal) -> None:
    deadline = time.monotonic() + 3
    # A function that swallows its cancellation, or runs in a thread, may take a moment to end.
    while (left := _left()) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    journal.write("left", "", process=os.getpid(), names=left)


def _left() -> list[str]:
    tasks = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return sorted(tasks + threads)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    os.environ[VARIANT] = sys.argv[1]
    if not VARIANTS[int(sys.argv[1])].uvloop:
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    try:
        run_loop(main())
    except SaqError as error:
        sys.exit(f"worker: {error}")
