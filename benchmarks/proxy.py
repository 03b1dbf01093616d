"""A network that is slower: hands bytes on to a port of the loopback, the replies late.

    proxy.py PORT SECONDS

Owns the delay. Prints the port on which it listens, and ends when its standard input does. Every reply waits
SECONDS, so a round trip takes that much more; what is sent together stays together, and nothing is limited.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from collections import deque


class Late(asyncio.Protocol):
    """The server's side: its replies are written when they are due."""

    def __init__(self, other: asyncio.Transport, delay: float) -> None:
        self._other = other
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()

    def data_received(self, data: bytes) -> None:
        due = self._loop.time() + self._delay
        self._waiting.append((due, data))
        if len(self._waiting) == 1:
            self._loop.call_at(due, self._write)

    def _write(self) -> None:
        now = self._loop.time()
        ready = []
        while self._waiting and self._waiting[0][0] <= now:
            ready.append(self._waiting.popleft()[1])
        if ready:
            self._other.write(b"".join(ready))
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._write)

    def connection_lost(self, error: Exception | None) -> None:
        self._other.close()


class Door(asyncio.Protocol):
    """The client's side: what it says goes on at once."""

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._delay = delay
        self._early: list[bytes] = []
        self._server: asyncio.Transport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._task = asyncio.ensure_future(self._connect(transport))

    async def _connect(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(transport, asyncio.Transport)
        server, _ = await loop.create_connection(
            lambda: Late(transport, self._delay), "127.0.0.1", self._port
        )
        self._server = server
        if self._early:
            self._server.write(b"".join(self._early))
        if self._closed:
            self._server.close()

    def data_received(self, data: bytes) -> None:
        if self._server is None:
            self._early.append(data)
        else:
            self._server.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()


async def main(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(port, delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    # select() waits in microseconds; epoll() would round a delay of a millisecond up to the next.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main(int(sys.argv[1]), float(sys.argv[2])))
