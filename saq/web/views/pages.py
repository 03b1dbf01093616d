"""The page and its files.

Owns the fixed table of static files, read once. Must not open a file by a name that came in, nor put anything
but the way to the root into the page: the page asks the API for the rest.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

from saq.web import paths
from saq.web.call import Call
from saq.web.http import HTML, HttpError, Response

#: All there is below /static/. A view that comes later adds its files here.
STATIC = {
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PAGE = "index.html"
#: Stands in the page for the relative way to the root: dots and slashes, which need no escape.
ROOT = b"{root}"


class Asset(NamedTuple):
    """A file of the page."""

    body: bytes
    content_type: str
    etag: str


@cache
def _read(name: str) -> bytes:
    return resources.files("saq.web").joinpath("static", name).read_bytes()


@cache
def _asset(name: str) -> Asset:
    body = _read(name)
    return Asset(body, STATIC[name], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


async def page(call: Call) -> Response:
    """The one page there is. What it shows, it finds out from its own address."""
    name = call.names.get("queue")
    status = 404 if name is not None and call.found is None else 200
    body = _read(PAGE).replace(ROOT, paths.to_root(call.segments).encode())
    return Response(status, body, {"Content-Type": HTML})


async def static(call: Call) -> Response:
    """A file of the page. Browsers keep it and ask whether it has changed."""
    if call.names["name"] not in STATIC:
        raise HttpError(404, "not_found", "There is nothing at this address.")
    asset = _asset(call.names["name"])
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    known = call.request.headers.get("if-none-match", "")
    if asset.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(304, b"", headers)
    return Response(200, asset.body, {"Content-Type": asset.content_type, **headers})
