"""Faults of the server: killed, restarted, paused, forgetful, out of memory, read-only, cut off.

Owns what state the server is in. Only one fault that lasts is under way at a time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import sleep, time
from typing import Any

import redis

from tests.chaos.functions import LEASE
from tests.chaos.nemesis import Fault
from tests.chaos.timeline import POWER_LOSS, Event, Timeline
from tests.servers import Server

#: With `appendfsync everysec`, a machine that loses its power loses what was written in so many seconds.
UNSYNCED = 1.0


class ServerFaults:
    """What can happen to a server.

    Args:
        power: whether it may lose what it has not synced yet, as with `appendfsync everysec` a machine does
            that loses its power. A server that is only killed loses nothing that it has written.
    """

    def __init__(self, server: Server, timeline: Timeline, seed: int, power: bool) -> None:
        self._server = server
        self._timeline = timeline
        self._random = random.Random(f"{seed} server")
        self._power = power
        self._lasting = False
        self._frozen = False
        self._sizes: deque[tuple[float, Path, int]] = deque()

    def faults(self) -> list[Fault]:
        """All of them."""
        deadly = Fault("kill the server", 3, self._kill)
        if self._power:
            deadly = Fault(POWER_LOSS, 3, self._lose_power)
        return [
            deadly,
            Fault("restart the server", 1, self._restart),
            Fault("freeze the server", 1, self._freeze),
            Fault("pause clients", 1, self._pause),
            Fault("flush scripts", 2, self._flush),
            Fault("kill all connections", 2, self._kill_connections),
            Fault("kill subscriptions", 1, self._kill_subscriptions),
            Fault("out of memory", 2, self._squeeze),
            Fault("read-only, as after a failover", 1, self._demote),
            Fault("too few replicas", 1, self._want_replicas),
            Fault("rewrite the log", 1, self._rewrite),
        ]

    @property
    def answers(self) -> bool:
        """Whether it may be asked something: one that is frozen would keep us waiting."""
        return self._server.running and not self._frozen

    def ask(self, *command: Any) -> Any:
        """Asks the server itself, past all that is broken on the way to it."""
        with redis.Redis(port=self._server.port, socket_timeout=10) as client:
            return client.execute_command(*command)

    def look(self) -> None:
        """Remembers how much of the log is surely on the disk."""
        if not self._power:
            return
        now = time()
        log = _log_of(self._server.home)
        if log is not None:
            self._sizes.append((now, log, log.stat().st_size))
        while self._sizes and self._sizes[0][0] < now - UNSYNCED:
            self._sizes.popleft()

    # At once ------------------------------------------------------------------------------------------------

    def _flush(self) -> bool:
        return self._at_once("flush scripts", "SCRIPT", "FLUSH")

    def _kill_connections(self) -> bool:
        return self._at_once("kill all connections", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _kill_subscriptions(self) -> bool:
        return self._at_once("kill subscriptions", "CLIENT", "KILL", "TYPE", "pubsub")

    def _rewrite(self) -> bool:
        return self._at_once("rewrite the log", "BGREWRITEAOF")

    def _at_once(self, fault: str, *command: str) -> bool:
        if not self.answers:
            return False
        try:
            answer = self.ask(*command)
        except redis.RedisError:
            return False  # it rewrites its log already
        if answer == 0:
            return False  # nobody was connected
        self._timeline.note(fault)
        return True

    # Down and up again --------------------------------------------------------------------------------------

    def _kill(self) -> bool:
        if self._lasting:
            return False
        event = self._timeline.note("kill the server")
        self._server.kill()
        self._come_back(event)
        return True

    def _lose_power(self) -> bool:
        if self._lasting or not self._sizes:
            return False
        event = self._timeline.note(POWER_LOSS)
        self._server.kill()
        log = _log_of(self._server.home)
        kept = [entry for entry in self._sizes if entry[1] == log]
        if log is not None and kept:
            event.at, _, size = self._random.choice(kept)
            event.figures["bytes"] = log.stat().st_size - size
            with log.open("rb+") as file:
                file.truncate(size)
        self._sizes.clear()
        self._come_back(event)
        return True

    def _restart(self) -> bool:
        if self._lasting:
            return False
        event = self._timeline.note("restart the server")
        self._server.stop()
        self._come_back(event)
        return True

    def _come_back(self, event: Event) -> None:
        sleep(self._random.uniform(0.0, 0.5))
        self._server.start()
        self._timeline.over(event)

    # For a while --------------------------------------------------------------------------------------------

    def _lasts(self, event: Event, seconds: float, mend: Callable[[], None]) -> bool:
        self._lasting = True
        event.until = float("inf")

        def over() -> None:
            mend()
            self._lasting = False
            self._timeline.over(event)

        self._timeline.after(seconds, over)
        return True

    def _freeze(self) -> bool:
        if self._lasting:
            return False
        self._server.pause()
        self._frozen = True

        def thaw() -> None:
            self._server.resume()
            self._frozen = False

        return self._lasts(self._timeline.note("freeze the server"), self._random.uniform(0.2, 3.0), thaw)

    def _pause(self) -> bool:
        """It reads, and answers nobody for a while."""
        if self._lasting:
            return False
        seconds = self._random.uniform(0.2, 2.0)
        self.ask("CLIENT", "PAUSE", int(seconds * 1000))
        self._frozen = True

        def over() -> None:
            self._frozen = False

        return self._lasts(self._timeline.note("pause clients"), seconds + 0.1, over)

    def _squeeze(self) -> bool:
        """Longer than a lease, at times: leases have to be renewed, and what is done is settled."""
        if self._lasting:
            return False
        before = self._ended()
        self.ask("CONFIG", "SET", "maxmemory", 1)
        event = self._timeline.note("out of memory")

        def loosen() -> None:
            event.figures["settled"] = self._ended() - before
            self.ask("CONFIG", "SET", "maxmemory", 0)

        return self._lasts(event, self._random.uniform(0.3, 2.5) * LEASE, loosen)

    def _ended(self) -> int:
        counts = self.ask("HMGET", "saq:{default}:stats", "complete", "failed", "aborted")
        return sum(int(count or 0) for count in counts)

    def _demote(self) -> bool:
        """A replica of nothing: it answers reads, and refuses all writes."""
        if self._lasting:
            return False
        self.ask("REPLICAOF", "127.0.0.1", "1")
        event = self._timeline.note("read-only, as after a failover")
        return self._lasts(
            event, self._random.uniform(0.3, 2.0) * LEASE, lambda: self.ask("REPLICAOF", "NO", "ONE")
        )

    def _want_replicas(self) -> bool:
        if self._lasting:
            return False
        self.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        event = self._timeline.note("too few replicas")
        return self._lasts(
            event,
            self._random.uniform(0.3, 2.0) * LEASE,
            lambda: self.ask("CONFIG", "SET", "min-replicas-to-write", 0),
        )


def _log_of(home: Path) -> Path | None:
    """The file that the server appends to."""
    logs = [*home.glob("appendonlydir/*.incr.aof"), *home.glob("appendonly.aof")]
    return max(logs, key=lambda path: path.stat().st_mtime_ns, default=None)
