"""The one loop that talks to a queue for jobs.

Owns when a worker settles and claims: both in one call. Must not run a job.

Two calls may be under way, each for half of the jobs at the most: while the server works on the one, the
jobs of the other run here. On two cores that is worth half of the throughput again at 100 slots.

An idle worker has a third one under way, which the server begins when there is work: `wait` in it.

A worker of several queues has a fetcher for each, and they share its slots (`slots.py`). None of them waits
for another: a server that does not answer soon loses the slots that were promised to its claims, until it
answers.

Jobs never wait for the server to be claimed or settled, so cancelling one can neither lose its settlement nor
corrupt an answer. A settlement that could not be delivered is sent again until the server has taken it, or
has called it stale.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from saq.errors import ServerError
from saq.job import Job, Status
from saq.queue.backend import Settlement, Step
from saq.queue.base import LOOK_EVERY, Queue
from saq.worker.slots import Slots

logger = logging.getLogger("saq")

#: Calls under way at once.
LANES = 2
#: A step settles and claims so many jobs at the most: for 250 the server may need 5 ms, for 100 not 3 …
STEP_JOBS = 100
#: One that is not complete counts so many times: a retry, or a failed job's record, costs twice as much.
UNUSUAL = 2
#: … and settles so many bytes.
STEP_BYTES = 262_144
#: Seconds that a claim under way is waited for at the end.
LAST_CLAIM_PATIENCE = 1.0
#: Seconds that a call may keep slots from other queues without an answer.
KEEP_SLOTS = 0.5


class _Watch:
    """A step under way among those of several queues: how many slots are promised to it, and for how long."""

    __slots__ = ("promised", "timer")

    def __init__(self, promised: int, stall: Callable[[_Watch], None]) -> None:
        self.promised = promised
        self.timer = asyncio.get_running_loop().call_later(KEEP_SLOTS, stall, self)

    def end(self) -> int:
        """How many slots are promised still."""
        self.timer.cancel()
        return self.promised


class Fetcher:
    """Settles and claims for a worker.

    Args:
        queue: whose jobs.
        slots: of the worker.
        weight, limit: of this queue among several: see ``Slots.part``.
        look_every: an idle worker looks for work so often, in seconds, without being told of any.
        idle_limit: seconds without any work after which ``drained`` is called, or None.
        drained: called when there is nothing left to do.
        stepped: called after each step with what it settled, what it brought and how much it asked for.
    """

    def __init__(
        self,
        queue: Queue,
        slots: Slots,
        weight: float | None = None,
        limit: int | None = None,
        look_every: float = LOOK_EVERY,
        idle_limit: float | None = None,
        drained: Callable[[], None] | None = None,
        stepped: Callable[[Sequence[Settlement], Step, int], None] | None = None,
    ) -> None:
        self._queue = queue
        self._wake = asyncio.Event()
        self._slots = slots
        self._part = slots.part(
            self._give_back,
            weight=weight,
            limit=limit,
            wants=self._may_want,
            changed=self._look_for_room,
        )
        self._look_every = look_every
        self._idle_limit = idle_limit
        self._drained = drained
        self._stepped = stepped
        self._done: deque[Settlement] = deque()
        self._accepted: dict[int, asyncio.Future[Status | None]] = {}
        self._hungry = asyncio.Event()
        self._listening = False
        #: Somebody shall look for work; the last look found as much as it asked for.
        self._looking = True
        self._plenty = False
        #: The same, while every free slot is promised to the claim that waits for work: a step that claims
        #: nothing queues what is due, and wakes that one.
        self._rousing = False
        self._claiming = True
        #: How many jobs the claims under way have asked for.
        self._asked = 0
        #: One of them keeps no slots from the others any more: there is no answer.
        self._stalled = False
        #: It claims nothing for the time being.
        self._quiet = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self._loops: list[asyncio.Task[None]] = []
        self._listeners: list[asyncio.Task[None]] = []
        self._failing = False

    def start(self, run: Callable[[Job], Any]) -> None:
        """Begins to claim; ``run`` starts a claimed job."""
        self._part.run = run
        self._wake.set()
        self._loops = [asyncio.create_task(self._loop(), name=f"saq-fetcher-{lane}") for lane in range(LANES)]
        self._listeners = [asyncio.create_task(self._listen(), name="saq-marker")]

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
        """A job has ended, and its slot is free again."""
        self._part.freed()
        self._wake.set()
        self._check_limit()

    def _give_back(self, job: Job) -> None:
        self.settle(self._queue.settle_unstarted(job))

    def _check_limit(self) -> None:
        if self._slots.left == 0 and self._slots.idle and self._drained:
            self._drained()

    def look(self) -> None:
        """There may be something to claim."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looking = True
        self._rousing = self._listening and not self._slots.shared and self._wanted == 0
        self._wake.set()
        if self._slots.shared:
            self._slots.changed()

    @property
    def _wanted(self) -> int:
        if not self._claiming or self._quiet:
            return 0
        ahead = self._slots.ahead
        return max(0, min(self._part.room(ahead), self._share(ahead)))

    def _share(self, ahead: int) -> int:
        """How many jobs a lane settles and claims at once."""
        return min(-(-(self._slots.count + ahead) // LANES), STEP_JOBS)

    def _may_want(self) -> bool:
        """Whether the queue answers, and has not said that there is nothing to claim."""
        if not self._loops or not self._claiming or self._quiet or self._failing or self._stalled:
            return False
        return self._looking or self._plenty or self._asked > 0

    def _look_for_room(self) -> None:
        if self._looking or self._plenty:
            self._wake.set()

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._done or self._rousing or ((self._looking or self._plenty) and self._wanted > 0):
                await self._step()
            if self._closing and not self._done:
                return

    async def _step(self) -> None:
        done = self._next_done()
        wanted = self._wanted
        self._rousing = False
        if wanted:
            self._looking = False
            if self._failing or self._stalled:
                wanted = 1  # whether it answers again can be asked with one slot
        # Slots are promised before the call: the other lane must not promise them as well.
        self._part.promise(wanted)
        self._asked += wanted
        watch = _Watch(wanted, self._stall) if self._slots.shared else None
        try:
            step = await self._queue.step(done, wanted)
        except BaseException as error:
            self._asked -= wanted
            self._part.promise(-(wanted if watch is None else watch.end()))
            # What was done is kept, and sent again before anything new.
            self._done.extendleft(reversed(done))
            if not isinstance(error, Exception):
                raise
            self._looking = True
            await self._pause_after(error)
            return
        self._asked -= wanted
        if done:
            self._tell(done, step.verdicts)
        self._take(step, wanted, wanted if watch is None else watch.end(), done)

    def _stall(self, watch: _Watch) -> None:
        """There is no answer: the slots of that step, and the turns, are for the other queues."""
        self._stalled = True
        promised, watch.promised = watch.promised, 0
        self._part.promise(-promised)
        self._slots.changed()

    def _take(self, step: Step, wanted: int, promised: int, done: Sequence[Settlement] = ()) -> None:
        """What a claim of so many jobs has brought, to so many of which a slot was promised."""
        if self._stepped is not None:
            self._stepped(done, step, wanted)
        if self._failing:
            self._failing = False
            logger.info("The queue %s answers again", self._queue.name)
        self._stalled = False
        part, jobs = self._part, step.jobs
        if not self._claiming or self._quiet:
            # It was told to take nothing more while this claim was under way.
            part.promise(-promised)
            for job in jobs:
                self._give_back(job)
            return
        refused = 0
        if jobs:
            self._slots.claims += 1
        if promised:
            part.promise(len(jobs) - promised)
            for job in jobs:
                part.take(job)
        else:
            for job in jobs:
                if not part.admit(job):
                    refused += 1
                    self._give_back(job)
        if wanted:
            # There may be more: claim again as soon as there is room. One that waited had asked for few.
            full = len(jobs) == wanted and promised > 0
            self._plenty = full or refused > 0 or (step.more and len(jobs) > 0)
            self._wake.set()
            if self._slots.shared:
                self._slots.changed()
        elif step.more and self._slots.shared:
            # Not asked for, as it was the turn of others: now it waits for its own.
            self._plenty = True
            self._slots.changed()
        self._plan(step)

    def _plan(self, step: Step) -> None:
        """When to look for work next, after a claim."""
        if self._plenty:
            return
        wait = step.wait
        if step.more:
            # What is there cannot be taken now. Waiting for the marker would find it set by ourselves.
            wait = min(wait, self._look_every) if wait is not None else self._look_every
        else:
            # What was claimed comes first: it may be done, and settled, before this one waits again. Its task
            # takes a turn of the loop, its settlement another; what is written goes out at the end of that.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._hungry.set)
        if wait is not None:
            self._look_in(wait)

    def _look_in(self, wait: float) -> None:
        """Looks after so many seconds, and not later than was planned.

        An answer that was lost and is given again may tell of a time when nothing was due yet."""
        moment = time.monotonic() + wait
        if self._timer is not None:
            if self._look_at <= moment:
                return
            self._timer.cancel()
        self._look_at = moment
        self._timer = asyncio.get_running_loop().call_later(wait, self.look)

    def _next_done(self) -> list[Settlement]:
        done: list[Settlement] = []
        queue, size = self._done, 0
        # A lane takes its share of these as well, or the two would soon go in step and wait for each other.
        left = self._share(self._slots.ahead)
        while queue and left > 0 and size < STEP_BYTES:
            settlement = queue.popleft()
            size += len(settlement.body)
            left -= 1 if settlement.status is Status.COMPLETE else UNUSUAL
            done.append(settlement)
        return done

    def _tell(self, done: list[Settlement], verdicts: list[Status | None]) -> None:
        for settlement, status in zip(done, verdicts, strict=True):
            if status is None:
                logger.warning(
                    "%s was settled too late: its lease had run out, and the result is dropped",
                    settlement.job.info(),
                    extra={"job_key": settlement.job.key, "queue": self._queue.name},
                )
            if self._accepted:
                future = self._accepted.pop(id(settlement), None)
                if future is not None and not future.done():
                    future.set_result(status)

    async def _listen(self) -> None:
        """Claims as soon as there is work, while there is room and nothing to claim."""
        slots, part = self._slots, self._part
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            if not self._claiming:
                return  # told to stop while it was not waiting: nobody would end its wait
            if slots.shared:
                # One of several waits for one job, and keeps no slot from the others. It waits even when all
                # are taken: it has to know when it has work, for then it has its turn.
                knows = self._looking or self._plenty
                wanted, promised = int(part.open and not self._quiet and not knows), 0
            else:
                wanted = promised = 0 if self._quiet else min(part.room(), STEP_JOBS)
            if wanted <= 0:
                continue  # the end of what runs will look again
            timeout = self._look_every
            if self._idle_limit is not None:
                timeout = min(timeout, self._idle_limit)
            part.promise(promised)
            before = slots.claims
            self._listening = True
            try:
                step = await self._queue.claim_when_woken(wanted, timeout)
            except Exception as error:
                part.promise(-promised)
                part.rested = 0.0
                await self._pause_after(error)
                self.look()
                continue
            finally:
                self._listening = False
            if self._claiming:
                # What was planned while it waited is out of date: the jobs that it brings run first.
                self._hungry.clear()
            self._take(step, wanted, promised)
            part.rested = part.rested + timeout if slots.idle and slots.claims == before else 0.0
            if self._idle_limit is not None and slots.rested >= self._idle_limit and self._drained:
                self._drained()

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
            if self._slots.shared:
                self._slots.changed()
        await asyncio.sleep(random.uniform(0.1, 1.0))

    def be_quiet(self, quiet: bool) -> None:
        """Claims nothing for the time being, or goes on."""
        self._quiet = quiet
        if quiet:
            self._queue.stop_waiting_for_work()
            self._slots.changed()
        else:
            self.look()

    def stop_claiming(self) -> None:
        """Claims nothing more, from now on. What a claim under way brings is given back, as is what waits."""
        if self._claiming:
            self._claiming = False
            self._part.empty()
            self._hungry.set()
            self._queue.stop_waiting_for_work()

    async def close(self, patience: float) -> None:
        """Delivers what is settled, for ``patience`` seconds at the most, and ends."""
        self.stop_claiming()
        deadline = time.monotonic() + patience
        # First the one that claims: what it brings is given back by the others. If the server is away, that
        # runs out like any lease.
        await _end(self._listeners, min(deadline, time.monotonic() + LAST_CLAIM_PATIENCE))
        self._closing = True
        self._wake.set()
        await _end(self._loops, deadline)
        if self._timer is not None:
            self._timer.cancel()
        for future in self._accepted.values():
            future.cancel()
        if self._done:
            logger.error("%d results could not be delivered: their jobs run again", len(self._done))


async def _end(tasks: list[asyncio.Task[None]], deadline: float) -> None:
    """Waits for tasks to end, until a moment (monotonic), and cancels those that do not."""
    if not tasks:
        return
    done, pending = await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()))
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
    for task in done:
        if (error := task.exception()) is not None:
            logger.error("%s ended with an error", task.get_name(), exc_info=error)
    tasks.clear()
