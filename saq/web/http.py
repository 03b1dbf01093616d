"""A request and a response as values.

Owns the vocabulary between the faces and the core. Must not know of routes, queues, or any web framework.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl

#: A face reads one byte more than this of a body, and leaves the rest.
MAX_BODY = 64 * 1024
#: Seconds that a face waits for a body.
BODY_PATIENCE = 10.0

JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

_MAX_FIELDS = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What came in.

    Args:
        method: in capitals, as it came.
        target: path and query as they came, undecoded.
        headers: by name in small letters, see ``headers_of``.
        body: at most ``MAX_BODY`` + 1 bytes of it; None if it did not arrive.
        prefixes: where the app may be mounted, decoded; what lies below is its own.
        peer: who sent it, for the log.
    """

    method: str
    target: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = b""
    prefixes: Sequence[str] = ()
    peer: str = ""


class Pieces(Protocol):
    """A body that comes piece by piece."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Response:
    """What goes out. The body of an answer to HEAD is left out by the face, its headers are not.

    With a ``stream``, its pieces are sent as they come. Whoever has such a response closes the stream in the
    end.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Pieces | None = None


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: the status code.
        code: one word for programs.
        message: one sentence for people. Everybody may read it: no exception text, no address.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def headers_of(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name in small letters. What came several times is joined by ``", "``, so that it equals
    nothing that it should not equal."""
    headers: dict[str, str] = {}
    for name, value in fields:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def json_response(
    value: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Strict JSON in ASCII: any text arrives, lone surrogates included, and NaN does not pass."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(status, body, {"Content-Type": JSON, **(headers or {})})


def error_response(error: HttpError, reference: str = "") -> Response:
    """An error as JSON; ``reference`` is what the log knows it by."""
    value = {"error": error.code, "message": error.message}
    if reference:
        value["id"] = reference
    return json_response(value, error.status, error.headers)


def parse_query(query: bytes) -> dict[str, str]:
    """The fields of a query, the first of each name."""
    fields: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            query.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:  # too many
        return fields
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields
