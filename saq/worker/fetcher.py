"""The one loop that talks to a queue for jobs.

Owns when a worker settles and claims: both in one call. Must not run a job.

Two calls may be under way, each for half of the slots at the most: while the server works on the one, the
jobs of the other run here. On two cores that is worth half of the throughput again at 100 slots.

Jobs never wait for the server to be claimed or settled, so cancelling one can neither lose its settlement nor
corrupt an answer. A settlement that could not be delivered is sent again until the server has taken it, or
has called it stale.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from saq.errors import ServerError
from saq.job import Job, Status
from saq.queue.backend import Settlement, Step
from saq.queue.base import LOOK_EVERY, Queue

logger = logging.getLogger("saq")

#: Calls under way at once.
LANES = 2
#: A step settles and claims so many jobs at the most …
STEP_JOBS = 250
#: … and settles so many bytes.
STEP_BYTES = 262_144


class Fetcher:
    """Settles and claims for a worker.

    Args:
        queue: whose jobs.
        run: starts a claimed job.
        slots: how many jobs may run at once.
        limit: how many jobs to claim in all, or None.
        look_every: an idle worker looks for work so often, in seconds, without being told of any.
        idle_limit: seconds without any work after which ``drained`` is called, or None.
        drained: called when there is nothing left to do.
    """

    def __init__(
        self,
        queue: Queue,
        run: Callable[[Job], Any],
        slots: int,
        limit: int | None = None,
        look_every: float = LOOK_EVERY,
        idle_limit: float | None = None,
        drained: Callable[[], None] | None = None,
    ) -> None:
        self._queue = queue
        self._run = run
        self._slots = slots
        self._free = slots
        self._left = limit
        self._look_every = look_every
        self._idle_limit = idle_limit
        self._drained = drained
        self._done: deque[Settlement] = deque()
        self._accepted: dict[int, asyncio.Future[Status | None]] = {}
        self._wake = asyncio.Event()
        self._hungry = asyncio.Event()
        self._listening = False
        #: A marker came: it is answered with a claim, or handed on by a step that claims nothing.
        self._owed = False
        #: Somebody shall look for work; the last look found as much as it asked for.
        self._looking = True
        self._plenty = False
        self._share = -(-slots // LANES)
        self._claiming = True
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._listener: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begins to claim."""
        self._wake.set()
        self._loops = [asyncio.create_task(self._loop(), name=f"saq-fetcher-{lane}") for lane in range(LANES)]
        self._listener = asyncio.create_task(self._listen(), name="saq-marker")

    def start_settling(self) -> None:
        """Begins to settle, and claims nothing."""
        self._claiming = False
        self._loops = [asyncio.create_task(self._loop(), name="saq-fetcher")]

    def settle(self, settlement: Settlement) -> None:
        """Sends a settlement with the next step."""
        self._done.append(settlement)
        self._wake.set()

    def accepted(self, settlement: Settlement) -> asyncio.Future[Status | None]:
        """The same; the future holds the status that it led to, or None if it was stale."""
        future: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()
        self._accepted[id(settlement)] = future
        self.settle(settlement)
        return future

    def freed(self) -> None:
        """A slot is free again."""
        self._free += 1
        self._wake.set()
        self._check_limit()

    def _check_limit(self) -> None:
        if self._left == 0 and self._free == self._slots and self._drained:
            self._drained()

    def look(self) -> None:
        """There may be something to claim."""
        self._looking = True
        self._wake.set()

    @property
    def _wanted(self) -> int:
        if not self._claiming:
            return 0
        wanted = min(self._free, self._share, STEP_JOBS)
        return wanted if self._left is None else min(wanted, self._left)

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._done or self._owed or ((self._looking or self._plenty) and self._wanted > 0):
                await self._step()
            if self._closing and not self._done:
                return

    async def _step(self) -> None:
        done = self._next_done()
        wanted = self._wanted
        self._owed = False
        if wanted:
            self._looking = False
        # Slots are taken before the call: the other lane must not promise them as well.
        self._reserve(wanted)
        try:
            step = await self._queue.step(done, wanted)
        except BaseException as error:
            self._reserve(-wanted)
            # What was done is kept, and sent again before anything new.
            self._done.extendleft(reversed(done))
            if not isinstance(error, Exception):
                raise
            self._looking = True
            await self._pause_after(error)
            return
        if self._failing:
            self._failing = False
            logger.info("The queue %s answers again", self._queue.name)
        if done:
            self._tell(done, step.verdicts)
        if not self._claiming and step.jobs:
            self._reserve(-wanted)
            # It was told to stop while this claim was under way.
            self._done.extend(self._queue.settle_return(job, "cancelled") for job in step.jobs)
            return
        for job in step.jobs:
            self._run(job)
        if wanted:
            self._reserve(len(step.jobs) - wanted)
            self._after_claim(step, wanted)

    def _reserve(self, slots: int) -> None:
        self._free -= slots
        if self._left is not None:
            self._left -= slots
            self._check_limit()

    def _next_done(self) -> list[Settlement]:
        done: list[Settlement] = []
        queue, size = self._done, 0
        # A lane takes its share of these as well, or the two would soon go in step and wait for each other.
        while queue and len(done) < min(self._share, STEP_JOBS) and size < STEP_BYTES:
            settlement = queue.popleft()
            size += len(settlement.body)
            done.append(settlement)
        return done

    def _tell(self, done: list[Settlement], verdicts: list[Status | None]) -> None:
        for settlement, status in zip(done, verdicts, strict=True):
            if status is None:
                logger.warning(
                    "%s was settled too late: its lease had run out, and the result is dropped",
                    settlement.job.info(),
                )
            if self._accepted:
                future = self._accepted.pop(id(settlement), None)
                if future is not None and not future.done():
                    future.set_result(status)

    def _after_claim(self, step: Step, wanted: int) -> None:
        claimed = len(step.jobs)
        if claimed == wanted or (step.more and claimed):
            # There may be more: claim again as soon as there is room.
            self._plenty = True
            self._wake.set()
            if self._free == 0 and (self._listening or self._hungry.is_set()):
                self._hungry.clear()
                self._queue.stop_waiting_for_work()
            return
        self._plenty = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = step.wait
        if step.more:
            # What is there cannot be taken now. Waiting for the marker would find it set by ourselves.
            wait = min(wait, self._look_every) if wait is not None else self._look_every
        else:
            self._hungry.set()
        if wait is not None:
            self._timer = asyncio.get_running_loop().call_later(wait, self.look)

    async def _listen(self) -> None:
        """Waits for the marker while there is room and nothing to claim."""
        idle = 0.0
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            timeout = self._look_every
            if self._idle_limit is not None:
                timeout = min(timeout, self._idle_limit)
            self._listening = True
            try:
                came = await self._queue.wait_for_work(timeout)
                idle = 0.0 if came or self._free < self._slots else idle + timeout
            except Exception as error:
                came, idle = False, 0.0
                await self._pause_after(error)
            finally:
                self._listening = False
            self._owed = came
            if self._idle_limit is not None and idle >= self._idle_limit and self._drained:
                self._drained()
            self.look()

    async def _pause_after(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            known = isinstance(error, ServerError)
            logger.error(
                "The queue %s does not answer, trying again: %s",
                self._queue.name,
                error,
                exc_info=None if known else error,
            )
        await asyncio.sleep(random.uniform(0.1, 1.0))

    def stop_claiming(self) -> None:
        """Claims nothing more, from now on. What a claim under way brings is given back."""
        self._claiming = False
        self._hungry.clear()
        if self._listener is not None:
            self._listener.cancel()

    async def close(self, patience: float) -> None:
        """Delivers what is settled, for ``patience`` seconds at the most, and ends."""
        self.stop_claiming()
        self._closing = True
        self._wake.set()
        tasks = [*self._loops, *([self._listener] if self._listener is not None else [])]
        if tasks:
            done, pending = await asyncio.wait(tasks, timeout=patience)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    logger.error("%s ended with an error", task.get_name(), exc_info=error)
        self._loops, self._listener = [], None
        if self._timer is not None:
            self._timer.cancel()
        for future in self._accepted.values():
            future.cancel()
        if self._done:
            logger.error("%d results could not be delivered: their jobs run again", len(self._done))
