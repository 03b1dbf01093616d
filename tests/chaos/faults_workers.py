"""Faults of workers: killed, frozen, told to stop, at any point of their lives.

Owns which process gets which signal. What the jobs themselves do to a worker is in `functions.py`.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from time import time

from tests.chaos.functions import LEASE
from tests.chaos.nemesis import Fault
from tests.chaos.process import Process, signal_pid
from tests.chaos.timeline import Event, Timeline

#: Seconds in which a process that was started is still starting up.
START_UP = 0.8
RESTART_AFTER = 0.5


class WorkerFaults:
    """What can happen to these processes."""

    def __init__(self, workers: list[Process], timeline: Timeline, seed: int) -> None:
        self._workers = workers
        self._timeline = timeline
        self._random = random.Random(f"{seed} workers")
        self._frozen: set[int] = set()

    def faults(self) -> list[Fault]:
        """All of them."""
        return [
            Fault("kill a worker", 8, self._kill),
            Fault("freeze a worker past its lease", 2, self._freeze),
            Fault("SIGTERM to a worker", 2, self._stop),
            Fault("SIGTERM twice to a worker", 2, self._stop_twice),
            Fault("SIGTERM to a parent alone", 1, self._stop_parent),
            Fault("kill a parent alone", 1, self._kill_parent),
            Fault("SIGTERM during start-up", 1, self._stop_at_start),
        ]

    def mend(self) -> None:
        """Starts what has ended."""
        for worker in self._workers:
            # One that could not start because the server is away need not be tried fifty times a second.
            if not worker.running and time() - worker.ended > RESTART_AFTER * (worker.code == 1):
                worker.start()

    def _pick(self, ready: Callable[[Process], bool]) -> Process | None:
        fitting = [worker for worker in self._workers if worker.running and ready(worker)]
        return self._random.choice(fitting) if fitting else None

    def _working(self) -> int:
        """A process that does the work of a worker, perhaps one that has just started; 0 if there is none."""
        worker = self._pick(lambda worker: bool(worker.working()))
        return self._random.choice(worker.working()) if worker is not None else 0

    def _kill(self) -> bool:
        pid = self._working()
        if not pid or not signal_pid(pid, signal.SIGKILL):
            return False
        self._timeline.note("kill a worker", pids=(pid,))
        return True

    def _freeze(self) -> bool:
        pid = self._working()
        if not pid or pid in self._frozen or not signal_pid(pid, signal.SIGSTOP):
            return False
        self._frozen.add(pid)
        event = self._timeline.note("freeze a worker past its lease", pids=(pid,))
        event.until = float("inf")
        self._timeline.after(self._random.uniform(1.6, 3.0) * LEASE, lambda: self._thaw(pid, event))
        return True

    def _thaw(self, pid: int, event: Event) -> None:
        self._frozen.discard(pid)
        if not signal_pid(pid, signal.SIGCONT):
            event.fault = "kill a worker while it is frozen"
        self._timeline.over(event)

    def _told(self, fault: str, worker: Process) -> bool:
        """SIGTERM to the process alone: a parent has to pass it on."""
        pids = (worker.pid, *worker.working())
        if not worker.send(signal.SIGTERM):
            return False
        event = self._timeline.note(fault, pids=pids)
        event.until = event.at + 30  # until it has ended, which the verdict sees to
        return True

    def _stop(self) -> bool:
        worker = self._pick(lambda worker: not worker.children and worker.age > START_UP)
        return worker is not None and self._told("SIGTERM to a worker", worker)

    def _stop_twice(self) -> bool:
        worker = self._pick(lambda worker: worker.age > START_UP)
        if worker is None or not self._told("SIGTERM twice to a worker", worker):
            return False
        pid = worker.pid
        self._timeline.after(self._random.uniform(0.0, 0.5), lambda: _again(pid))
        return True

    def _stop_parent(self) -> bool:
        worker = self._pick(lambda worker: bool(worker.children) and len(worker.working()) == worker.children)
        return worker is not None and self._told("SIGTERM to a parent alone", worker)

    def _kill_parent(self) -> bool:
        """Its children have nobody left to stop them, and have to do it themselves."""
        worker = self._pick(lambda worker: bool(worker.children) and bool(worker.working()))
        if worker is None:
            return False
        pids = (worker.pid, *worker.working())
        worker.send(signal.SIGKILL)
        event = self._timeline.note("kill a parent alone", pids=pids)
        event.until = event.at + 30
        return True

    def _stop_at_start(self) -> bool:
        worker = self._pick(lambda worker: worker.age < START_UP)
        return worker is not None and self._told("SIGTERM during start-up", worker)


def _again(pid: int) -> None:
    signal_pid(pid, signal.SIGTERM)
