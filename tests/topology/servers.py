"""Topologies of real servers: a primary with a replica and three sentinels, and a Cluster.

Each is private, as the servers of tests/servers.py are that it consists of, and is ready when it is entered.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Self, cast

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.conftest import SERVER_KIND
from tests.ports import free_port
from tests.servers import Server, find_server, server_version

#: Milliseconds without an answer after which sentinels, or the nodes of a Cluster, take a server for dead.
DOWN_AFTER = 500


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> None:
    """For what no server tells of by itself."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except RedisError as error:
            what = f"{what} ({error})" if len(what) < 200 else what
        assert time.monotonic() < deadline, f"not so in {timeout:g} s: {what}"
        time.sleep(0.02)


class SentinelServer(Server):
    """A sentinel: a server of another mode, with a file that it writes itself."""

    def __init__(self, kind: str, lines: list[str], tls: dict[str, Any] | None = None) -> None:
        super().__init__(kind, **(tls or {}))
        self._lines = lines
        if tls:
            self._lines = [*(f"{name.replace('_', '-')} {value}" for name, value in tls.items()), *lines]
            self._lines.insert(0, "tls-replication yes")

    def add(self, line: str) -> None:
        self._lines = [*self._lines, line]

    def _command(self) -> list[str]:
        conf = self.home / "sentinel.conf"
        if not conf.exists():
            own = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.home}"]
            conf.write_text("\n".join([*own, *self._lines, ""]))
        return [str(self.binary), str(conf), "--sentinel"]


