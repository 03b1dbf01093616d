"""What was broken when, and what is still to be mended.

Owns the record of faults. Must not break anything itself.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time

import orjson

POWER_LOSS = "power loss of the server"
#: No fault: a process was told to stop because all is over.
THE_END = "the end"
CRASHES = "a job ends its worker (os._exit)"

#: What takes a job from its worker: the worker is gone, or cannot be heard for longer than a lease.
TAKES_AWAY = {
    "kill a worker",
    "kill a parent alone",
    "freeze a worker past its lease",
    "kill a worker while it is frozen",
    "SIGTERM to a worker",
    "SIGTERM twice to a worker",
    "SIGTERM to a parent alone",
    "SIGTERM during start-up",
    CRASHES,
    "half-open connections",
    "partition",
    "starved machine",
    POWER_LOSS,
}

#: While one of these lasts, a worker may not be able to start.
UNREACHABLE = {
    "kill the server",
    "restart the server",
    "freeze the server",
    "pause clients",
    "kill all connections",
    "read-only, as after a failover",
    "too few replicas",
    "cut before a command",
    "cut inside a command",
    "answer lost",
    "cut inside an answer",
    "cut all connections",
    "half-open connections",
    "partition",
    POWER_LOSS,
}


@dataclasses.dataclass
class Event:
    """A fault that really happened.

    Args:
        fault: its name.
        at, until: wall clock.
        pids: the processes that it hit; with `workers` empty as well, it hit everybody.
        workers: the workers that it hit, by name.
        figures: what was counted meanwhile.
    """

    fault: str
    at: float
    until: float
    pids: tuple[int, ...] = ()
    workers: tuple[str, ...] = ()
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


class Timeline:
    """Events, and actions that are due later."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._later: list[tuple[float, Callable[[], None]]] = []

    def note(
        self,
        fault: str,
        *,
        since: float | None = None,
        pids: tuple[int, ...] = (),
        workers: tuple[str, ...] = (),
        figures: dict[str, float] | None = None,
    ) -> Event:
        """Writes down a fault. One that lasts gets its end when it is over."""
        now = time()
        event = Event(fault, since if since is not None else now, now, pids, workers, figures or {})
        self.events.append(event)
        return event

    @staticmethod
    def over(event: Event) -> None:
        """A fault that lasted is over."""
        event.until = time()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Has something done then."""
        self._later.append((monotonic() + seconds, action))

    def mend_due(self) -> None:
        """Does what is due."""
        now = monotonic()
        for item in [item for item in self._later if item[0] <= now]:
            self._later.remove(item)
            item[1]()

    def mend_all(self) -> None:
        """Does all that is left, at once, in the order in which it would have been due."""
        while self._later:
            self._later.sort(key=lambda item: item[0])
            self._later.pop(0)[1]()

    @property
    def counts(self) -> Counter[str]:
        """How often each fault happened."""
        return Counter(event.fault for event in self.events)

    def save(self, path: Path) -> None:
        """For whoever looks at a failed run."""
        path.write_bytes(b"\n".join(orjson.dumps(dataclasses.asdict(event)) for event in self.events))
