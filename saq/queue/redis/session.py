"""What a queue has open in one event loop.

Owns the connections of a queue and what is under way on them: a new loop gets a new session. Must not decide
anything about jobs.

Four connections at the most, whatever the concurrency: commands (`wire`), the marker that idle workers block
on (`marker`), the subscription (`inbox`) and, in a thread of its own, the leases.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from saq.queue.redis.inbox import Handler, Inbox
from saq.queue.redis.leases import Found, LeaseKeeper
from saq.queue.redis.outbox import Outbox
from saq.queue.redis.scripts import Lane, evaluate
from saq.queue.redis.wire import PATIENCE, Link, RefusedError, UnreachableError, Wire

if TYPE_CHECKING:
    from saq.job import Job

#: A blocked connection is given so many seconds beyond its time-out before it counts as dead.
BLOCK_MARGIN = 5.0


class Session:
    """The connections of a queue, made as they are needed."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        handle: Handler,
        resubscribed: Callable[[], Awaitable[None]],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self.prefix = prefix
        self.link = link
        #: Where this process is told the ends of jobs that it waits for.
        self.channel = f"{prefix}to:{secrets.token_hex(6)}"
        self.wire = Wire(link, "saq")
        self.outbox = Outbox(Lane(self.wire, prefix), self.channel)
        #: Everything else that changes something, for users.
        self.calls = Lane(self.wire, prefix)
        #: Claims and settlements: as many at once as a worker has under way.
        self.steps = (Lane(self.wire, prefix), Lane(self.wire, prefix))
        self.inbox = Inbox(link, handle, resubscribed)
        self.leases: LeaseKeeper | None = None
        self._marker = Wire(link, "saq-marker", silence=BLOCK_MARGIN)
        self._blocked: asyncio.Future[Any] | None = None
        self._marker_id: int | None = None

    @property
    def idle_lane(self) -> Lane:
        """A lane for a step: one that has nothing under way, if there is one."""
        first, second = self.steps
        return second if first.busy and not second.busy else first

    async def run(self, name: str, *arguments: Any, patience: float | None = PATIENCE) -> Any:
        """Runs a transition that may be repeated without a number."""
        return await evaluate(self.wire, name, self.prefix, *arguments, patience=patience)

    async def block(self, seconds: float) -> bool:
        """Waits for the marker, ``seconds`` at the most. Whether it came."""
        marker = self._marker
        if not marker.connected:
            await marker.connect()
            self._marker_id = await marker.send("CLIENT", "ID")
        # Redis takes fractions since 6.0; 0 would be for ever.
        marker.silence = seconds + BLOCK_MARGIN
        self._blocked = blocked = marker.send("BZPOPMIN", f"{self.prefix}wake", max(0.01, seconds))
        try:
            return await asyncio.shield(blocked) is not None
        except UnreachableError:
            return True  # what was there to hear may be lost with the connection: look
        except RefusedError as error:
            if error.code == "UNBLOCKED":
                return False
            raise
        except asyncio.CancelledError:
            self.unblock(blocked)
            raise
        finally:
            if self._blocked is blocked:
                self._blocked = None

    def unblock(self, blocked: asyncio.Future[Any] | None = None) -> None:
        """Ends a ``block`` early. If the marker comes all the same, it is handed on."""
        blocked = blocked or self._blocked
        if blocked is None or blocked.done() or not self.wire.connected:
            return
        blocked.add_done_callback(self._hand_on)
        try:
            self.wire.send("CLIENT", "UNBLOCK", str(self._marker_id)).add_done_callback(_ignore)
        except UnreachableError:
            return

    def _hand_on(self, blocked: asyncio.Future[Any]) -> None:
        if blocked.cancelled() or blocked.exception() is not None or blocked.result() is None:
            return
        if self.wire.connected:
            self.wire.send("ZADD", f"{self.prefix}wake", "0", "work").add_done_callback(_ignore)

    def keep_leases(self, held: Mapping[str, Job], lease: float, found: Found) -> None:
        """Starts to renew the leases of ``held``, if that is not done yet."""
        if self.leases is None:
            self.leases = LeaseKeeper(self.link, self.prefix, held, lease, found)

    async def close(self) -> None:
        """Closes everything."""
        await self.outbox.close()
        await self.inbox.close()
        if self.leases is not None:
            await self.leases.close()
        await self._marker.close()
        await self.wire.close()


def _ignore(future: asyncio.Future[Any]) -> None:
    """A courtesy was refused: whoever it was meant for finds out by itself, a little later."""
    if not future.cancelled():
        future.exception()
