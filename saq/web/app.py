"""The app: from a request to a response.

Owns the table of routes, the order of the checks, and what an exception becomes. Must not know aiohttp, ASGI
or Redis, nor what a route does: that is ``views/``.

The order is: mount point → health → host → password → route → method → same origin → body → queue → view.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from saq.errors import RunningError, StaleError
from saq.queue.base import Queue
from saq.web import paths
from saq.web.call import AWAY, Call
from saq.web.http import MAX_BODY, TEXT, HttpError, Request, Response, error_response
from saq.web.security import HEADERS, Credentials, authenticate, check_change, check_host
from saq.web.views import api, pages

logger = logging.getLogger("saq")

#: Seconds that a view may take.
PATIENCE = 10.0
RETRY_AFTER = "5"

View = Callable[[Call], Awaitable[Response]]


class Route(NamedTuple):
    """A path, with ``{queue}``, ``{job}`` and ``{name}`` for any one segment, and what answers there.

    GET answers HEAD as well. POST changes something, and nothing else does.
    """

    method: str
    path: str
    view: View


ROUTES = (
    Route("GET", "/", pages.page),
    Route("GET", "/queues/{queue}", pages.page),
    Route("GET", "/queues/{queue}/jobs/{job}", pages.page),
    Route("GET", "/static/{name}", pages.static),
    Route("GET", "/api/queues", api.list_queues),
    Route("GET", "/api/queues/{queue}", api.show_queue),
    Route("GET", "/api/queues/{queue}/jobs/{job}", api.show_job),
    Route("POST", "/api/queues/{queue}/jobs/{job}/retry", api.retry),
    Route("POST", "/api/queues/{queue}/jobs/{job}/abort", api.abort),
)
HEALTH = b"health"

_PATTERNS = [(route, [part.encode() for part in route.path[1:].split("/")]) for route in ROUTES]
_NO_BODY = (304,)


class WebApp:
    """One web interface.

    Args:
        queues: what it shows; of several with one name, the first.
        credentials: who may come in; None is everybody.
        local: it is served on the loopback without a password, and so to local names only.
    """

    def __init__(
        self, queues: Iterable[Queue], credentials: Credentials | None = None, *, local: bool = False
    ) -> None:
        self.queues: dict[str, Queue] = {}
        for queue in queues:
            if self.queues.setdefault(queue.name, queue) is not queue:
                logger.warning(
                    "Two queues have the name %r: the web interface shows the first one", queue.name
                )
        self._credentials = credentials
        self._local = local
        self._away = False

    async def handle(self, request: Request) -> Response:
        """Answers a request, whatever it is."""
        try:
            response = await self._answer(request)
        except HttpError as error:
            response = error_response(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            response = self._trouble(request, error)
        if response.status < 400:
            self._away = False
        headers = {**HEADERS, **response.headers}
        if response.status not in _NO_BODY:
            headers["Content-Length"] = str(len(response.body))
        return Response(response.status, response.body, headers)

    async def _answer(self, request: Request) -> Response:
        target = paths.below(request.target, request.prefixes)
        if target is None:
            return Response(308, b"", {"Location": paths.with_slash(request.target)})
        segments, query = paths.split(target)
        if segments == [HEALTH]:
            return _health(request)
        if self._local:
            check_host(request.headers)
        authenticate(self._credentials, request.headers)
        route, names = _find(request.method, segments)
        if route.method == "POST":
            check_change(request.headers)
            if request.body is None:
                raise HttpError(408, "no_body", "The body did not arrive.")
            if len(request.body) > MAX_BODY:
                raise HttpError(413, "too_large", f"A body has {MAX_BODY:,} bytes at the most.")
        name = names.get("queue")
        call = Call(request, self.queues, segments, query, names, self.queues.get(name or ""))
        if name is not None and call.found is None and route.view is not pages.page:
            raise HttpError(404, "no_such_queue", "There is no queue of this name here.")
        async with asyncio.timeout(PATIENCE):
            return await route.view(call)

    def _trouble(self, request: Request, error: Exception) -> Response:
        """What the client hears of an exception: that there was one, and what the log knows it by."""
        reference = secrets.token_hex(6)
        where = f"{request.method} {request.target[:200]!r}"
        if isinstance(error, AWAY):
            # Once per outage; a page that is open asks again and again.
            level = logging.DEBUG if self._away else logging.WARNING
            self._away = True
            logger.log(level, "Web [%s]: %s: %s: %s", reference, where, type(error).__name__, error)
            answer = HttpError(
                503, "unavailable", "Redis is not available at present.", {"Retry-After": RETRY_AFTER}
            )
        elif isinstance(error, (RunningError, StaleError)):
            logger.info("Web [%s]: %s: %s", reference, where, error)
            answer = HttpError(409, "conflict", "The job has moved on meanwhile: nothing was changed.")
        else:
            logger.error("Web [%s]: %s failed", reference, where, exc_info=error)
            answer = HttpError(500, "internal", "This failed for a reason that is in the log of the server.")
        return error_response(answer, reference)


def _find(method: str, segments: list[bytes]) -> tuple[Route, dict[str, str]]:
    """The route for these segments, and the names in them. Raises ``HttpError`` 404 or 405."""
    allowed: set[str] = set()
    for route, pattern in _PATTERNS:
        names = _match(pattern, segments)
        if names is None:
            continue
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        if method in methods:
            return route, names
        allowed.update(methods)
    if allowed:
        raise _wrong_method(allowed)
    raise HttpError(404, "not_found", "There is nothing at this address.")


def _match(pattern: list[bytes], segments: list[bytes]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    names: dict[str, str] = {}
    for part, segment in zip(pattern, segments, strict=True):
        if part.startswith(b"{"):
            name = paths.decode(segment)
            if name is None:
                return None
            names[part[1:-1].decode()] = name
        elif part != segment:
            return None
    return names


def _wrong_method(allowed: set[str]) -> HttpError:
    methods = ", ".join(sorted(allowed))
    return HttpError(405, "wrong_method", f"This address takes {methods}.", {"Allow": methods})


def _health(request: Request) -> Response:
    """For a probe: that this process answers, and nothing about it or about Redis."""
    if request.method not in ("GET", "HEAD"):
        raise _wrong_method({"GET", "HEAD"})
    return Response(200, b"OK", {"Content-Type": TEXT})
