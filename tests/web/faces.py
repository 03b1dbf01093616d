"""Both faces of the web interface, bare and mounted, behind one way of asking.

The aiohttp face runs on a real server and is asked through a socket, byte by byte; the ASGI face is asked by
a driver that does what a server does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes, urlsplit

from aiohttp import web

from saq.queue.base import Queue
from saq.web.aiohttp import create_app, serve
from saq.web.starlette import saq_web

KINDS = ("aiohttp", "aiohttp-below", "asgi", "asgi-below")
#: What our own page sends with a change.
CHANGE = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
#: A stream goes on; enough is read of it when this has come.
EVENT_ENDS = b"}\n\n"


def refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(self.body, parse_constant=refuse)


class Face(Protocol):
    async def ask(
        self,
        method: str,
        target: str | bytes,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply: ...


async def change(
    face: Face, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Reply:
    return await face.ask("POST", target, CHANGE if headers is None else headers, body)


def raw(target: str | bytes) -> bytes:
    return target if isinstance(target, bytes) else target.encode("utf-8", "surrogatepass")


class HttpFace:
    """A server on a port, asked through a socket."""

    def __init__(self, port: int, prefix: bytes = b"") -> None:
        self.port = port
        self.prefix = prefix

    async def ask(
        self,
        method: str,
        target: str | bytes,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        lines = {"Host": f"127.0.0.1:{self.port}", **(headers or {}), "Connection": "close"}
        if body:
            lines.setdefault("Content-Length", str(len(body)))
        head = b"%b %b HTTP/1.1\r\n" % (method.encode(), self.prefix + raw(target))
        head += b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        return parse(await self.send(head + b"\r\n" + body, until=EVENT_ENDS))

    async def send(self, data: bytes, size: int = -1, until: bytes = b"") -> bytes:
        """Sends anything, and reads to the end of the connection, or ``size`` bytes; of a stream of events,
        up to ``until``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            if size >= 0:
                return await reader.readexactly(size)
            if until:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"text/event-stream" in head and not data.startswith(b"HEAD "):
                    return head + await reader.readuntil(until)
                return head + await reader.read()
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


def parse(answer: bytes) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [line.split(": ", 1) for line in lines]
    names = [name.lower() for name, _ in fields]
    assert len(names) == len(set(names)), names
    return Reply(
        int(first.split(" ")[1]), dict(zip(names, (value for _, value in fields), strict=True)), body
    )


class AsgiFace:
    """An ASGI app, asked as a server and a framework would."""

    def __init__(self, app: Any, prefix: str = "", *, stripped: bool = False, raw_path: bool = True) -> None:
        self.app = app
        self.prefix = prefix
        self.stripped = stripped
        self.raw_path = raw_path

    async def ask(
        self,
        method: str,
        target: str | bytes,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        path, _, query = raw(target).partition(b"?")
        if not self.stripped:
            path = quote(self.prefix).encode() + path
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode(errors="replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": self.prefix,
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"Host": "127.0.0.1:80", **(headers or {})}.items()
            ],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", 80),
        }
        if not self.raw_path:
            del scope["raw_path"]
        parts = [body[i : i + 5000] for i in range(0, len(body), 5000)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]
        sent: list[Any] = []
        enough = asyncio.Event()

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if EVENT_ENDS in message.get("body", b""):
                enough.set()

        await self.app(scope, receive, send)
        start, *pieces = sent
        assert start["type"] == "http.response.start"
        assert {piece["type"] for piece in pieces} == {"http.response.body"}
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(found) == len(start["headers"])
        return Reply(start["status"], found, b"".join(piece.get("body", b"") for piece in pieces))


async def shut_down(app: Any) -> list[str]:
    """What a server does with an ASGI app in the end; the types of what it answers."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


@asynccontextmanager
async def open_face(kind: str, queues: Sequence[Queue]) -> AsyncIterator[Face]:
    if kind.startswith("asgi"):
        prefix = "/monitor" if kind == "asgi-below" else ""
        mounted = saq_web(prefix, queues)
        yield AsgiFace(mounted, prefix)
        await shut_down(mounted)
    else:
        app = create_app(queues)
        if kind == "aiohttp-below":
            outer = web.Application()
            outer.add_subapp("/tools/monitor", app)
            app = outer
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            yield HttpFace(port, b"/tools/monitor" if kind == "aiohttp-below" else b"")
        finally:
            await runner.cleanup()


@asynccontextmanager
async def served(queues: Sequence[Queue], **options: Any) -> AsyncIterator[HttpFace]:
    async with serve(queues, port=0, **options) as url:
        yield HttpFace(urlsplit(url).port or 0)
