"""Cron entries: in words, with their last and next tick, and to be run now.

Owns what is shown of them. That a tick happens once is the queue's affair.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import re
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from saq import cron
from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import EntryView
from saq.utils import now
from saq.web import paths, present
from saq.web.call import Call
from saq.web.http import HttpError, Response, json_response
from saq.web.views import every, jobs

logger = logging.getLogger("saq")

_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)")
_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
#: Fields of a line with seconds, which come last here and first in cron-descriptor.
_WITH_SECONDS = 6


async def list_all(call: Call) -> Response:
    """The entries of all queues."""

    async def read(queue: Queue) -> tuple[float, list[dict[str, Any]]]:
        return await _read(call, queue)

    found, unavailable = await every.ask(call.site, read)
    at = max((at for at, _ in found), default=now() / 1000)
    entries = [entry for _, some in found for entry in some]
    return json_response({"now": int(at * 1000), "unavailable": unavailable, "entries": entries})


async def list_of_queue(call: Call) -> Response:
    """The entries of one queue."""
    at, entries = await _read(call, call.queue)
    return json_response({"now": int(at * 1000), "unavailable": [], "entries": entries})


async def _read(call: Call, queue: Queue) -> tuple[float, list[dict[str, Any]]]:
    at = await queue.server_time()
    found = sorted(await queue.views.schedule(), key=lambda view: view.entry.name)
    latest = await queue.views.jobs([view.entry.job.key for view in found])
    return at, [_shown(call, queue, view, job, at) for view, job in zip(found, latest, strict=True)]


def _shown(call: Call, queue: Queue, view: EntryView, latest: Job | None, at: float) -> dict[str, Any]:
    entry = view.entry
    kwargs = entry.job.kwargs and call.site.presenter.seen("kwargs", entry.job.kwargs, entry.job)
    following = next_tick(entry.cron, entry.timezone, at)
    return {
        "name": entry.name,
        "queue": queue.name,
        "path": paths.join("queues", queue.name, "schedule", entry.name),
        "function": str(entry.job.function),
        "cron": entry.cron,
        "words": words(entry.cron),
        "timezone": entry.timezone,
        "unique": entry.unique,
        "kwargs": None if kwargs is None else present.value(kwargs, present.SHORT),
        "last": view.last or None,
        "next": None if following is None else int(following * 1000),
        "workers": view.workers,
        "job": None
        if latest is None
        else {
            "key": str(latest.key),
            "path": paths.join("queues", queue.name, "jobs", str(latest.key)),
            "state": present.state_of(latest),
        },
    }


async def run(call: Call) -> Response:
    """Enqueues the job of an entry, as a tick would."""
    name = call.names["entry"]
    found = [view.entry for view in await call.queue.views.schedule() if view.entry.name == name]
    if not found:
        raise HttpError(404, "no_such_entry", "No live worker has such a cron entry.")
    job = found[0].job
    if not job.function:
        raise HttpError(409, "not_readable", "Its job cannot be read here: nothing was enqueued.")
    key = job.key if found[0].unique else f"{job.key}:{now()}"
    sent = await call.queue.enqueue(dataclasses.replace(job, key=key))
    if sent is None:
        raise HttpError(409, "incomplete", "Its last job waits or runs still: nothing was enqueued.")
    logger.info(
        "Web: %s ran the cron entry %r of the queue %r",
        call.request.peer or "somebody",
        name,
        call.queue.name,
    )
    (shown,) = await call.queue.views.jobs([key])
    return json_response(
        {
            "now": now(),
            "message": "It was enqueued.",
            "job": None if shown is None else jobs.whole(call, shown),
        }
    )


@lru_cache(maxsize=1000)
def words(expression: str) -> str:
    """A cron line as people say it; itself where there are no words for it."""
    try:
        from cron_descriptor import Options, get_description
    except ImportError:  # the extra `web` brings it
        return expression
    fields = _SHORTHANDS.get(expression, expression).split()
    if len(fields) == _WITH_SECONDS:
        fields = [fields[-1], *fields[:-1]]
    options = Options()
    options.use_24hour_time_format = True
    options.verbose = False
    try:
        said = get_description(" ".join(fields), options)
    except Exception:  # what croniter reads and nobody else does
        return expression
    return str(said)


def next_tick(expression: str, timezone: str, at: float) -> float | None:
    """When an entry is due next, in epoch seconds; None if that cannot be said."""
    try:
        return cron.next_tick(expression, at, _zone(timezone))
    except Exception:  # a line or a time zone that is none here
        return None


def _zone(name: str) -> dt.tzinfo:
    """A time zone by its name, as ``str`` made it."""
    if found := _OFFSET.fullmatch(name):
        sign, hours, minutes = found.groups()
        offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
        return dt.timezone(-offset if sign == "-" else offset)
    return dt.UTC if name == "UTC" else ZoneInfo(name)
