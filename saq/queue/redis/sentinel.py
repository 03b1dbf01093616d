"""The way to a primary that sentinels watch.

Owns where the primary is: it is asked for anew for every connection. Must not know what goes on there.

Each connection that is lost leads to the question again. A failover need not break any, for the old primary
may live: so there is a subscription beside, on which a sentinel tells of it (`Watch`). All sentinels are
asked at once, and of those that answer, the one decides that knows of the latest failover: one that was cut
off would still name the primary of before. What they name has to say of itself that it is a primary.

The sentinels are asked on connections of our own, made from the settings of the user's `Sentinel`: its own
clients belong to one event loop, and the leases are renewed in another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import redis.exceptions
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection

from saq.errors import ServerError, UsageError
from saq.queue.redis.answers import TRANSIENT, UnreachableError, reason
from saq.queue.redis.link import Address, Link, ask, ask_all, written
from saq.queue.redis.wire import Wire

logger = logging.getLogger("saq")

#: Seconds that the other sentinels have to answer when one of them has.
LINGER = 0.2
#: An idle subscription is asked for a sign of life so often, in seconds.
PING_EVERY = 5.0


class _Said(NamedTuple):
    """What one sentinel says of the service: nothing, if it does not know it."""

    epoch: int
    place: Address | None
    others: list[str]


class SentinelLink(Link):
    """The way to the primary of a service."""

    # A server that answers like this may have been replaced by another one meanwhile.
    turned_away = TRANSIENT - {"BUSY", "TRYAGAIN", "UNBLOCKED"}
    advice = "The sentinels replace a primary that is down, if there is a replica and enough of them agree"

    def __init__(self, pool: SentinelConnectionPool) -> None:
        if not pool.is_master:
            raise UsageError("a queue needs the primary: give it `Sentinel(...).master_for(...)`")
        kinds: tuple[Any, ...] = pool.connection_class.__mro__
        plain = next(kind for kind in kinds if not issubclass(kind, SentinelManagedConnection))
        super().__init__(plain, {k: v for k, v in pool.connection_kwargs.items() if k != "connection_pool"})
        self.service: str = pool.service_name
        self._sentinels: dict[str, Link] = {}
        for client in pool.sentinel_manager.sentinels:
            theirs = client.connection_pool
            place = theirs.connection_kwargs["host"], int(theirs.connection_kwargs["port"])
            self._sentinels[written(place)] = Link(theirs.connection_class, theirs.connection_kwargs)

    @property
    def address(self) -> str:
        if self.place is not None:
            return f"{self._url(self.place)} (primary of {self.service!r})"
        return f"{self._scheme}+sentinel://{','.join(self._sentinels)}/{self.service}"

    async def open(self, name: str, within: float) -> AbstractConnection:
        self.place = None
        place = await self._find()
        self.place = place
        connection = await self._connect_within(within, name, place)
        try:
            role = await _role(connection)
            if role != "master":
                raise UnreachableError(
                    f"{written(place)}, which the sentinels name as the primary of {self.service!r}, "
                    f"is a {role} at present"
                )
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self.place = place
        return connection

    def watch(self, moved: Callable[[Address], None]) -> Watch:
        return Watch(self._sentinels, self.service, moved)

    async def _find(self) -> Address:
        """Where the primary is, by the sentinel that knows of the latest failover."""
        questions = {name: self._ask(link) for name, link in self._sentinels.items()}
        said, failures = await ask_all(questions, LINGER)
        known = [one for one in said if one.place is not None]
        if known:
            place = max(known, key=lambda one: one.epoch).place
            assert place is not None
            return place
        why = "; ".join(f"{name}: {reason(error)}" for name, error in failures.items())
        if said:
            others = sorted({name for one in said for name in one.others})
            watched = f"they watch {', '.join(map(repr, others))}" if others else "they watch none"
            raise UnreachableError(
                f"the sentinels know no service {self.service!r}: {watched}. Its name stands behind theirs: "
                "redis+sentinel://host:port,host:port/service" + (f" ({why})" if why else "")
            )
        raise UnreachableError(
            f"no sentinel of {self.service!r} could be asked: {why}. Are they running there? A password of "
            "theirs stands at the end: ?sentinel_password=…"
        )

    async def _ask(self, sentinel: Link) -> _Said:
        async with sentinel.visit() as connection:
            try:
                found = await ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
            except redis.exceptions.ResponseError as error:
                if "unknown command" in str(error).lower():
                    raise UnreachableError("it is a Redis server, not a sentinel") from None
                raise
            if found is None:
                return _Said(-1, None, await _services(connection))
            place = (found[0].decode(), int(found[1]))
            return _Said(await self._epoch(connection), place, [])

    async def _epoch(self, connection: AbstractConnection) -> int:
        try:
            fields = await ask(connection, "SENTINEL", "MASTER", self.service)
        except redis.exceptions.ResponseError:
            return 0  # it was forgotten just now, or we may not ask that
        return int(dict(zip(fields[::2], fields[1::2], strict=False)).get(b"config-epoch", 0))


class _AnySentinel(Link):
    """The way to one of the sentinels, whichever lets us in."""

    def __init__(self, sentinels: Mapping[str, Link]) -> None:
        super().__init__(Connection, {})
        self._sentinels = sorted(sentinels.items())

    @property
    def address(self) -> str:
        return ", ".join(name for name, _ in self._sentinels)

    async def open(self, name: str, within: float) -> AbstractConnection:
        failures = {}
        for where, link in random.sample(self._sentinels, len(self._sentinels)):
            try:
                return await link.open(name, within)
            except (OSError, RuntimeError, redis.exceptions.RedisError) as error:
                failures[where] = reason(error)
        raise UnreachableError("; ".join(f"{where}: {why}" for where, why in failures.items()))


class Watch:
    """Hears from a sentinel when the primary is another one.

    The old one may go on for seconds, and then forgets all that it has acknowledged meanwhile.
    """

    def __init__(self, sentinels: Mapping[str, Link], service: str, moved: Callable[[Address], None]) -> None:
        self._service = service
        self._moved = moved
        self._heard = False
        self._wire = Wire(_AnySentinel(sentinels), "saq-sentinel", push=self._push)
        self._keeper = asyncio.create_task(self._keep(), name="saq-sentinel")

    def _push(self, answer: Any) -> None:
        self._heard = True
        if isinstance(answer, list) and answer[0] == b"message":
            service, _, _, host, port = answer[2].decode().split()
            if service == self._service:
                self._moved((host, int(port)))

    async def _keep(self) -> None:
        said = False
        while True:
            try:
                await self._wire.connect()
                self._wire.write("SUBSCRIBE", "+switch-master")
                said = False
                await self._until_lost()
            except ServerError as error:
                if not said:
                    logger.warning("No sentinel tells of a failover, trying again: %s", error)
                    said = True
            await asyncio.sleep(random.uniform(0.2, 1.0))

    async def _until_lost(self) -> None:
        while self._wire.connected:
            self._heard = False
            self._wire.write("PING")
            try:
                async with asyncio.timeout(PING_EVERY):
                    await self._wire.lost.wait()
            except TimeoutError:
                if not self._heard:
                    self._wire.abort()

    async def close(self) -> None:
        """Ends it."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        await self._wire.close()


async def _services(connection: AbstractConnection) -> list[str]:
    """Which services a sentinel watches, as far as it says."""
    try:
        rows: list[list[bytes]] = await ask(connection, "SENTINEL", "MASTERS")
    except redis.exceptions.ResponseError:
        return []
    return [row[row.index(b"name") + 1].decode() for row in rows if b"name" in row]


async def _role(connection: AbstractConnection) -> str:
    # HELLO says it, and everybody may ask that; ROLE would be a dangerous right.
    said: list[Any] = await ask(connection, "HELLO")
    role: bytes = said[said.index(b"role") + 1]
    return role.decode()
