"""A proxy between a client and Redis that breaks things on purpose.

Owns the faults of a connection: cut before, inside or after a command, an answer lost, a delay, a peer that
says nothing any more. It understands just enough RESP to count commands and to know their names.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import hiredis

#: The name of all tasks of proxies: they come and go with the connections.
TASK = "proxy"


class Cut(NamedTuple):
    """Where to break a connection, once: at the ``nth`` command that matches, counted from 1.

    Args:
        where: 'request': after ``at`` bytes of the command have been passed on;
            'answer': the server got all of it, and ``at`` bytes of the answer are passed on.
        nth: which of the commands that match.
        at: bytes.
        match: whether a command counts, by its words.
    """

    where: str
    nth: int = 1
    at: int = 0
    match: Callable[[list[bytes]], bool] = lambda words: words[0] in (b"EVALSHA", b"EVAL")


class Proxy:
    """Listens on a port of its own and passes everything on to another one."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._cut: Cut | None = None
        self._seen = 0
        self._losing = False
        self._links: set[asyncio.Task[None]] = set()
        self._by_name: dict[bytes, _Link] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        #: How often a fault really happened.
        self.faults = 0
        #: The latest commands that came through, by their first word.
        self.commands: deque[bytes] = deque(maxlen=10_000)
        #: Seconds that a command, or an answer, takes longer.
        self.delay = 0.0
        self.late = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self.refusing = False
        #: Whether the latest cut came behind the last byte.
        self.cut_behind = False

    @property
    def url(self) -> str:
        """Where a client connects."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def armed(self) -> bool:
        """Whether a cut still waits for its command."""
        return self._cut is not None

    @property
    def connections(self) -> int:
        """How many ends there are."""
        return len(self._writers)

    def cut(self, cut: Cut) -> None:
        """Breaks a connection at the next command that matches."""
        self._cut, self._seen = cut, 0

    def lose_answer(self) -> None:
        """Whatever the server says next does not arrive, and its connection breaks."""
        self._losing = True

    def loses(self) -> bool:
        """Whether what the server has just said is lost."""
        losing, self._losing = self._losing, False
        self.faults += losing
        return losing

    def freeze(self) -> None:
        """Half open: connections stay, and nothing passes."""
        self._flows.clear()

    def thaw(self) -> None:
        """Lets pass again."""
        self._flows.set()

    def silence(self, name: str) -> None:
        """Half open, for good: the connection of that name stays, and no answer passes."""
        self._by_name[name.encode()].silent = True
        self.faults += 1

    def drop(self, name: str) -> None:
        """Cuts the connection of that name."""
        self._by_name[name.encode()].abort()
        self.faults += 1

    def drop_all(self) -> None:
        """Cuts every connection there is."""
        for writer in list(self._writers):
            writer.transport.abort()
            self.faults += 1

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name=TASK)
        self._links.add(task)
        task.add_done_callback(self._links.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        link = _Link(self, writer, up_writer)
        try:
            both = (link.requests(reader), link.answers(up_reader))
            tasks = [asyncio.create_task(one, name=TASK) for one in both]
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for end in (writer, up_writer):
                end.transport.abort()
                self._writers.discard(end)

    async def start(self) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends it, and every connection."""
        assert self._server is not None
        self._server.close()
        self._flows.set()
        self.drop_all()
        if self._links:
            for task in list(self._links):
                task.cancel()
            await asyncio.wait(list(self._links))
        await self._server.wait_closed()

    def take(self, words: list[bytes], link: _Link) -> Cut | None:
        """The fault for this command, if it is its turn."""
        self.commands.append(words[0])
        if words[:2] == [b"CLIENT", b"SETNAME"]:
            self._by_name[words[2]] = link
        cut = self._cut
        if cut is None or not cut.match(words):
            return None
        self._seen += 1
        if self._seen < cut.nth:
            return None
        self._cut = None
        self.faults += 1
        return cut


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, down: asyncio.StreamWriter, up: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._down = down
        self._up = up
        self._doomed: Cut | None = None
        #: Whether what the server says is swallowed.
        self.silent = False

    async def requests(self, reader: asyncio.StreamReader) -> None:
        try:
            await self._pass_requests(reader)
        finally:
            self.abort()

    async def _pass_requests(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader()
        buffer = b""
        while data := await reader.read(65536):
            await self._proxy._flows.wait()
            buffer += data
            parser.feed(data)
            while (words := parser.gets()) is not False:
                raw, buffer = _take(words, buffer)
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                cut = self._proxy.take(words, self)
                if cut is not None and cut.where == "request":
                    self._proxy.cut_behind = cut.at >= len(raw)
                    self._up.write(raw[: cut.at])
                    await self._up.drain()
                    return
                if cut is not None:
                    self._doomed = cut
                self._up.write(raw)

    async def answers(self, reader: asyncio.StreamReader) -> None:
        try:
            await self._pass_answers(reader)
        finally:
            self.abort()

    async def _pass_answers(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            await self._proxy._flows.wait()
            if self.silent:
                continue
            if self._proxy.late:
                await asyncio.sleep(self._proxy.late)
            if self._proxy.loses():
                self.abort()
                return
            if self._doomed is not None:
                self._proxy.cut_behind = self._doomed.at >= len(data)
                self._down.write(data[: self._doomed.at])
                with contextlib.suppress(ConnectionError):
                    await self._down.drain()
                return
            self._down.write(data)

    def abort(self) -> None:
        # Closed, not reset: what was written must arrive.
        for writer in (self._up, self._down):
            with contextlib.suppress(RuntimeError):
                writer.close()


def _take(words: list[bytes], buffer: bytes) -> tuple[bytes, bytes]:
    """The bytes of a command that was parsed, and the rest."""
    length = len(b"*%d\r\n" % len(words))
    for word in words:
        length += len(b"$%d\r\n" % len(word)) + len(word) + 2
    return buffer[:length], buffer[length:]


@contextlib.asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port, for as long as the block."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
