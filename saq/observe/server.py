"""What is served on --metrics-port: /metrics, /ready and /health of one worker process.

Owns a thread with an HTTP server of its own. Must not share the worker's event loop: it has to answer most of
all when that is blocked. What only the loop can do (asking Redis) is handed over to it, and given up soon.

It serves figures, and the names of queues and functions, to whoever reaches it; nothing else, and no changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from saq.errors import UsageError
from saq.listening import CANNOT_LISTEN, cannot_listen, url_of
from saq.observe import health, metrics
from saq.observe.monitor import Monitor

logger = logging.getLogger("saq")

#: Requests that are answered at once; more than that are turned away.
MOST_REQUESTS = 16
#: Seconds that a client may take to say what it wants.
CLIENT_PATIENCE = 5.0
#: Seconds that the loop is given to ask Redis, a little longer than Redis is given to answer.
LOOP_PATIENCE = health.PATIENCE + 0.5
#: Seconds between two looks whether it shall end.
LOOK_EVERY = 0.1

LAST_PORT = 65_535
#: What its port and its options are called.
METRICS = ("the metrics ", "metrics-")

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

T = TypeVar("T")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # Two workers on one port would each answer for the other half of the time.
    allow_reuse_port = False

    def __init__(self, host: str, port: int, monitor: Monitor) -> None:
        self.address_family, address = _address(host, port)
        self.monitor = monitor
        self._room = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not that of HTTPServer, which looks up the name of the machine and may wait for a name server.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("Metrics: a request ended with an error", exc_info=True)

    def in_loop(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What the worker's loop finds out, or None if it does not come to it."""
        loop = self.monitor.loop
        if loop is None or not loop.is_running() or self.monitor.lag > health.LAG_LIMIT:
            return None
        asking = ask()
        try:
            future = asyncio.run_coroutine_threadsafe(asking, loop)
        except RuntimeError:  # it was closed this very moment
            asking.close()
            return None
        try:
            return future.result(LOOP_PATIENCE)
        except TimeoutError:
            future.cancel()
            return None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_PATIENCE
    server_version = "saq"
    sys_version = ""

    def do_GET(self) -> None:
        monitor = self.server.monitor
        path = self.path.partition("?")[0]
        if path == "/metrics":
            readings = self.server.in_loop(lambda: metrics.read(monitor.queues))
            body, content_type = metrics.render(
                metrics.of_queues(readings or dict.fromkeys(queue.name for queue in monitor.queues)),
                metrics.of_workers([monitor]),
                metrics.of_process(),
                accept=self.headers.get("Accept", ""),
            )
            self._answer(200, body, content_type)
        elif path == "/ready":
            found = health.readiness(self.server.in_loop(lambda: health.ask(monitor.queues)), monitor)
            body = json.dumps(found.to_dict(), allow_nan=False).encode("ascii")
            self._answer(200 if found.ready else 503, body, JSON)
        elif path == "/health":
            well = health.alive(monitor)
            self._answer(200 if well else 503, b"OK" if well else b"the event loop is dead", TEXT)
        else:
            self._answer(404, b"There are /metrics, /ready and /health.", TEXT)

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("Metrics: %s: %s", self.client_address[0], format % args)


@asynccontextmanager
async def serve(monitor: Monitor, port: int, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serves what a monitor knows, inside the ``async with``.

    Args:
        monitor: of the worker.
        port: 0 is any free one.
        host: where it listens.

    Yields:
        Its address.

    Raises:
        UsageError: it cannot listen there; the message says what to do.
    """
    try:
        server = _Server(host, port, monitor)
    except CANNOT_LISTEN as error:
        raise UsageError(cannot_listen(host, port, error, *METRICS)) from error
    name, number = server.server_address[:2]
    address = url_of(str(name), number)
    thread = threading.Thread(
        target=server.serve_forever, args=(LOOK_EVERY,), name="saq-metrics", daemon=True
    )
    thread.start()
    monitor.served = True
    logger.info("Metrics and health are at %s", address)
    try:
        yield address
    finally:
        monitor.served = False
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def check(port: int, count: int, host: str) -> None:
    """Whether so many workers can each have a port, from this one on; 0 is any free one for each.

    Raises:
        UsageError: one is taken, or there are not so many.
    """
    if port + count - 1 > LAST_PORT:
        raise UsageError(
            f"{count} workers need metrics ports from {port} on, and there is no port above {LAST_PORT}: "
            "choose a lower --metrics-port"
        )
    for number in range(port, port + count if port else 1):
        try:
            family, address = _address(host, number)
            socket.create_server(address, family=family).close()
        except CANNOT_LISTEN as error:
            raise UsageError(cannot_listen(host, number, error, *METRICS)) from error


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return found[0], (str(found[4][0]), int(found[4][1]))
