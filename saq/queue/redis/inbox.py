"""What Redis tells this process: ends of jobs, aborts, pauses, due times.

Owns the one subscription of a process, and who waits for what. Must not decide what a message means for a
running job: it hands control messages on.

Every channel is exact. A message is a row of netstrings, three each: kind, key, data. Whoever waits has
registered in Redis, in the same step as it looked; after a lost connection everything is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from saq._speedups import split_netstrings
from saq.errors import ServerError
from saq.queue.redis.wire import PATIENCE, Link, RefusedError, UnreachableError, Wire

logger = logging.getLogger("saq")

#: An idle subscription is asked for a sign of life so often, in seconds: a peer that vanished says nothing.
PING_EVERY = 15.0

Handler = Callable[[bytes, bytes, bytes], None]


class Inbox:
    """One subscription, kept alive.

    Args:
        link: how to reach the server.
        handle: takes (kind, key, data) of each message.
        resubscribed: called after each new subscription but the first: asks again what may have been missed.
        connected: told of each new connection.
    """

    def __init__(
        self,
        link: Link,
        handle: Handler,
        resubscribed: Callable[[], Awaitable[None]],
        connected: Callable[[Wire], None] | None = None,
    ) -> None:
        self._handle = handle
        self._resubscribed = resubscribed
        self.wire = Wire(link, "saq-inbox", push=self._push, connected=connected)
        self._channels: dict[str, asyncio.Event] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._closed = False
        #: Why the server does not let us subscribe, if it does not.
        self._refused: RefusedError | None = None

    async def subscribe(self, *channels: str) -> None:
        """Returns when the server has confirmed. Raises ``UnreachableError`` if it cannot, or does not for
        long."""
        fresh = [channel for channel in channels if channel not in self._channels]
        for channel in fresh:
            self._channels[channel] = asyncio.Event()
        if self._keeper is None:
            await self.wire.reach()  # the first time, the caller hears of a failure
            if self._keeper is None:  # somebody else may have come first meanwhile
                self._keeper = asyncio.create_task(self._keep(), name="saq-inbox")
        elif fresh:
            self.wire.write("SUBSCRIBE", *fresh)
        confirmed = [self._channels[channel] for channel in channels]
        if not all(event.is_set() for event in confirmed):
            try:
                async with asyncio.timeout(PATIENCE):
                    for event in confirmed:
                        await event.wait()
            except TimeoutError:
                address = self.wire.link.address
                silent = UnreachableError(f"cannot subscribe at {address}: no answer for {PATIENCE:g} s")
                raise self._refused or silent from None
        if self._closed:
            raise UnreachableError("the subscription was closed by disconnect()")

    def unsubscribe(self, *channels: str) -> None:
        """Listens to these no more."""
        gone = [channel for channel in channels if self._channels.pop(channel, None)]
        if gone:
            self.wire.write("UNSUBSCRIBE", *gone)

    def _push(self, answer: Any) -> None:
        self._heard.set()
        if isinstance(answer, RefusedError):
            self._refused = answer
        if not isinstance(answer, list):
            return
        if answer[0] == b"message":
            try:
                parts = split_netstrings(answer[2])
            except ValueError:
                logger.warning("A message on %r is none of ours: %r", answer[1], answer[2][:80])
                return
            for i in range(0, len(parts) - 2, 3):
                self._handle(parts[i], parts[i + 1], parts[i + 2])
        elif answer[0] == b"subscribe":
            confirmed = self._channels.get(answer[1].decode())
            if confirmed is not None:
                confirmed.set()
                self._refused = None

    async def _keep(self) -> None:
        first, tries = True, 0
        while True:
            try:
                await self.wire.connect()
                if self._channels:
                    self.wire.write("SUBSCRIBE", *self._channels)
                if not first and await self._confirmed():
                    await self._resubscribed()
                first, tries = False, 0
                await self._until_lost()
                logger.warning("Lost the subscription to %s; subscribing again", self.wire.link.address)
            except ServerError as error:
                if tries == 0:
                    logger.warning("Cannot subscribe, trying again: %s", error)
                tries += 1
            for confirmed in self._channels.values():
                confirmed.clear()
            await asyncio.sleep(min(2.0, 0.05 * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0))

    async def _confirmed(self) -> bool:
        """Whether all channels are heard by now: the end of a job could still be missed before."""
        deadline = time.monotonic() + PING_EVERY
        while self.wire.connected:
            if all(confirmed.is_set() for confirmed in self._channels.values()):
                return True
            if time.monotonic() > deadline:
                self.wire.abort()
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._heard.wait()
        return False

    async def _until_lost(self) -> None:
        while self.wire.connected:
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY):
                    await self.wire.lost.wait()
                return
            if self._heard.is_set():
                continue
            self.wire.write("PING")
            try:
                async with asyncio.timeout(PING_EVERY):
                    await self._heard.wait()
            except TimeoutError:
                self.wire.abort()

    async def close(self) -> None:
        """Ends the subscription. Who waits for it to begin hears of that."""
        self._closed = True
        for confirmed in self._channels.values():
            confirmed.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self.wire.close()
