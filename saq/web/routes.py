"""The table of routes.

Owns which path is what, what its query may say, and which shapes its body and its answer have. Must not know
how a view does it, nor how a request comes in. The OpenAPI document is made of this table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from saq.queue.views import STATES
from saq.web import paths
from saq.web.call import Call
from saq.web.http import HttpError, Response
from saq.web.params import MAX_TEXT, Param
from saq.web.schemas import STATUSES
from saq.web.views import actions, api, history, jobs, live, monitoring, pages, schedule, workers

View = Callable[[Call], Awaitable[Response]]


class Route(NamedTuple):
    """A path, with ``{queue}`` and the like for any one segment, and what answers there.

    GET answers HEAD as well. POST changes something, and nothing else does. A last segment ``{name...}``
    stands for all that follow.

    Args:
        summary: what it does, in a line; "" for what is no part of the API.
        params: of its query.
        body, answer: their shapes, by name.
    """

    method: str
    path: str
    view: View
    summary: str = ""
    params: tuple[Param, ...] = ()
    body: str = ""
    answer: str = ""


_CURSOR = Param("cursor", "the ``next`` of the answer before; none is the beginning")
_FILTERS = (
    Param("function", "an exact name"),
    Param("status", "a status", choices=STATUSES),
    Param("text", "part of key, function, arguments or error, in any case", longest=MAX_TEXT),
    Param("worker", "who runs it, or ran it last"),
    Param("group", "a group of failures"),
)
_STATE = Param("state", "which list", default="queued", choices=STATES)
_LIMIT = Param("limit", "jobs of a page, from 1 to 100", default=50, low=1, high=jobs.PAGE)
_OFFSET = Param("offset", "jobs to skip", default=0, low=0, high=1_000_000_000)
_MINUTES = Param("minutes", "how far back, from 5 to 4,320", default=60, low=5, high=history.MINUTES)
_AFTER = Param("after", "only samples that are younger (milliseconds)", default=0, low=0, high=2**53)

_QUEUE = "/api/queues/{queue}"
_JOB = f"{_QUEUE}/jobs/{{job}}"

ROUTES = (
    Route("GET", "/", pages.page),
    Route("GET", "/failed", pages.page),
    Route("GET", "/schedule", pages.page),
    Route("GET", "/workers", pages.page),
    Route("GET", "/queues/{queue}", pages.page),
    Route("GET", "/queues/{queue}/{page}", pages.page),
    Route("GET", "/queues/{queue}/jobs/{job}", pages.page),
    Route("GET", "/static/{file...}", pages.static),
    Route("GET", "/metrics", monitoring.metrics),
    Route("GET", "/ready", monitoring.ready),
    Route("GET", "/api/about", api.about, "What this interface is and may", answer="About"),
    Route("GET", "/api/openapi.json", api.document, "This document", answer="Document"),
    Route("GET", "/api/queues", api.list_queues, "All queues", answer="Queues"),
    Route(
        "GET",
        _QUEUE,
        api.show_queue,
        "A queue, its workers, and a page of its incomplete jobs: running, queued, scheduled",
        params=(_OFFSET, _LIMIT),
        answer="QueuePage",
    ),
    Route(
        "GET",
        f"{_QUEUE}/jobs",
        jobs.list_jobs,
        "Jobs of one state, in its order",
        params=(_STATE, _CURSOR, _LIMIT, *_FILTERS),
        answer="JobList",
    ),
    Route(
        "GET",
        f"{_QUEUE}/count",
        jobs.count_jobs,
        "How many jobs match, a slice at a time",
        params=(_STATE, _CURSOR, *_FILTERS),
        answer="Count",
    ),
    Route(
        "GET",
        f"{_QUEUE}/failures",
        jobs.list_failures,
        "Failed jobs in groups, a slice at a time",
        params=(_CURSOR,),
        answer="Failures",
    ),
    Route("GET", _JOB, jobs.show_job, "A job, with its timeline", answer="JobPage"),
    *(
        Route(
            "POST",
            f"{_JOB}/{action}",
            actions.on_one(action),
            f"One job: {what}",
            body="Seen",
            answer="Changed",
        )
        for action, what in actions.ACTIONS.items()
    ),
    *(
        Route(
            "POST",
            f"{_QUEUE}/bulk/{action}",
            actions.on_many(action),
            f"Some jobs, or a slice of all that match: {what}",
            body="Bulk",
            answer="BulkDone",
        )
        for action, what in actions.ACTIONS.items()
    ),
    Route(
        "POST", f"{_QUEUE}/pause", actions.pause, "Hands out no more jobs", body="Nothing", answer="Paused"
    ),
    Route(
        "POST", f"{_QUEUE}/resume", actions.resume, "Hands out jobs again", body="Nothing", answer="Paused"
    ),
    Route("GET", "/api/workers", workers.list_all, "All workers", answer="Workers"),
    Route("GET", f"{_QUEUE}/workers", workers.list_of_queue, "The workers of a queue", answer="Workers"),
    Route(
        "POST",
        f"{_QUEUE}/workers/{{worker}}/quiet",
        workers.quiet,
        "Has a worker take no more jobs for some time",
        body="Seconds",
        answer="Quiet",
    ),
    Route(
        "POST",
        f"{_QUEUE}/workers/{{worker}}/resume",
        workers.resume,
        "Has a worker take jobs again",
        body="Nothing",
        answer="Quiet",
    ),
    Route("GET", "/api/schedule", schedule.list_all, "All cron entries", answer="Schedule"),
    Route(
        "GET", f"{_QUEUE}/schedule", schedule.list_of_queue, "The cron entries of a queue", answer="Schedule"
    ),
    Route(
        "POST",
        f"{_QUEUE}/schedule/{{entry}}/run",
        schedule.run,
        "Enqueues the job of a cron entry now",
        body="Nothing",
        answer="Changed",
    ),
    Route(
        "GET",
        "/api/history",
        history.of_all,
        "All queues minute by minute",
        params=(_MINUTES,),
        answer="History",
    ),
    Route(
        "GET",
        f"{_QUEUE}/history",
        history.of_queue,
        "A queue minute by minute",
        params=(_MINUTES,),
        answer="History",
    ),
    Route(
        "GET",
        "/api/live",
        live.poll,
        "All queues second by second, while somebody watches",
        params=(_AFTER,),
        answer="Live",
    ),
    Route("GET", "/api/events", live.events, "The same as server-sent events", params=(_AFTER,)),
)

_PATTERNS = [(route, [part.encode() for part in route.path[1:].split("/")]) for route in ROUTES]


def find(method: str, segments: list[bytes]) -> tuple[Route, dict[str, str]]:
    """The route for these raw segments, and the names in them. Raises ``HttpError`` 404 or 405."""
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
        raise wrong_method(allowed)
    raise HttpError(404, "not_found", "There is nothing at this address.")


def _match(pattern: list[bytes], segments: list[bytes]) -> dict[str, str] | None:
    if pattern[-1].endswith(b"...}"):
        at = len(pattern) - 1
        segments = [*segments[:at], b"/".join(segments[at:])] if len(segments) > at else segments
    if len(pattern) != len(segments):
        return None
    names: dict[str, str] = {}
    for part, segment in zip(pattern, segments, strict=True):
        if part.startswith(b"{"):
            name = paths.decode(segment)
            if name is None:
                return None
            names[part[1:-1].decode().removesuffix("...")] = name
        elif part != segment:
            return None
    return names


def wrong_method(allowed: set[str]) -> HttpError:
    """What is said to a method that a path does not take."""
    methods = ", ".join(sorted(allowed))
    return HttpError(405, "wrong_method", f"This address takes {methods}.", {"Allow": methods})
