"""What breaks things, by a seeded schedule.

Owns the schedule. The faults are in `faults_workers.py`, `faults_server.py` and `faults_network.py`: each is
an action with a name, which returns whether it could be done now.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic, sleep, time
from typing import NamedTuple

from tests.chaos.timeline import Timeline

#: A pause of the driver itself that is this long says that the machine had no time for anybody.
STARVED = 0.7


class Fault(NamedTuple):
    """A kind of fault.

    Args:
        name: as the summary has it.
        weight: how often it is in the deck.
        strike: does it; False if it cannot be done at this moment.
    """

    name: str
    weight: int
    strike: Callable[[], bool]


class Nemesis:
    """Deals faults from a deck that holds each of them at least once, shuffled by the seed.

    Args:
        faults: all kinds.
        timeline: where they write down that they happened.
        seed: of the order.
        watch: called again and again meanwhile.
    """

    def __init__(
        self, faults: list[Fault], timeline: Timeline, seed: int, watch: Callable[[float], None]
    ) -> None:
        self.faults = faults
        self._timeline = timeline
        self._random = random.Random(seed)
        self._watch = watch
        self._deck: list[Fault] = []

    @property
    def deck(self) -> int:
        """How many faults it takes until each has been there."""
        return sum(fault.weight for fault in self.faults)

    def run(self, seconds: float, every: float) -> None:
        """Breaks things for so long."""
        began = last = monotonic()
        next_fault = began + every
        while (now := monotonic()) < began + seconds:
            if now - last > STARVED:
                # It explains what a fault would: leases were not renewed, and nobody is to blame.
                self._timeline.note("starved machine", since=time() - (now - last))
            last = now
            self._timeline.mend_due()
            if now >= next_fault and self.faults:
                next_fault = now + self._random.uniform(0.3, 1.7) * every
                self._strike()
            self._watch(now - began)
            # Faults and looks may take a while themselves: only what passes asleep counts as starved.
            last = monotonic()
            sleep(0.02)

    def _strike(self) -> None:
        if not self._deck:
            self._shuffle()
        if not self._strike_one():
            # What is left has to wait for something else to happen first.
            if len(self._deck) < self.deck:
                self._shuffle()
            self._strike_one()

    def _shuffle(self) -> None:
        fresh = [fault for fault in self.faults for _ in range(fault.weight)]
        self._random.shuffle(fresh)
        self._deck += fresh

    def _strike_one(self) -> bool:
        for position, fault in enumerate(self._deck):
            if fault.strike():
                del self._deck[position]
                return True
        return False
