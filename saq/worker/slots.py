"""The slots of a worker: how many jobs it runs at once, and how many it may claim from which queue.

Owns the counts, whose turn it is, and the jobs that were claimed ahead and wait for a slot. Must not talk to
a queue.

Where jobs are short, a few more are claimed than there are free slots: as many as will have ended by the time
these can be here, going by the last moments. So a slot need not stand empty for a round trip. A job that got
no slot soon after all goes back, as if it had not been claimed.

Several queues share the slots. Only a queue that *wants* some counts: it has not said that it is empty, and
it answers. What the others leave unused is free for whoever wants it.

    in order   a queue may claim what those before it leave when they want no more
    by weight  each claimed job moves its queue on by 1 / weight, and the next slot is for the one that has
               come the shortest way; a queue that wants again after a while starts where the others are, and
               has saved up nothing

With one queue, what is free may be promised to the claim that waits for work. With several that would keep
slots from those that have some, so a waiting claim is promised none: it takes one if there is one when its
job comes, and the job goes back if not.
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
#: Where there are fewer slots, so many are claimed ahead at the most: a step has a cost of its own.
MOST_AHEAD = 100
#: How fast jobs end is measured over so many seconds, at the least.
WINDOW = 0.005
#: A job waits so long for a slot, in seconds, before it is given back.
PATIENCE = 0.1


class Slots:
    """The slots of a worker. Each of its queues has a part in them, the first one first.

    Args:
        count: how many jobs may run at once.
        limit: how many jobs to claim in all, or None.
    """

    def __init__(self, count: int, limit: int | None = None) -> None:
        self.count = count
        #: Jobs still to be claimed, or None: without limit.
        self.left = limit
        #: Whether several queues share them.
        self.shared = False
        #: How often a claim has brought some.
        self.claims = 0
        self._parts: list[Part] = []
        self._running = 0
        #: Neither running nor waiting nor promised to a claim under way; below zero by what is claimed ahead.
        self._free = count
        self._waiting: deque[tuple[float, Part, Job]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = 0
        self._since = 0.0
        self._ahead = 0
        #: How far the queues have come, by weight.
        self._come = 0.0

    def part(
        self,
        give_back: Callable[[Job], None],
        *,
        weight: float | None = None,
        limit: int | None = None,
        wants: Callable[[], bool] = lambda: True,
        changed: Callable[[], None] = lambda: None,
    ) -> Part:
        """The part of one more queue.

        Args:
            give_back: takes a job that was claimed and got no slot.
            weight: of the queue, or None: queues are served in their order.
            limit: how many of its jobs may run at once, or None.
            wants: whether there may be something to claim, as far as is known.
            changed: called when there may be room that was not there before.
        """
        part = Part(self, len(self._parts), give_back, weight, limit, wants, changed)
        self._parts.append(part)
        self.shared = len(self._parts) > 1
        return part

    @property
    def idle(self) -> bool:
        """Whether nothing runs, waits or is being claimed."""
        return self._free == self.count

    @property
    def spent(self) -> bool:
        """Whether as many jobs were claimed as may be."""
        return self.left == 0

    @property
    def ahead(self) -> int:
        """How many jobs to claim beyond the free slots."""
        now = time.monotonic()
        elapsed = now - self._since
        if elapsed > WINDOW:
            self._ahead = min(max(self.count, MOST_AHEAD), int(self._ended / elapsed * AHEAD))
            self._ended, self._since = 0, now
        return self._ahead

    def changed(self) -> None:
        """Room may be where it was not before: every queue looks."""
        for part in self._parts:
            part.look()

    @property
    def rested(self) -> float:
        """For how long no queue has had any work, in seconds."""
        return min(part.rested for part in self._parts)

    def _room_of(self, part: Part, room: int) -> int:
        """How much of the room is for one of several queues."""
        if part.weight is None:
            for other in self._parts:
                if other is part or room <= 0:
                    break
                if other.wants():
                    if other.limit is None:
                        return 0
                    room -= other.limit - other.used
            return room
        others = [other for other in self._parts if other is not part and other.wants()]
        if not others:
            return room
        part.wants()
        part.catch_up()
        # The last of its next jobs that is not more than `room` places behind, all queues taken together.
        fits, beyond = 0, room + 1
        while beyond - fits > 1:
            jobs = (fits + beyond) // 2
            if jobs + sum(other.before(part, jobs) for other in others) <= room:
                fits = jobs
            else:
                beyond = jobs
        return fits

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, part, job = self._waiting.popleft()
            part.give_back(job)
        if self._waiting:
            delay = self._waiting[0][0] - now
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)


class Part:
    """A queue's part in the slots of a worker: takes in claimed jobs and starts them as slots come free."""

    def __init__(
        self,
        slots: Slots,
        position: int,
        give_back: Callable[[Job], None],
        weight: float | None,
        limit: int | None,
        wants: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self.slots = slots
        self.weight = weight
        self.limit = limit
        #: What runs, waits, or is promised.
        self.used = 0
        #: For how long the queue has had no work while nothing ran, in seconds.
        self.rested = 0.0
        self.look = changed
        #: Starts a job: set before any is taken.
        self.run: Callable[[Job], Any] = give_back
        self._position = position
        self._give_back = give_back
        self._may_want = wants
        self._wanted = False
        self._stride = 1 / weight if weight else 0.0
        #: How far it has come: its claimed jobs by weight.
        self._come = 0.0

    def room(self, ahead: int = 0) -> int:
        """How many jobs may be claimed now."""
        slots = self.slots
        room = slots._free + ahead
        if slots.left is not None and slots.left < room:
            room = slots.left
        if slots.shared and room > 0:
            room = slots._room_of(self, room)
        return room if self.limit is None else min(room, self.limit - self.used)

    @property
    def open(self) -> bool:
        """Whether it may claim, as soon as there is room."""
        return self.slots.left != 0 and (self.limit is None or self.used < self.limit)

    def wants(self) -> bool:
        """Whether there may be something to claim, and it may be claimed."""
        wants = self._may_want()
        if wants:
            self.catch_up()
        self._wanted = wants
        return wants and (self.limit is None or self.used < self.limit)

    def catch_up(self) -> None:
        """Starts where the others are, if it had no part in it lately."""
        if not self._wanted and self._come < self.slots._come:
            self._come = self.slots._come

    def before(self, other: Part, jobs: int) -> int:
        """How many of its next jobs come before the one so many jobs on of another queue.

        Both sides reckon each place by the same product, so that two never wait for each other.
        """
        place = (other._come + jobs * other._stride, other._position)
        count = max(0, int((place[0] - self._come) / self._stride))
        while (self._come + (count + 1) * self._stride, self._position) < place:
            count += 1
        while count > 0 and not (self._come + count * self._stride, self._position) < place:
            count -= 1
        return count if self.limit is None else min(count, self.limit - self.used)

    def promise(self, jobs: int) -> None:
        """Keeps slots for a claim that is about to be made; a negative number takes that back."""
        slots = self.slots
        slots._free -= jobs
        self.used += jobs
        if slots.left is not None:
            slots.left -= jobs
        if slots.shared and jobs:
            if jobs > 0 and self._come > slots._come:
                slots._come = self._come
            self._come += jobs * self._stride
            if jobs < 0 or self.used == self.limit:
                slots.changed()

    def admit(self, job: Job) -> bool:
        """Takes in a job that no slot was promised to, if there is room for it."""
        if self.room(self.slots.ahead) <= 0:
            return False
        self.promise(1)
        self.take(job)
        return True

    def take(self, job: Job) -> None:
        """Starts a job that was promised a slot, or has it wait for one."""
        slots = self.slots
        if slots._running < slots.count:
            slots._running += 1
            self.run(job)
            return
        slots._waiting.append((time.monotonic() + PATIENCE, self, job))
        if slots._timer is None:
            slots._timer = asyncio.get_running_loop().call_later(PATIENCE, slots._expire)

    def freed(self) -> None:
        """A job has ended: the next one takes its slot."""
        slots = self.slots
        slots._ended += 1
        slots._free += 1
        self.used -= 1
        if slots.shared:
            slots.changed()
        while slots._waiting:
            _, part, job = slots._waiting.popleft()
            if job._member is not None:
                part.run(job)
                return
            slots._free += 1  # its lease was lost while it waited
            part.used -= 1
        slots._running -= 1

    def give_back(self, job: Job) -> None:
        """Gives up a job that waited for a slot."""
        self.promise(-1)
        if job._member is not None:
            self._give_back(job)

    def empty(self) -> None:
        """Gives back what waits."""
        slots = self.slots
        waiting = slots._waiting
        for _ in range(len(waiting)):
            item = waiting.popleft()
            if item[1] is self:
                self.give_back(item[2])
            else:
                waiting.append(item)
        if slots._timer is not None and not waiting:
            slots._timer.cancel()
            slots._timer = None
