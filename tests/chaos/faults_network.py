"""Faults of the way between some of the processes and the server: the proxy in between breaks it.

Owns the proxy, which runs in a thread of its own. Whoever is connected directly notices nothing.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.chaos.functions import LEASE
from tests.chaos.nemesis import Fault
from tests.chaos.timeline import Event, Timeline
from tests.faults.proxy import Cut, Proxy

#: The commands that a cut may be meant for: a transition, the marker, a subscription.
TARGETS = ((b"EVALSHA", b"EVAL"), (b"BZPOPMIN",), (b"SUBSCRIBE",))


class NetworkFaults:
    """What can happen on the way.

    Args:
        port: of the server.
        workers: the names of those whose way it is.
    """

    def __init__(self, port: int, timeline: Timeline, seed: int, workers: tuple[str, ...]) -> None:
        self._timeline = timeline
        self._random = random.Random(f"{seed} network")
        self._workers = workers
        self._armed = ""
        self._lasting = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # it breaks connections for a living
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self._proxy = Proxy(port)
        self._do(self._proxy.start())
        self.url = self._proxy.url

    def faults(self) -> list[Fault]:
        """All of them."""
        return [
            Fault("cut before a command", 2, lambda: self._cut("cut before a command", "request", 0)),
            Fault("cut inside a command", 2, self._cut_inside),
            Fault("answer lost", 3, lambda: self._cut("answer lost", "answer", 0)),
            Fault("cut inside an answer", 1, self._cut_answer),
            Fault("cut all connections", 1, self._drop),
            Fault("slow network", 1, self._delay),
            Fault("half-open connections", 1, self._half_open),
            Fault("partition", 1, self._partition),
        ]

    def look(self) -> None:
        """A cut waits for its command; it has happened when that has come."""
        if self._armed and not self._proxy.armed:
            self._timeline.note(self._armed)
            self._armed = ""

    def close(self) -> None:
        """Ends the proxy."""
        self._do(self._proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _call(self, action: Callable[[], None]) -> None:
        async def call() -> None:
            action()

        self._do(call())

    def _cut(self, fault: str, where: str, at: int) -> bool:
        if self._armed or self._lasting:
            return False
        words = self._random.choices(TARGETS, (8, 1, 1))[0]
        nth = self._random.randint(1, 20) if words == TARGETS[0] else 1
        cut = Cut(where, nth, at, lambda command: command[0] in words)
        self._armed = fault
        self._call(lambda: self._proxy.cut(cut))
        return True

    def _cut_inside(self) -> bool:
        return self._cut("cut inside a command", "request", self._random.randint(1, 200))

    def _cut_answer(self) -> bool:
        return self._cut("cut inside an answer", "answer", self._random.randint(1, 20))

    def _drop(self) -> bool:
        if self._lasting or not self._proxy.connections:
            return False
        self._call(self._proxy.drop_all)
        self._timeline.note("cut all connections")
        return True

    def _delay(self) -> bool:
        if self._lasting:
            return False
        self._proxy.delay = self._random.uniform(0.002, 0.02)

        def over() -> None:
            self._proxy.delay = 0.0

        return self._lasts(self._timeline.note("slow network"), self._random.uniform(0.5, 3.0), over)

    def _half_open(self) -> bool:
        """Nothing passes and nobody is told; then the connections are lost, or all of it arrives late."""
        if self._lasting:
            return False
        self._call(self._proxy.freeze)
        lost = self._random.random() < 0.5

        def over() -> None:
            if lost:
                self._call(self._proxy.drop_all)
            self._call(self._proxy.thaw)

        event = self._timeline.note("half-open connections", workers=self._workers)
        return self._lasts(event, self._random.uniform(0.5, 2.5) * LEASE, over)

    def _partition(self) -> bool:
        if self._lasting:
            return False

        def part() -> None:
            self._proxy.refusing = True
            self._proxy.drop_all()

        def over() -> None:
            self._proxy.refusing = False

        self._call(part)
        event = self._timeline.note("partition", workers=self._workers)
        return self._lasts(event, self._random.uniform(0.5, 2.5) * LEASE, over)

    def _lasts(self, event: Event, seconds: float, mend: Callable[[], None]) -> bool:
        self._lasting = True
        event.until = float("inf")

        def over() -> None:
            mend()
            self._lasting = False
            self._timeline.over(event)

        self._timeline.after(seconds, over)
        return True
