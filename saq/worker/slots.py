"""The slots of a worker: how many jobs it runs at once, and how many it may claim.

Owns the counts, and the jobs that were claimed ahead and wait for a slot. Must not talk to a queue.

Where jobs are short, a few more are claimed than there are free slots: as many as will have ended by the time
these can be here, going by the last moments. So a slot need not stand empty for a round trip. A job that got
no slot soon after all goes back, as if it had not been claimed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from saq.job import Job

#: A claim takes so long to bring its jobs, in seconds, give or take: what ends meanwhile makes room for them.
AHEAD = 0.002
#: How fast jobs end is measured over so many seconds, at the least.
WINDOW = 0.005
#: A job waits so long for a slot, in seconds, before it is given back.
PATIENCE = 0.1


class Slots:
    """Takes in claimed jobs and starts them as slots come free.

    Args:
        count: how many jobs may run at once.
        run: starts a job.
        give_back: takes a job that was claimed and got no slot.
        limit: how many jobs to claim in all, or None.
    """

    def __init__(
        self,
        count: int,
        run: Callable[[Job], Any],
        give_back: Callable[[Job], None],
        limit: int | None = None,
    ) -> None:
        self.count = count
        #: Jobs still to be claimed, or None: without limit.
        self.left = limit
        self._run = run
        self._give_back = give_back
        self._running = 0
        #: Neither running nor waiting nor promised to a claim under way; below zero by what is claimed ahead.
        self._free = count
        self._waiting: deque[tuple[float, Job]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = 0
        self._since = 0.0
        self._ahead = 0

    @property
    def idle(self) -> bool:
        """Whether nothing runs, waits or is being claimed."""
        return self._free == self.count

    @property
    def ahead(self) -> int:
        """How many jobs to claim beyond the free slots."""
        now = time.monotonic()
        elapsed = now - self._since
        if elapsed > WINDOW:
            self._ahead = min(self.count, int(self._ended / elapsed * AHEAD))
            self._ended, self._since = 0, now
        return self._ahead

    def room(self, ahead: int = 0) -> int:
        """How many jobs may be claimed now."""
        room = self._free + ahead
        return room if self.left is None else min(room, self.left)

    def promise(self, jobs: int) -> None:
        """Keeps slots for a claim that is about to be made; a negative number takes that back."""
        self._free -= jobs
        if self.left is not None:
            self.left -= jobs

    def take(self, job: Job) -> None:
        """Starts a job that was promised a slot, or has it wait for one."""
        if self._running < self.count:
            self._running += 1
            self._run(job)
            return
        self._waiting.append((time.monotonic() + PATIENCE, job))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._expire)

    def freed(self) -> None:
        """A job has ended: the next one takes its slot."""
        self._ended += 1
        self._free += 1
        while self._waiting:
            job = self._waiting.popleft()[1]
            if job._member is not None:
                self._run(job)
                return
            self._free += 1  # its lease was lost while it waited
        self._running -= 1

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._return_first()
        if self._waiting:
            delay = self._waiting[0][0] - now
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def empty(self) -> None:
        """Gives back what waits."""
        while self._waiting:
            self._return_first()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _return_first(self) -> None:
        job = self._waiting.popleft()[1]
        self.promise(-1)
        if job._member is not None:
            self._give_back(job)
