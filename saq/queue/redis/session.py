"""What a queue has open in one event loop.

Owns the connections of a queue and what is under way on them: a new loop gets a new session. Must not decide
anything about jobs.

Four connections at the most, whatever the concurrency: commands (`wire`), the marker that idle workers block
on (`marker`), the subscription (`inbox`) and, in a thread of its own, the leases. All lead to one server:
when it becomes another one, and one of them has found that, the others follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from saq.queue.redis.inbox import Handler, Inbox
from saq.queue.redis.leases import Found, LeaseKeeper
from saq.queue.redis.outbox import Outbox
from saq.queue.redis.scripts import Lane, evaluate
from saq.queue.redis.wire import PATIENCE, Link, RefusedError, UnreachableError, Wire, ignore

if TYPE_CHECKING:
    from saq.job import Job
    from saq.queue.redis.sentinel import Watch

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
        self.wire = Wire(link, "saq", connected=self._found)
        self.outbox = Outbox(Lane(self.wire, prefix), self.channel)
        #: Everything else that changes something, for users.
        self.calls = Lane(self.wire, prefix)
        #: Claims and settlements: as many at once as a worker has under way.
        self.steps = (Lane(self.wire, prefix), Lane(self.wire, prefix))
        self.inbox = Inbox(link, handle, resubscribed, self._found)
        self.leases: LeaseKeeper | None = None
        #: Claims that wait for the marker.
        self._woken = Lane(self.wire, prefix)
        self._hurry = False
        self._watch: Watch | None = None
        self._marker = Wire(link, "saq-marker", silence=BLOCK_MARGIN, connected=self._found)

    def _found(self, fresh: Wire) -> None:
        """A new connection: if it leads elsewhere, that is where the server is by now."""
        if self._watch is None:
            self._watch = self.link.watch(self._moved)
        self._moved(fresh.place)

    def _moved(self, place: tuple[Any, Any] | None) -> None:
        """Leaves what leads elsewhere: there, somebody may still answer who is not the server any more."""
        for wire in (self.wire, self._marker, self.inbox.wire):
            wire.leave(place)
        if self.leases is not None:
            self.leases.leave(place)

    @property
    def idle_lane(self) -> Lane:
        """A lane for a step: one that has nothing under way, if there is one."""
        first, second = self.steps
        return second if first.busy and not second.busy else first

    async def run(self, name: str, *arguments: Any, patience: float | None = PATIENCE) -> Any:
        """Runs a transition that may be repeated without a number."""
        return await evaluate(self.wire, name, self.prefix, *arguments, patience=patience)

    async def scan(self, *options: Any) -> AsyncIterator[list[bytes]]:
        """The pages of a SCAN. It may show a key twice, as ever."""
        wire, slots = self.wire, self.link.has_slots
        if slots:
            await wire.call("EXISTS", self.prefix)
        cursor, place = b"0", wire.place
        while True:
            cursor, page = await wire.call("SCAN", cursor, *options)
            if slots:
                # It names no key, so nobody says when the slot is on its way, or gone. This one waits until
                # all of it is in one place.
                await wire.call("EXISTS", self.prefix)
            yield page
            if slots and wire.place != place:
                cursor, place = b"0", wire.place  # from the beginning, where the slot is now
            elif cursor == b"0":
                return

    async def block(self, seconds: float) -> None:
        """Waits for the marker, ``seconds`` at the most."""
        marker = self._marker
        await marker.connect()
        marker_id = await marker.send("CLIENT", "ID")
        blocked = marker.send(*self._block(seconds))
        try:
            await asyncio.shield(blocked)
        except UnreachableError:
            return  # what was there to hear may be lost with the connection: look
        except RefusedError as error:
            if error.code != "UNBLOCKED":
                raise
        except asyncio.CancelledError:
            self._unblock(blocked, marker_id)
            raise

    async def call_when_woken(
        self, seconds: float, name: str, *arguments: Any
    ) -> tuple[Any, RefusedError | None]:
        """Runs a transition, with a number, as soon as the marker comes, or after ``seconds``.

        Returns the answer, and why the server refuses to wait, if it does.
        """
        self._hurry = False
        with contextlib.suppress(UnreachableError):  # then it is called without waiting
            await self._marker.connect()
        block = self._block(0 if self._hurry else seconds)
        return await self._woken.call_behind(self._marker, block, name, *arguments)

    def stop_waiting(self) -> None:
        """Has a ``call_when_woken`` run at once: what it may have done by now, it answers by its number."""
        self._hurry = True
        self._marker.abort()

    def _block(self, seconds: float) -> tuple[Any, ...]:
        self._marker.silence = seconds + BLOCK_MARGIN
        # Redis takes fractions since 6.0; 0 would be for ever.
        return "BZPOPMIN", f"{self.prefix}wake", max(0.01, seconds)

    def _unblock(self, blocked: asyncio.Future[Any], marker_id: int) -> None:
        """Ends a ``block`` early. If the marker comes all the same, or has just come, it is handed on."""
        blocked.add_done_callback(self._hand_on)
        if blocked.done() or not self.wire.connected:
            return
        try:
            self.wire.send("CLIENT", "UNBLOCK", str(marker_id)).add_done_callback(self._unblocked)
        except UnreachableError:
            return

    def _unblocked(self, answer: asyncio.Future[Any]) -> None:
        # That is a dangerous command, says Redis: not every user may call it.
        if not answer.cancelled() and isinstance(answer.exception(), RefusedError):
            self._marker.abort()

    def _hand_on(self, blocked: asyncio.Future[Any]) -> None:
        if blocked.cancelled() or blocked.exception() is not None or blocked.result() is None:
            return
        if self.wire.connected:
            self.wire.send("ZADD", f"{self.prefix}wake", "0", "work").add_done_callback(ignore)

    def keep_leases(self, held: Mapping[str, Job], lease: float, found: Found) -> None:
        """Starts to renew the leases of ``held``, if that is not done yet."""
        if self.leases is None:
            self.leases = LeaseKeeper(self.link, self.prefix, held, lease, found)

    async def close(self) -> None:
        """Closes everything."""
        if self._watch is not None:
            await self._watch.close()
        await self.outbox.close()
        await self.inbox.close()
        if self.leases is not None:
            await self.leases.close()
        await self._marker.close()
        await self.wire.close()
