"""The app: from a request to a response.

Owns the order of the checks, and what an exception becomes. Must not know aiohttp, ASGI or Redis, nor what a
route does: that is ``views/``.

The order is: mount point → health → host → password → route → method → may anything change → same origin →
JSON → body → queue → query → view.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable

from saq.errors import RunningError, StaleError
from saq.queue.base import Queue
from saq.web import bodies, paths
from saq.web.call import AWAY, Call, Site
from saq.web.http import MAX_BODY, TEXT, HttpError, Request, Response, error_response, parse_query
from saq.web.live import Live
from saq.web.openapi import document
from saq.web.params import read_all
from saq.web.present import Presenter, Redact
from saq.web.routes import ROUTES, find, wrong_method
from saq.web.security import HEADERS, Credentials, authenticate, check_change, check_host
from saq.web.views import pages

logger = logging.getLogger("saq")

#: Seconds that a view may take.
PATIENCE = 10.0
RETRY_AFTER = "5"

HEALTH = b"health"
_NO_BODY = (304,)


class WebApp:
    """One web interface.

    Args:
        queues: what it shows; of several with one name, the first.
        credentials: who may come in; None is everybody.
        local: it is served on the loopback without a password, and so to local names only.
        redact: hides or replaces values of jobs before they are shown or searched.
        read_only: nothing may be changed.
    """

    def __init__(
        self,
        queues: Iterable[Queue],
        credentials: Credentials | None = None,
        *,
        local: bool = False,
        redact: Redact | None = None,
        read_only: bool = False,
    ) -> None:
        self.queues: dict[str, Queue] = {}
        for queue in queues:
            if self.queues.setdefault(queue.name, queue) is not queue:
                logger.warning(
                    "Two queues have the name %r: the web interface shows the first one", queue.name
                )
        self._site = Site(
            self.queues, Presenter(redact, read_only), read_only, Live(self.queues), document(ROUTES)
        )
        self._credentials = credentials
        self._local = local
        self._away = False

    async def close(self) -> None:
        """Ends what is open: the streams, and what feeds them."""
        await self._site.live.close()

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
        if response.stream is None and response.status not in _NO_BODY:
            headers["Content-Length"] = str(len(response.body))
        return Response(response.status, response.body, headers, response.stream)

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
        route, names = find(request.method, segments)
        body = {}
        if route.method == "POST":
            if self._site.read_only:
                raise HttpError(403, "read_only", "This interface is read-only: nothing was changed.")
            check_change(request.headers)
            if request.body is None:
                raise HttpError(408, "no_body", "The body did not arrive.")
            if len(request.body) > MAX_BODY:
                raise HttpError(413, "too_large", f"A body has {MAX_BODY:,} bytes at the most.")
            body = bodies.read(request.body, route.body)
        name = names.get("queue")
        found = self.queues.get(name or "")
        if name is not None and found is None and route.view is not pages.page:
            raise HttpError(404, "no_such_queue", "There is no queue of this name here.")
        params = read_all(route.params, parse_query(query))
        call = Call(request, self._site, segments, names, params, body, found)
        async with asyncio.timeout(PATIENCE):
            response = await route.view(call)
        if request.method == "HEAD" and response.stream is not None:
            await response.stream.aclose()
            return Response(response.status, b"", response.headers)
        return response

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


def _health(request: Request) -> Response:
    """For a probe: that this process answers, and nothing about it or about Redis."""
    if request.method not in ("GET", "HEAD"):
        raise wrong_method({"GET", "HEAD"})
    return Response(200, b"OK", {"Content-Type": TEXT})
