"""One pipelined connection to Redis.

Owns a socket, what was asked on it, and the policy of asking again. Must not know what the commands mean:
each one sent through here is safe to repeat, by number or by nature, and that is why it may be sent again.

redis-py makes the connection, from the settings of the user's own client (TLS, credentials, Sentinel, Unix
sockets), and shakes hands. Then the transport is handed to `_Pipe`, which parses with hiredis and resolves
futures straight from `data_received`: no task, no stream, no lock stands between the socket and the caller,
and cancelling a caller never touches the socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import redis.asyncio as aioredis
import redis.exceptions
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from saq.errors import ServerError

logger = logging.getLogger("saq")

#: Seconds that a caller's command is tried again while a server that was there is away. A worker's own
#: claims and settlements are tried for ever.
PATIENCE = 5.0
#: Seconds without any answer after which a connection counts as dead.
SILENCE = 10.0
CONNECT_TIMEOUT = 5.0

_MORE = object()

#: How Redis before 7 tells the error of a command that a script has called.
_WITHIN_SCRIPT = re.compile(r"ERR Error running script.*?: -?([A-Z]+) ", re.DOTALL)

#: How it tells that of a command that the user of the connection may not call, before Redis 7 and since.
_NO_RIGHT = re.compile(r"The user executing the script can't|ACL failure in script")

#: Answers that say "not now": the command did nothing and may be sent again.
_TRANSIENT = {
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
}
#: Answers that are no error of anybody's: the script is sent along now, the wait was ended on purpose.
_NO_ERROR = {"NOSCRIPT", "UNBLOCKED"}
_HINTS = {
    "OOM": "Redis is out of memory: raise `maxmemory`, or let it drain. Nothing was stored.",
    "READONLY": "this is a replica: connect to the primary.",
    "MISCONF": "Redis cannot write to its disk and refuses all writes: see its log.",
    "NOPERM": "the user of this connection lacks that right. SAQ can do all it does with "
    "`ACL SETUSER name ~saq:* resetchannels &saq:* +@all -@dangerous`, and `+client` before Redis 7.",
    "NOREPLICAS": "too few replicas follow the primary (`min-replicas-to-write`): it refuses all writes.",
    "WRONGTYPE": "somebody has put something else in the place of a key of SAQ's: `saq repair` says which.",
    "NOAUTH": "the server wants a password: put it into the URL.",
    "WRONGPASS": "user name or password is wrong.",
    "CROSSSLOT": "the keys of a queue lie in one slot; something split them.",
}


class UnreachableError(ServerError, redis.exceptions.ConnectionError):
    """The server could not be reached, or the connection broke and did not come back in time."""


class RefusedError(ServerError, redis.exceptions.ResponseError):
    """The server answered with an error. ``code`` is its first word, or that of the command in a script."""

    def __init__(self, answer: str) -> None:
        within = _WITHIN_SCRIPT.match(answer)
        self.code = within[1] if within else answer.partition(" ")[0]
        if _NO_RIGHT.search(answer):
            self.code = "NOPERM"
        hint = _HINTS.get(self.code)
        super().__init__(f"{answer} ({hint})" if hint else answer)


class Link:
    """How to reach the server: what a redis-py client was made with."""

    def __init__(self, client: aioredis.Redis) -> None:
        pool = client.connection_pool
        self._connection_class = pool.connection_class
        settings = dict(pool.connection_kwargs)
        # Ours: parsing, patience and liveness are decided here and nowhere else.
        settings.update(
            retry=Retry(NoBackoff(), 0), health_check_interval=0, decode_responses=False, protocol=2
        )
        settings.pop("retry_on_error", None)
        settings.pop("maint_notifications_config", None)
        if not settings.get("socket_connect_timeout"):
            settings["socket_connect_timeout"] = CONNECT_TIMEOUT
        settings["socket_timeout"] = settings.get("socket_timeout") or CONNECT_TIMEOUT
        self._settings = settings
        #: What went wrong on all connections that were made of this, by kind. All kinds stand there from the
        #: beginning: then adding one is a single step, which the threads of two connections cannot break.
        self.errors = {"connect": 0, "lost": 0, "refused": 0}

    @property
    def address(self) -> str:
        """Where the server is, without secrets."""
        settings = self._settings
        if path := settings.get("path"):
            return f"unix://{path}"
        host, port = settings.get("host", "localhost"), settings.get("port", 6379)
        scheme = "rediss" if "ssl" in self._connection_class.__name__.lower() else "redis"
        return f"{scheme}://{host}:{port}/{settings.get('db') or 0}"

    async def open(self, name: str) -> AbstractConnection:
        """A new connection, hands shaken. Raises what redis-py raises."""
        settings = self._settings
        if not settings.get("client_name"):
            settings = settings | {"client_name": name}
        connection = self._connection_class(**settings)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class _Pipe(asyncio.Protocol):
    """Bytes in, answers out, in the order of asking. With ``push``, every answer goes there instead."""

    def __init__(
        self,
        transport: asyncio.Transport,
        lost: Callable[[Exception | None], None],
        push: Callable[[Any], None] | None,
        errors: dict[str, int],
    ) -> None:
        self.transport = transport
        self.waiting: deque[asyncio.Future[Any]] = deque()
        #: When it was last heard of, and when it last began to owe an answer (monotonic).
        self.heard = 0.0
        self.asked = 0.0
        self._lost = lost
        self._push = push
        self._errors = errors
        self._reader = hiredis.Reader(replyError=RefusedError, notEnoughData=_MORE)

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self.waiting
        self.heard = time.monotonic()
        reader.feed(data)
        try:
            while (answer := reader.gets()) is not _MORE:
                if self._push is not None:
                    self._push(answer)
                    continue
                future = waiting.popleft()
                if future.done():
                    continue  # its caller was cancelled
                if isinstance(answer, RefusedError):
                    if answer.code not in _NO_ERROR:
                        self._errors["refused"] += 1
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError) as error:
            self._lost(error)
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(error)


class Wire:
    """A connection that is made when it is needed and made again when it was lost.

    Args:
        link: how to reach the server.
        name: what it is for; shown by CLIENT LIST.
        push: takes every answer, of a connection that subscribes.
        silence: seconds without an answer after which the connection counts as dead.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        push: Callable[[Any], None] | None = None,
        silence: float = SILENCE,
    ) -> None:
        self.link = link
        self.name = name
        self.lost: asyncio.Event = asyncio.Event()
        self._push = push
        self.silence = silence
        self._pipe: _Pipe | None = None
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._been_there = False
        self._failing = False
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._pipe is not None

    async def connect(self) -> None:
        """Makes the connection if there is none. Raises ``UnreachableError`` after one try."""
        if self._pipe is not None:
            return
        if self._closed:
            raise self._was_closed()
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name=f"{self.name}-connect")
            self._connecting.add_done_callback(self._connect_done)
        # Shared by all who ask meanwhile: one of them being cancelled must not stop it for the others.
        await asyncio.shield(self._connecting)

    async def _connect(self) -> None:
        try:
            connection = await self.link.open(self.name)
        # uvloop says RuntimeError of a socket that breaks while hands are shaken.
        except (OSError, RuntimeError, redis.exceptions.RedisError) as error:
            self.link.errors["connect"] += 1
            raise UnreachableError(_unreachable(self.link.address, error)) from error
        except asyncio.CancelledError:
            if self._closed:  # it is not its callers who were cancelled
                raise self._was_closed() from None
            raise
        writer = getattr(connection, "_writer", None)
        if writer is None:
            raise ServerError(
                "this release of redis-py keeps its transport elsewhere than any before: "
                "please report it, and use redis<9 until then"
            )
        pipe = _Pipe(writer.transport, self._on_lost, self._push, self.link.errors)
        writer.transport.set_protocol(pipe)
        self._connection, self._pipe = connection, pipe
        self._been_there = True
        self.lost.clear()

    def _was_closed(self) -> UnreachableError:
        return UnreachableError(f"the connection {self.name} was closed by disconnect()")

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # each caller has it; if none is left to care, nobody needs it

    def _on_lost(self, error: Exception | None) -> None:
        if self._pipe is not None:
            self.link.errors["lost"] += 1
            self._drop(error)

    def _drop(self, error: Exception | None) -> None:
        pipe, connection = self._pipe, self._connection
        if pipe is None:
            return
        self._pipe = self._connection = None
        self.lost.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if connection is not None:
            connection._close()  # type: ignore[no-untyped-call]
        for future in pipe.waiting:
            if not future.done():
                future.set_exception(
                    UnreachableError(f"lost the connection to {self.link.address}: {error or 'closed'}")
                )
        pipe.waiting.clear()

    def send(self, *command: Any) -> asyncio.Future[Any]:
        """Sends a command on the connection that there is. Raises ``UnreachableError`` if there is none."""
        pipe = self._pipe
        if pipe is None:
            raise UnreachableError(f"no connection to {self.link.address}")
        future = asyncio.get_running_loop().create_future()
        if not pipe.waiting:
            pipe.asked = time.monotonic()
        pipe.waiting.append(future)
        pipe.transport.write(hiredis.pack_command(command))
        if self._watch is None:
            self._watch_after(self.silence)
        return future

    def write(self, *command: Any) -> None:
        """Sends a command whose answer goes to ``push``."""
        if self._pipe is not None:
            self._pipe.transport.write(hiredis.pack_command(command))

    def abort(self) -> None:
        """Drops the connection at once; whoever waits gets an ``UnreachableError``."""
        pipe = self._pipe
        if pipe is not None:
            self._drop(None)
            pipe.transport.abort()

    def _watch_after(self, delay: float) -> None:
        self._watch = asyncio.get_running_loop().call_later(delay, self._check_silence)

    def _check_silence(self) -> None:
        """One timer for all that is asked: it is set again only while an answer is owed."""
        self._watch = None
        pipe = self._pipe
        if pipe is None or not pipe.waiting:
            return
        left = max(pipe.asked, pipe.heard) + self.silence - time.monotonic()
        if left > 0:
            self._watch_after(left)
        else:
            self._on_lost(TimeoutError(f"no answer for {self.silence:g} s"))
            pipe.transport.abort()

    async def call(self, *command: Any, patience: float | None = PATIENCE) -> Any:
        """Sends a command and returns its answer; sends it again when the connection broke.

        Args:
            patience: seconds to go on trying; None is for ever. A server never reached is tried once.

        Raises:
            UnreachableError: the server was not there, or went away and stayed away.
            RefusedError: it answered with an error.
        """
        if self._pipe is not None:
            try:
                return await self.send(*command)
            except UnreachableError as error:
                first: Exception = error
            except RefusedError as error:
                if error.code not in _TRANSIENT:
                    raise
                first = error
        else:
            try:
                await self.connect()
                return await self.send(*command)
            except UnreachableError as error:
                if patience is not None and not self._been_there:
                    raise
                first = error
            except RefusedError as error:
                if error.code not in _TRANSIENT:
                    raise
                first = error
        return await self._call_again(command, patience, first)

    async def _call_again(self, command: tuple[Any, ...], patience: float | None, error: Exception) -> Any:
        began = time.monotonic()
        tries = 1
        if not self._failing:
            # Once an outage, however many are waiting.
            self._failing = True
            logger.warning("Redis at %s: %s; trying again", self.link.address, error)
        while not self._closed:
            if patience is not None and time.monotonic() - began >= patience:
                spent = time.monotonic() - began
                if isinstance(error, RefusedError):
                    raise error
                raise UnreachableError(
                    _unreachable(self.link.address, error.__cause__ or error, tries, spent)
                ) from error
            await asyncio.sleep(min(1.0, 0.02 * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0))
            tries += 1
            try:
                # A primary that became a replica answers on; the way to the new one begins anew.
                if isinstance(error, RefusedError) and error.code == "READONLY":
                    self.abort()
                await self.connect()
                answer = await self.send(*command)
                if self._failing:
                    self._failing = False
                    logger.info("Redis at %s answers again", self.link.address)
                return answer
            except UnreachableError as again:
                error = again
            except RefusedError as again:
                if again.code not in _TRANSIENT:
                    raise
                error = again
        raise error

    async def close(self) -> None:
        """Closes the connection for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self.abort()


def ignore(future: asyncio.Future[Any]) -> None:
    """For an answer that nobody has to look at: a refusal of it is no error of the loop."""
    if not future.cancelled():
        future.exception()


def _unreachable(address: str, error: BaseException, tries: int = 1, spent: float = 0.0) -> str:
    tried = "once" if tries == 1 else f"{tries} times in {spent:.1f} s"
    text = str(error) or type(error).__name__
    if isinstance(error, redis.exceptions.AuthenticationError):
        return f"Redis at {address} refused the credentials: {text}"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"Redis at {address} refuses what every connection begins with: {text} ({_HINTS['NOPERM']})"
    if "max number of clients" in text:
        return f"Redis at {address} has no room for another connection: {text}; raise its `maxclients`"
    return (
        f"cannot reach Redis at {address} (tried {tried}; {text}). Is a server running there? "
        "Start one with `redis-server` or `docker run -p 6379:6379 valkey/valkey`, "
        'or use "embedded://default" as the URL (pip install "saq[embedded]")'
    )
