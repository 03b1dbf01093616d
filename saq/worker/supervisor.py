"""Several worker processes under one parent.

Owns the children: starts them, passes signals on, replaces those that die, and always ends in bounded time.
Must not work itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

logger = logging.getLogger("saq")

#: A child that dies within so many seconds of its start …
EARLY = 5.0
#: … so many times in a row will not do better the next time.
EARLY_DEATHS = 3
#: Seconds that children have to end after the first signal, beyond their own grace period, which they know.
KILL_AFTER = 30.0


class Supervisor:
    """Runs ``count`` processes that each call ``target(index, *arguments)``.

    Args:
        target: importable, as the children are spawned, not forked: no thread and no connection of the parent
            is half copied into them.
        grace: seconds that a child may take to end by itself when it is told to.
    """

    def __init__(
        self, count: int, target: Callable[..., None], arguments: tuple[Any, ...], grace: float
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._arguments = arguments
        self._grace = grace
        self._children: dict[int, SpawnProcess] = {}
        self._began: dict[int, float] = {}
        self._early = 0
        self._signals = 0
        self._told = 0
        self._count = count

    def run(self) -> int:
        """Supervises until all children have ended. Returns the exit code for the parent."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)
        for index in range(self._count):
            if not self._signals:
                self._start(index)
        deadline = 0.0
        failed = False
        while self._children:
            while self._told < self._signals:
                self._tell()
            if self._told and not deadline:
                deadline = time.monotonic() + self._grace + KILL_AFTER
            sentinels = {child.sentinel: i for i, child in self._children.items()}
            for ended in multiprocessing.connection.wait(list(sentinels), timeout=0.2):
                failed = self._on_end(sentinels[ended]) or failed  # type: ignore[index]
            if deadline and time.monotonic() > deadline:
                for child in self._children.values():
                    logger.error("Worker process %s does not end and is killed", child.pid)
                    child.kill()
        return 1 if failed else 0

    def _start(self, index: int) -> None:
        child = self._context.Process(
            target=_child, args=(self._target, index, *self._arguments), name=f"saq-worker-{index}"
        )
        child.start()
        self._children[index] = child
        self._began[index] = time.monotonic()
        logger.info("Worker process %s started", child.pid)

    def _on_end(self, index: int) -> bool:
        """A child ended. Returns whether all is over because of it."""
        child = self._children.pop(index)
        child.join()
        code, lived = child.exitcode, time.monotonic() - self._began[index]
        if self._signals:
            # One that was still starting, or had already stopped, may die of the signal, and well so.
            return code not in (0, -signal.SIGTERM)
        if code == 0:
            logger.info("Worker process %s ended by itself", child.pid)
            return False
        self._early = self._early + 1 if lived < EARLY else 0
        if self._early >= EARLY_DEATHS:
            logger.error("Worker processes die as they start (exit code %s): giving up", code)
            self._signals += 1
            return True
        logger.error("Worker process %s died (exit code %s) and is replaced", child.pid, code)
        again = time.monotonic() + min(2.0, 0.2 * 2**self._early)
        while time.monotonic() < again and not self._signals:
            time.sleep(0.02)
        if not self._signals:
            self._start(index)
        return False

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        # Passed on by the loop: here, a child may be half started.
        self._signals += 1

    def _tell(self) -> None:
        self._told += 1
        for child in self._children.values():
            if child.pid is not None and child.is_alive():
                # SIGTERM whatever came: SIGINT would interrupt one that still imports, with a stack trace.
                os.kill(child.pid, signal.SIGTERM)


def _child(target: Callable[..., None], index: int, *arguments: Any) -> None:
    # Ctrl-C reaches the whole group of the terminal; only the parent shall pass it on, once.
    os.setpgid(0, 0)
    target(index, *arguments)
