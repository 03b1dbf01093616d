"""One pipelined connection to Redis.

Owns a socket, what was asked on it, and the policy of asking again. Must not know what the commands mean:
each one sent through here is safe to repeat, by number or by nature, and that is why it may be sent again.

redis-py makes the connection, from the settings of the user's own client (`link.py`), and shakes hands. Then
the transport is handed to `_Pipe`, which parses with hiredis and resolves futures straight from
`data_received`: no task, no stream, no lock stands between the socket and the caller, and cancelling a caller
never touches the socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import redis.exceptions
from redis.asyncio.connection import AbstractConnection

from saq.errors import ServerError
from saq.queue.redis.answers import MOVING, NO_ERROR, RefusedError, UnreachableError, is_there, reason
from saq.queue.redis.link import Link

__all__ = ["PATIENCE", "SILENCE", "Link", "RefusedError", "UnreachableError", "Wire", "ignore"]

logger = logging.getLogger("saq")

#: Seconds that a caller's command is tried again while a server that was there is away. A worker's own
#: claims and settlements are tried for ever.
PATIENCE = 5.0
#: So many times as long while the server is well, and a slot of its Cluster on its way to another node.
MOVE_PATIENCE = 6
#: Seconds without any answer after which a connection counts as dead.
SILENCE = 10.0

_MORE = object()


class _Pipe(asyncio.Protocol):
    """Bytes in, answers out, in the order of asking. With ``push``, every answer goes there instead.

    ``refused`` is told of each answer that is an error, and says whether to go on with this connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        lost: Callable[[Exception | None], None],
        refused: Callable[[RefusedError], bool],
        push: Callable[[Any], None] | None,
    ) -> None:
        self.transport = transport
        self.waiting: deque[asyncio.Future[Any]] = deque()
        #: When it was last heard of, and when it last began to owe an answer (monotonic).
        self.heard = 0.0
        self.asked = 0.0
        self._lost = lost
        self._refused = refused
        self._push = push
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
                    future.set_exception(answer)
                    if not self._refused(answer):
                        return
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
        silence: seconds without an answer after which the connection counts as dead; to be made, it has as
            long.
        connected: told of each new connection.
        pause: seconds between two tries, at the most.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        push: Callable[[Any], None] | None = None,
        silence: float = SILENCE,
        connected: Callable[[Wire], None] | None = None,
        pause: float = 1.0,
    ) -> None:
        self.link = link
        self.name = name
        #: Host and port that the connection leads to; they stay the same unless the link leads elsewhere.
        self.place: tuple[Any, Any] | None = None
        self.lost: asyncio.Event = asyncio.Event()
        self._push = push
        self._on_connected = connected
        self._pause = min(1.0, pause)
        self.silence = silence
        self._pipe: _Pipe | None = None
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._failing = False
        self._leaving = False
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

    async def reach(self) -> None:
        """Makes the connection, and goes on trying for a while if the server was there before."""
        began: float | None = None
        while True:
            try:
                return await self.connect()
            except UnreachableError:
                began = began or time.monotonic()
                if self._closed or not self.link.reached or time.monotonic() - began > PATIENCE:
                    raise
            await asyncio.sleep(random.uniform(0.05, 0.1))

    def leave(self, place: tuple[Any, Any] | None) -> None:
        """The server is at ``place`` by now: drops a connection that leads, or is on its way, elsewhere."""
        if self._pipe is not None:
            if self.place != place:
                self.abort()
        elif self._connecting is not None and self.link.place not in (None, place):
            self._leaving = True
            self._connecting.cancel()

    async def _connect(self) -> None:
        self._leaving = False
        try:
            # Who renews leases has no time for a server that accepts and says nothing.
            connection = await self.link.open(self.name, self.silence)
        except UnreachableError:
            self.link.errors["connect"] += 1
            raise
        # uvloop says RuntimeError of a socket that breaks while hands are shaken.
        except (OSError, RuntimeError, redis.exceptions.RedisError) as error:
            self.link.errors["connect"] += 1
            raise UnreachableError(_unreachable(self.link, error)) from error
        except asyncio.CancelledError:
            if self._closed:  # it is not its callers who were cancelled
                raise self._was_closed() from None
            if self._leaving:
                raise UnreachableError("the server is another one by now") from None
            raise
        writer = getattr(connection, "_writer", None)
        if writer is None:
            raise ServerError(
                "this release of redis-py keeps its transport elsewhere than any before: "
                "please report it, and use redis<9 until then"
            )
        pipe = _Pipe(writer.transport, self._on_lost, self._on_refused, self._push)
        writer.transport.set_protocol(pipe)
        self._connection, self._pipe = connection, pipe
        self.link.reached = True
        self.lost.clear()
        self.place = getattr(connection, "host", None), getattr(connection, "port", None)
        if self._on_connected is not None:
            self._on_connected(self)

    def _was_closed(self) -> UnreachableError:
        return UnreachableError(f"the connection {self.name} was closed by disconnect()")

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # each caller has it; if none is left to care, nobody needs it

    def _on_refused(self, error: RefusedError) -> bool:
        if error.code not in NO_ERROR:
            self.link.errors["refused"] += 1
        # Whatever else was asked there would be refused as well. The way to the server begins anew.
        leave = self.link.on_refusal(error)
        if leave:
            self.abort()
        return not leave

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
        why = error or ("disconnected" if self._closed else "closed")
        for future in pipe.waiting:
            if not future.done():
                future.set_exception(UnreachableError(f"lost the connection to {self.link.address}: {why}"))
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
                if error.code not in self.link.transient:
                    raise
                first = error
        else:
            try:
                await self.connect()
                return await self.send(*command)
            except UnreachableError as error:
                if patience is not None and not self.link.reached:
                    raise
                first = error
            except RefusedError as error:
                if error.code not in self.link.transient:
                    raise
                first = error
        return await self._call_again(command, patience, first)

    async def _call_again(self, command: tuple[Any, ...], patience: float | None, error: Exception) -> Any:
        began = time.monotonic()
        tries = 1
        moved = isinstance(error, RefusedError) and error.code == "MOVED"
        if not self._failing and not moved:
            # Once an outage, however many are waiting.
            self._failing = True
            logger.warning("Redis at %s: %s; trying again", self.link.address, error)
        while not self._closed:
            spent = time.monotonic() - began
            moving = isinstance(error, RefusedError) and error.code in MOVING
            if patience is not None and spent >= patience * (MOVE_PATIENCE if moving else 1):
                if isinstance(error, RefusedError):
                    raise error
                raise UnreachableError(
                    _unreachable(self.link, error.__cause__ or error, tries, spent)
                ) from error
            if not moved or tries > 1:  # else it was told where to go
                await asyncio.sleep(min(self._pause, 0.02 * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0))
            tries += 1
            try:
                await self.connect()
                answer = await self.send(*command)
                if self._failing:
                    self._failing = False
                    logger.info("Redis at %s answers again", self.link.address)
                return answer
            except UnreachableError as again:
                error = again
            except RefusedError as again:
                if again.code not in self.link.transient:
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


def _unreachable(link: Link, error: BaseException, tries: int = 1, spent: float = 0.0) -> str:
    if is_there(error):
        return f"Redis at {link.address} does not let us in: {reason(error)}"
    tried = "once" if tries == 1 else f"{tries} times in {spent:.1f} s"
    return f"cannot reach Redis at {link.address} (tried {tried}; {reason(error)}). {link.advice}"
