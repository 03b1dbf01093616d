"""The face for aiohttp: an application, and a server beside a worker.

Owns the way between aiohttp's requests and responses and ours. Must not decide anything about a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import unquote

from aiohttp import web

from saq.errors import UsageError
from saq.listening import CANNOT_LISTEN, cannot_listen, url_of
from saq.queue.base import Queue
from saq.web.app import WebApp
from saq.web.http import BODY_PATIENCE, MAX_BODY, Pieces, Request, headers_of
from saq.web.present import Redact
from saq.web.security import Credentials, is_loopback

logger = logging.getLogger("saq")

#: A job's key is part of the address, and may be long.
MAX_LINE = 64 * 1024
#: Seconds that a request is given to end when the server stops.
GRACE = 1.0
#: Seconds that the rest of a body is read and dropped, so that its sender gets to read why.
LINGER = 1.0


def create_app(
    queues: Iterable[Queue], *, redact: Redact | None = None, read_only: bool = False
) -> web.Application:
    """The web interface as an aiohttp application, to be served or added to another one.

    ``AUTH_USER`` [admin] and ``AUTH_PASSWORD`` are read now; without a password there is no authentication.
    When it is cleaned up, it disconnects the queues.

    Args:
        queues: what it shows; of several with one name, the first.
        redact: hides or replaces values of jobs, see ``Redact``.
        read_only: nothing may be changed.
    """
    shown = list(queues)
    app = _application(WebApp(shown, Credentials.from_environment(), redact=redact, read_only=read_only))

    async def disconnect(_: web.Application) -> None:
        for queue in shown:
            await queue.disconnect()

    app.on_cleanup.append(disconnect)
    return app


def _application(core: WebApp) -> web.Application:
    app = web.Application()

    async def close(_: web.Application) -> None:
        await core.close()

    # Before it is waited for what is under way: a stream would not end by itself.
    app.on_shutdown.append(close)

    async def handle(request: web.Request) -> web.StreamResponse:
        # Where it is, if it was added to another application.
        return await _handle(core, request, unquote(root.canonical))

    # One handler for everything: the core reads the raw path, which aiohttp would have decoded.
    root = app.router.add_resource("/")
    root.add_route("*", handle)
    app.router.add_route("*", "", handle)
    app.router.add_route("*", r"/{rest:[\s\S]*}", handle)
    return app


async def _handle(core: WebApp, request: web.Request, prefix: str) -> web.StreamResponse:
    body = await _read(request)
    response = await core.handle(
        Request(
            request.method,
            request.raw_path.encode("utf-8", "surrogateescape"),
            headers_of(request.headers.items()),
            body,
            (prefix,),
            request.remote or "",
        )
    )
    headers = {**response.headers, "Server": "saq"}
    if response.stream is not None:
        streamed = web.StreamResponse(status=response.status, headers=headers)
        return await _send(request, streamed, response.stream)
    answer = web.Response(status=response.status, body=response.body or None, headers=headers)
    if body is None or len(body) > MAX_BODY:
        answer.force_close()  # the rest is not worth reading
    return answer


async def _send(request: web.Request, answer: web.StreamResponse, stream: Pieces) -> web.StreamResponse:
    """Sends the pieces of a stream as they come. If the client goes, this ends with the next one."""
    try:
        await answer.prepare(request)
        async for piece in stream:
            await answer.write(piece)
        await answer.write_eof()
    except ConnectionError:
        logger.debug("Web: a client left its stream")
    finally:
        await stream.aclose()
    return answer


async def _read(request: web.Request) -> bytes | None:
    """The body, or as much of it as tells that it is too large; None if it does not arrive."""
    body = b""
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            while len(body) <= MAX_BODY:
                piece = await request.content.read(MAX_BODY + 1 - len(body))
                if not piece:
                    break
                body += piece
    except Exception as error:  # too slow, cut off, or not in the encoding that it names
        logger.debug("Web: a body did not arrive: %r", error)
        return None
    return body


@asynccontextmanager
async def serve(
    queues: Iterable[Queue],
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    insecure: bool = False,
    redact: Redact | None = None,
    read_only: bool = False,
) -> AsyncIterator[str]:
    """Serves the web interface in the running loop, inside the ``async with``. The queues are left connected.

    Args:
        queues: what it shows.
        host: where it listens; another address than the loopback needs a password.
        port: 0 is any free one.
        insecure: without a password, too.
        redact, read_only: as those of ``create_app``.

    Yields:
        Its address.

    Raises:
        UsageError: it may not, or cannot, listen there; the message says what to do.
    """
    credentials = Credentials.from_environment()
    local = is_loopback(host)
    if credentials is None and not local and not insecure:
        raise UsageError(
            f"the web interface would be open to everybody who reaches {host or 'this machine'}: set "
            "AUTH_PASSWORD (and AUTH_USER), or leave out --host, or say --insecure"
        )
    core = WebApp(
        queues,
        credentials,
        local=local and credentials is None and not insecure,
        redact=redact,
        read_only=read_only,
    )
    runner = web.AppRunner(
        _application(core),
        handle_signals=False,
        access_log=None,
        shutdown_timeout=GRACE,
        max_line_size=MAX_LINE,
        lingering_time=LINGER,
        auto_decompress=False,  # nothing of ours comes compressed
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except CANNOT_LISTEN as error:
            raise UsageError(cannot_listen(host, port, error)) from error
        addresses = [url_of(*address[:2]) for address in runner.addresses]
        logger.info("The web interface is at %s", " and ".join(addresses))
        yield addresses[0]
    finally:
        await runner.cleanup()
