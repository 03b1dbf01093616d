"""A worker at work, as others may want to know it.

Owns what is measured of one worker: its meters, the lag of its event loop, when it claimed last. Must not
judge it (`health.py`), nor know how it is told to anybody. It is written in the worker's loop, and read from
any thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from saq.job import Job
from saq.observe.meter import Meter
from saq.queue.backend import Settlement, Step
from saq.queue.base import Queue
from saq.worker.run import Run
from saq.worker.worker import Worker

#: The event loop is asked for a sign so often, in seconds …
BEAT = 0.5
#: … and so many of the latest lags are kept: 30 seconds of them, which is longer than most scrape.
BEATS = 60

#: The monitors of this process, by the identity of their queue. It goes with its monitor, so none is reused.
_monitors: WeakValueDictionary[int, Monitor] = WeakValueDictionary()


class QueueWatch:
    """What a monitor knows of one of the worker's queues (a ``Watch`` of it)."""

    def __init__(self, queue: Queue, functions: Iterable[str]) -> None:
        self.queue = queue
        self.meter = Meter(functions)
        #: When a step that could claim was answered last: by the local clock (epoch seconds), and monotonic.
        self.claimed_at = 0.0
        self.claimed = 0.0

    @property
    def tally(self) -> Meter:
        """Counts attempts as they end."""
        return self.meter

    def counting(self, start: Callable[[Job], Run]) -> Callable[[Job], Run]:
        """What starts a job and counts it."""
        count = self.meter.start

        def counted(job: Job) -> Run:
            count(job)
            return start(job)

        return counted

    def stepped(self, done: Sequence[Settlement], step: Step, wanted: int) -> None:
        """A step was answered."""
        if done:
            self.meter.settled(done, step.verdicts)
        if wanted:
            self.claimed = monotonic()
            self.claimed_at = time.time()

    def lost(self, job: Job) -> None:
        """The lease of a job was lost while it ran."""
        self.meter.lost += 1


class Monitor:
    """Watches a worker from its next start on (an ``Observer`` of it).

    Args:
        worker: which one. Its functions are known by now; one that is added later counts as unknown.
    """

    def __init__(self, worker: Worker[Any]) -> None:
        self.worker = worker
        self.queues: Sequence[Queue] = worker.queues
        self.watches = [QueueWatch(queue, sorted(worker.functions)) for queue in self.queues]
        #: Whether its figures are read on a port of their own.
        self.served = False
        #: 'waiting' to begin, 'working', or 'stopping'.
        self.state = "waiting"
        #: Where the worker works, once it has begun.
        self.loop: asyncio.AbstractEventLoop | None = None
        self._runs: Sequence[Mapping[str, Run]] = ()
        #: When the next beat is due, how late the latest was, and how late those before.
        self._due = 0.0
        self._lag = 0.0
        self._lags: deque[float] = deque(maxlen=BEATS)
        worker.observe(self)
        for queue in self.queues:
            _monitors[id(queue)] = self

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return sum(map(len, self._runs))

    @property
    def since_claim(self) -> float | None:
        """Seconds since a step that could claim was answered, from any queue; None if there was none yet."""
        latest = max(watch.claimed for watch in self.watches)
        return monotonic() - latest if latest else None

    @property
    def lag(self) -> float:
        """How late the event loop is at present, in seconds: the latest beat, or the one that is overdue."""
        overdue = monotonic() - self._due if self._due else 0.0
        return max(0.0, self._lag, overdue)

    @property
    def worst_lag(self) -> float:
        """How late it was at the worst in the last half a minute."""
        return max([self.lag, *self._lags.copy()])

    # What the worker tells it (`Observer`) ------------------------------------------------------------------

    def watch(self, queue: Queue) -> QueueWatch:
        """What is told of a queue."""
        return next(watch for watch in self.watches if watch.queue is queue)

    def begin(self, runs: Sequence[Mapping[str, Run]]) -> None:
        """It claims from now on."""
        self._runs = runs
        self.loop = asyncio.get_running_loop()
        self._lag = self._due = 0.0
        for watch in self.watches:
            watch.claimed = 0.0
        self.state = "working"

    def end(self) -> None:
        """It claims nothing more."""
        self.state = "stopping"

    async def beat(self) -> float:
        """A sign of life of the event loop. Returns when the next one is due, in seconds."""
        now = monotonic()
        if self._due:
            self._lag = max(0.0, now - self._due)
            self._lags.append(self._lag)
        self._due = now + BEAT
        return BEAT


def monitor_of(queue: Queue) -> Monitor | None:
    """The monitor of a worker of this queue object in this process, if there is one."""
    found = _monitors.get(id(queue))
    return found if found is not None and queue in found.queues else None
