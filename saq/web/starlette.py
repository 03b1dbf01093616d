"""The face for ASGI: an app to be mounted in FastAPI, Starlette, Litestar, or served by itself.

Owns the way between ASGI's messages and our requests and responses. Must not import Starlette, decide
anything about a request, or hold a global: any number can be mounted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from saq.queue.base import Queue
from saq.web.app import WebApp
from saq.web.http import BODY_PATIENCE, MAX_BODY, Pieces, Request, headers_of
from saq.web.present import Redact
from saq.web.security import Credentials

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """An ASGI app. Made by ``saq_web``."""

    def __init__(
        self, root_path: str, queues: Iterable[Queue], redact: Redact | None, read_only: bool
    ) -> None:
        self._root_path = root_path
        self._queues = list(queues)
        self._core = WebApp(self._queues, Credentials.from_environment(), redact=redact, read_only=read_only)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                body = await _read(receive)
        except TimeoutError:
            body = None
        except _GoneError:
            return
        # The raw path is optional in ASGI. Without it, a slash in a name cannot be told from any other.
        raw: bytes | None = scope.get("raw_path")
        path = raw.partition(b"?")[0] if raw else quote(scope["path"], errors="surrogatepass").encode()
        query: bytes = scope.get("query_string", b"")
        above: str = scope.get("root_path", "")
        fields = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        client = scope.get("client")
        response = await self._core.handle(
            Request(
                scope["method"],
                path + b"?" + query if query else path,
                headers_of(fields),
                body,
                (above, self._root_path, f"{above}/{self._root_path}"),
                client[0] if client else "",
            )
        )
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers.items()
        ]
        shown = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.stream is not None:
            await _stream(response.stream, receive, send)
            return
        await send({"type": "http.response.body", "body": shown})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Served by itself, it disconnects the queues at the end. Mounted, it is not told of an end."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._core.close()
                for queue in self._queues:
                    await queue.disconnect()
                await send({"type": "lifespan.shutdown.complete"})
                return


class _GoneError(Exception):
    """The client has gone: there is nobody to answer."""


async def _read(receive: Receive) -> bytes:
    """The body, or as much of it as tells that it is too large."""
    body = b""
    more = True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _stream(stream: Pieces, receive: Receive, send: Send) -> None:
    """Sends the pieces of a stream as they come, until it ends or the client has gone."""

    async def pass_on() -> None:
        async for piece in stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def wait_until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [
        asyncio.create_task(pass_on(), name="saq-web-stream"),
        asyncio.create_task(wait_until_gone(), name="saq-web-gone"),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await stream.aclose()
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def saq_web(
    root_path: str, queues: Iterable[Queue], *, redact: Redact | None = None, read_only: bool = False
) -> AsgiApp:
    """The web interface as an ASGI app: ``app.mount("/monitor", saq_web("/monitor", queues=[queue]))``.

    ``AUTH_USER`` [admin] and ``AUTH_PASSWORD`` are read now; without a password there is no authentication
    but that of the app around it.

    Args:
        root_path: where it is mounted. It works under any other prefix as well, as long as that is in the
            ``root_path`` of the scope, or was taken away on the way here.
        queues: what it shows. Whoever made them disconnects them.
        redact: hides or replaces values of jobs, see ``saq.web.present.Redact``.
        read_only: nothing may be changed.
    """
    return AsgiApp(root_path, queues, redact, read_only)
