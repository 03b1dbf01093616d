"""The way to the node of a Cluster that has the slot of a queue.

Owns which node that is. Must not know what goes on there.

All keys of a queue have one hash tag, so one slot: a queue needs one node only, and each of its connections
leads there. The first connection asks any node where the slot is; an answer MOVED says it afterwards; a node
that cannot be reached any more leads to the question again, to another node.

An answer ASK is not followed. It comes while a slot is on its way to another node, and would send one command
after a key that has gone ahead. The scripts use many keys of the slot, and name one that is never there, so
both nodes refuse them as long as that goes on: the old one with ASK, the new one with MOVED. That is just
right. With some keys here and some there, a script would find half a queue, and on the new node it would
begin another one, in the place of keys that are yet to arrive. So it is sent again to the old node until the
slot has moved, and is answered with MOVED then. A worker waits as long as that takes.
"""

from __future__ import annotations

import random
from typing import Any

import redis.asyncio as aioredis
import redis.exceptions
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from saq.queue.redis.answers import TRANSIENT, RefusedError, UnreachableError, reason
from saq.queue.redis.link import Address, Link, ask, ask_all, written

#: So many nodes are asked at once where a slot is.
ASKED_AT_ONCE = 3
#: So many nodes are remembered that can be asked.
REMEMBERED = 16


class ClusterLink(Link):
    """The way to the node that has the slot of ``key``."""

    transient = TRANSIENT | {"MOVED", "ASK"}
    turned_away = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "NOREPLICAS", "READONLY"})
    has_slots = True
    advice = "The Cluster replaces a node that is down, if it has a replica"

    def __init__(self, client: aioredis.RedisCluster, key: str) -> None:
        nodes = list(client.nodes_manager.startup_nodes.values())
        settings = dict(nodes[0].connection_kwargs)
        # It would turn the connections to ones that read from replicas.
        settings.pop("redis_connect_func", None)
        super().__init__(nodes[0].connection_class, settings)
        self._remap = getattr(client.nodes_manager, "address_remap", None)
        self._given: list[Address] = [(node.host, int(node.port)) for node in nodes]
        #: Nodes that were named by others, newest last.
        self._heard: list[Address] = []
        self._slot = key_slot(key.encode())
        #: Where the slot is, as far as is known; what a connection leads to is `place`.
        self._owner: Address | None = None

    @property
    def address(self) -> str:
        if self.place is not None:
            return f"{self._url(self.place)} (slot {self._slot} of the Cluster)"
        return f"{self._scheme}+cluster://{','.join(map(written, self._given))}"

    async def open(self, name: str, within: float) -> AbstractConnection:
        owner = self._owner
        if owner is None:
            owner = self._owner = await self._find()
        self.place = owner
        try:
            return await self._connect_within(within, name, owner)
        except Exception:
            if self._owner == owner:
                self._owner = None  # whoever took its place, another node knows
            raise

    def on_refusal(self, error: RefusedError) -> bool:
        if error.code == "MOVED":
            self._owner = self._read(*error.answer.split()[2].rpartition(":")[::2], self.place)
        elif error.code in self.turned_away:
            self._owner = None
        return super().on_refusal(error)

    async def _find(self) -> Address:
        """Where the slot is."""
        nodes = list(dict.fromkeys([*self._given, *self._heard]))
        # In another order each time: one that is cut off from the others knows of no change.
        random.shuffle(nodes)
        uncovered: list[Address] = []
        failures: dict[str, Exception] = {}
        for i in range(0, len(nodes), ASKED_AT_ONCE):
            part = nodes[i : i + ASKED_AT_ONCE]
            found, failed = await ask_all({written(node): self._ask(node) for node in part})
            failures |= failed
            for owner in found:
                if owner is not None:
                    return owner
            uncovered += [node for node in part if written(node) not in failed]
        why = "; ".join(f"{name}: {reason(error)}" for name, error in failures.items())
        if uncovered:
            raise UnreachableError(
                f"no node of the Cluster serves slot {self._slot}, in which this queue lies: so say "
                f"{', '.join(map(written, uncovered))}{f' ({why})' if why else ''}. See `CLUSTER NODES`, and "
                "give the slot to a node: `redis-cli --cluster fix`"
            )
        raise UnreachableError(f"no node of the Cluster could be asked: {why}. Are they running there?")

    async def _ask(self, node: Address) -> Address | None:
        async with self.visit(node) as connection:
            try:
                ranges: list[list[Any]] = await ask(connection, "CLUSTER", "SLOTS")
            except redis.exceptions.ResponseError as error:
                if "cluster support disabled" in str(error):
                    raise UnreachableError("it is a server of its own: use redis:// for the URL") from None
                raise
        owner = None
        for first, last, *servers in ranges:
            places = [self._read(server[0], server[1], node) for server in servers]
            for place in places:
                self._remember(place)
            if first <= self._slot <= last:
                owner = places[0]
        return owner

    def _read(self, host: bytes | str | None, port: int | str, asked: Address | None) -> Address:
        """An address as a node says it; without a host, it is that of the node itself."""
        name = host.decode() if isinstance(host, bytes) else host
        place = (asked[0] if (not name or name == "?") and asked else str(name), int(port))
        return self._remap(place) if self._remap is not None else place

    def _remember(self, place: Address) -> None:
        if place not in self._heard:
            self._heard = [*self._heard[1 - REMEMBERED :], place]
