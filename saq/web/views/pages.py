"""The page and its files.

Owns the fixed table of static files, read once. Must not open a file by a name that came in, nor put anything
but the way to the root into the page: the page asks the API for the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from saq.web import paths
from saq.web.call import Call
from saq.web.http import HTML, HttpError, Response

#: What a file is, by how its name ends. Nothing else is served.
TYPES = {
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
PAGE = "index.html"
#: Stands in the page for the relative way to the root: dots and slashes, which need no escape.
ROOT = b"{root}"


class Asset(NamedTuple):
    """A file of the page."""

    body: bytes
    content_type: str
    etag: str


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{above}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{name}/")
        elif entry.name.rpartition(".")[2] in TYPES:
            yield name, entry


@cache
def _folder() -> Traversable:
    return resources.files("saq.web").joinpath("static")


@cache
def assets() -> dict[str, Asset]:
    """All there is below /static/, by its path there."""
    found = {}
    for name, file in _files(_folder()):
        body = file.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        found[name] = Asset(body, TYPES[name.rpartition(".")[2]], etag)
    return found


@cache
def _page() -> bytes:
    return _folder().joinpath(PAGE).read_bytes()


async def page(call: Call) -> Response:
    """The one page there is. What it shows, it finds out from its own address."""
    name = call.names.get("queue")
    missing = (name is not None and call.found is None) or "page" in call.names
    body = _page().replace(ROOT, paths.to_root(call.segments).encode())
    return Response(404 if missing else 200, body, {"Content-Type": HTML})


async def static(call: Call) -> Response:
    """A file of the page. Browsers keep it and ask whether it has changed."""
    asset = assets().get(call.names["file"])
    if asset is None:
        raise HttpError(404, "not_found", "There is nothing at this address.")
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    known = call.request.headers.get("if-none-match", "")
    if asset.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(304, b"", headers)
    return Response(200, asset.body, {"Content-Type": asset.content_type, **headers})
