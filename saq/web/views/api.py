"""The JSON API: what the queues hold, and the two things one may do to a job.

Owns which operation of a queue a route stands for and what its answer means. Must not change anything but
through those operations: they are fenced, so what comes too late changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from saq.errors import RunningError
from saq.job import TERMINAL_STATUSES, Job, Status
from saq.utils import now
from saq.web import present
from saq.web.call import AWAY, Call
from saq.web.http import HttpError, Response, json_response, parse_query, whole_number

logger = logging.getLogger("saq")

#: Jobs of one page.
DEFAULT_LIMIT = 50
MAX_LIMIT = 100
MAX_OFFSET = 1_000_000_000

REASON = "aborted from the web interface"


async def list_queues(call: Call) -> Response:
    """All queues. One whose server is away does not hide the others; if all are, that is the answer."""
    names = list(call.queues)
    found = await asyncio.gather(
        *(call.queues[name].info() for name in names),
        return_exceptions=True,
    )
    queues: list[dict[str, Any]] = []
    unavailable: list[dict[str, Any]] = []
    for name, info in zip(names, found, strict=True):
        if not isinstance(info, BaseException):
            queues.append(present.queue(info))
        elif isinstance(info, AWAY) and len(names) > 1:
            unavailable.append(present.queue_name(name))
        else:
            raise info
    if unavailable and not queues:
        raise next(info for info in found if isinstance(info, BaseException))
    return json_response({"now": now(), "queues": queues, "unavailable": unavailable})


async def show_queue(call: Call) -> Response:
    """A queue, its workers, and a page of its incomplete jobs: running, queued, scheduled."""
    fields = parse_query(call.query)
    offset = whole_number(fields.get("offset"), 0, 0, MAX_OFFSET)
    limit = whole_number(fields.get("limit"), DEFAULT_LIMIT, 1, MAX_LIMIT)
    info = await call.queue.info(jobs=True, offset=offset, limit=limit)
    return json_response(
        {"now": now(), "offset": offset, "limit": limit, "queue": present.queue(info)},
    )


async def show_job(call: Call) -> Response:
    """A job with all its fields."""
    return json_response({"now": now(), "job": _present(await _job(call))})


async def retry(call: Call) -> Response:
    """Queues a finished job again, its attempts forgotten."""
    _check_body(call)
    job = await _job(call)
    try:
        # By its key: through the handle, a job that this very process runs would be ended and tried again.
        changed = await call.queue.requeue(job.key)
    except RunningError:
        raise HttpError(
            409, "running", "It is running: nothing was changed. Abort it, or wait for its end."
        ) from None
    if not changed:
        raise HttpError(409, "not_finished", "It waits to be run already: nothing was changed.")
    return await _done(call, job, "retried", "It is queued again.")


async def abort(call: Call) -> Response:
    """Ends a job that waits, asks for the end of one that runs."""
    _check_body(call)
    job = await _job(call)
    if job.status in TERMINAL_STATUSES or not await call.queue.abort(job, REASON):
        raise HttpError(409, "finished", "It had ended already: nothing was changed.")
    if job.status is Status.ABORTING:
        return await _done(call, job, "aborted", "Its worker was told to stop it.")
    return await _done(call, job, "aborted", "It was aborted before it started.")


async def _job(call: Call) -> Job:
    job = await call.queue.job(call.names["job"])
    if job is None:
        raise HttpError(404, "no_such_job", "There is no job of this key, or it is kept no longer.")
    return job


def _check_body(call: Call) -> None:
    """These changes have no parameters: nothing, or an object without fields."""
    body = call.request.body or b""
    if not body.strip():
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpError(400, "not_json", "The body is not JSON.") from None
    if value != {}:
        raise HttpError(422, "unknown_field", "This takes an empty object: it has no parameters.")


async def _done(call: Call, job: Job, what: str, message: str) -> Response:
    logger.info(
        "Web: %s %s the job %r of the queue %r",
        call.request.peer or "somebody",
        what,
        job.key,
        call.queue.name,
    )
    after = await call.queue.job(job.key)
    return json_response(
        {"now": now(), "message": message, "job": None if after is None else _present(after)},
    )


def _present(job: Job) -> dict[str, Any]:
    return present.job(job.get_queue().name, job.__dict__, present.LONG)