class Watched:
    """A primary, a replica, and three sentinels that watch them.

    Args:
        service: by this name.
        password: of the sentinels.
        tls: options of TLS, anew for each server and sentinel; all of them then speak TLS to each other.
        options: of both servers.
    """

    def __init__(
        self,
        kind: str = SERVER_KIND,
        service: str = "jobs",
        password: str = "",
        tls: Callable[[], dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        self.service = service
        self.password = password
        self._secret = options.get("requirepass")
        self._stack = ExitStack()
        self._tls = tls

        def own() -> dict[str, Any]:
            common = {"appendonly": "yes", "repl_diskless_sync_delay": 0} | options
            return common if tls is None else common | {"tls_replication": "yes"} | tls()

        self.primary = Server(kind, **own())
        place = f"127.0.0.1 {self.port_of(self.primary)}"
        self.replica = Server(kind, **own(), replicaof=list(place.split()))
        lines = [
            f"sentinel monitor {service} {place} 2",
            f"sentinel down-after-milliseconds {service} {DOWN_AFTER}",
            f"sentinel failover-timeout {service} 3000",
        ]
        if self._secret:
            lines.append(f"sentinel auth-pass {service} {self._secret}")
        if password:
            lines += [f"requirepass {password}", f"sentinel sentinel-pass {password}"]
        self.sentinels = [SentinelServer(kind, lines, tls() if tls else {}) for _ in range(3)]
        # They would find each other by themselves, in some seconds.
        names = {sentinel: secrets.token_hex(20) for sentinel in self.sentinels}
        for sentinel, name in names.items():
            if password:
                sentinel.options["requirepass"] = password
            sentinel.add(f"sentinel myid {name}")
            for other, its in names.items():
                if other is not sentinel:
                    sentinel.add(f"sentinel known-sentinel {service} 127.0.0.1 {self.port_of(other)} {its}")

    def port_of(self, server: Server) -> int:
        """The port that clients shall know."""
        return server.port if self._tls is None else int(str(server.options["tls-port"]))

    def __enter__(self) -> Self:
        with self._stack:
            for server in (self.primary, self.replica, *self.sentinels):
                self._stack.enter_context(server)
            replica = self.replica.client()
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "it replicates")
            wait_until(self._ready, "all sentinels know of all")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _ready(self) -> bool:
        states = [self.ask(sentinel, "master", self.service) for sentinel in self.sentinels]
        return all(one[b"num-slaves"] == b"1" and one[b"num-other-sentinels"] == b"2" for one in states)

    def ask(self, sentinel: Server, *command: str) -> dict[bytes, bytes]:
        client = sentinel.client(protocol=2)
        client.response_callbacks.clear()  # redis-py has an idea of its own of what comes
        said = cast("list[bytes]", client.execute_command("SENTINEL", *command))
        return dict(zip(said[::2], said[1::2], strict=True))

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{self.port_of(sentinel)}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        who = f":{self._secret}@" if self._secret else ""
        query = f"?sentinel_password={self.password}" if self.password else ""
        return f"redis{'' if self._tls is None else 's'}+sentinel://{who}{self.hosts}/{self.service}{query}"

    def wait_for_failover(self) -> None:
        """Returns when the replica is the primary."""
        replica = self.replica.client()
        wait_until(lambda: replica.info("replication")["role"] == "master", "the replica is the primary")


class Cluster:
    """Three nodes with all slots, and as many replicas as asked for, each of another node.

    ``options`` are those of a node, anew for each.
    """

    def __init__(
        self, kind: str = SERVER_KIND, replicas: int = 0, options: Callable[[], dict[str, Any]] = dict
    ) -> None:
        self._stack = ExitStack()
        self._replicas = replicas
        # Redis 6 has no say in where its nodes talk to each other: at the port 10,000 beyond.
        old = server_version(find_server(kind)).startswith("Redis 6")
        bus: Callable[[], dict[str, Any]] = (dict) if old else (lambda: {"cluster_port": free_port()})
        self.nodes = [
            Server(
                kind,
                cluster_enabled="yes",
                **bus(),
                cluster_node_timeout=2 * DOWN_AFTER,
                repl_diskless_sync_delay=0,
                **options(),
            )
            for _ in range(3 + replicas)
        ]

        for node in self.nodes:
            while old and node.port >= 55_536:
                node.port = free_port()

    def __enter__(self) -> Self:
        with self._stack:
            for node in self.nodes:
                self._stack.enter_context(node)
            self._join()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        clients = [node.client() for node in self.nodes]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            if i < 3:
                slots = range(16384 * i // 3, 16384 * (i + 1) // 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            if i:
                first = self.nodes[0]
                bus = first.options.get("cluster-port", first.port + 10_000)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        wait_until(
            lambda: all(self._state(c)["cluster_known_nodes"] == len(clients) for c in clients),
            "all have met",
        )
        for i in range(self._replicas):
            wait_until(partial(self._replicate, 3 + i, i), "it becomes a replica")
        wait_until(lambda: all(self._state(c)["cluster_state"] == "ok" for c in clients), "it is whole")
        # The others have to know whose replica it is, or they do not let it take over.
        wait_until(lambda: all(self._replicas_known(c) == self._replicas for c in clients), "they are known")
        for replica in clients[3:]:
            wait_until(partial(self._replicates, replica), "it replicates")

    def _replicates(self, replica: Redis) -> bool:
        return bool(replica.info("replication")["master_link_status"] == "up")

    def _replicate(self, replica: int, primary: int) -> bool:
        self.nodes[replica].client().execute_command("CLUSTER", "REPLICATE", self.id_of(self.nodes[primary]))
        return True

    def _state(self, client: Redis) -> dict[str, Any]:
        said = cast("dict[str, str]", client.cluster("INFO"))
        return {name: int(value) if value.isdigit() else value for name, value in said.items()}

    def _replicas_known(self, client: Redis) -> int:
        nodes = cast("dict[str, Any]", client.cluster("NODES"))
        return sum("slave" in node["flags"] for node in nodes.values())

    def id_of(self, node: Server) -> str:
        said = node.client().execute_command("CLUSTER", "MYID")
        return said.decode() if isinstance(said, bytes) else str(said)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def owner(self, queue: str) -> Server:
        """The node that has the queue of this name at the beginning."""
        return self.nodes[self.slot(queue) * 3 // 16384]

    @staticmethod
    def slot(queue: str) -> int:
        return key_slot(f"saq:{{{queue}}}:".encode())


class Move:
    """The move of the slot of a queue from one node to another, step by step, as redis-cli does it."""

    def __init__(self, cluster: Cluster, queue: str, source: Server, target: Server) -> None:
        self.cluster = cluster
        self.slot = cluster.slot(queue)
        self.source, self.target = source, target
        self._from, self._to = source.client(), target.client()

    def begin(self) -> None:
        self._to.execute_command(
            "CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.cluster.id_of(self.source)
        )
        self._from.execute_command(
            "CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.cluster.id_of(self.target)
        )

    def keys(self, most: int = 1) -> list[bytes]:
        """Some of the keys that are still at the source."""
        return cast("list[bytes]", self._from.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, most))

    def carry(self, *keys: bytes) -> None:
        self._from.execute_command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        owner = self.cluster.id_of(self.target)
        for client in (self._to, self._from):
            client.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", owner)
