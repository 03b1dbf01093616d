"""Jobs: lists of them, how many match, failures in groups, and one with its timeline.

Owns how far one request looks. Must not change anything.
"""

from __future__ import annotations

import asyncio
from typing import Any

from saq.job import Job
from saq.web import cursors, paths, present
from saq.web.call import Call
from saq.web.http import HttpError, Response, json_response
from saq.web.search import LOOK, Filter, Found, find

#: Jobs of one page, at the most.
PAGE = 100


async def list_jobs(call: Call) -> Response:
    """Jobs of one state, in its order, as far as they match."""
    found = await _find(call, call.params["limit"])
    return json_response(
        {
            **found.shown(),
            "state": call.params["state"],
            "limit": call.params["limit"],
            "jobs": [call.site.presenter.job(job, present.SHORT) for job in found.jobs],
        }
    )


async def count_jobs(call: Call) -> Response:
    """How many jobs of a slice match. With nothing to match, the server knows of all at once."""
    state = call.params["state"]
    wanted = Filter.of(call.site.presenter, call.params)
    # Of finished jobs some have outlived their time, so that these are looked at.
    if wanted.open and not call.params["cursor"] and state != "finished":
        part = await call.queue.views.browse(state, look=1, find=1)
        slice = {"now": part.now, "total": part.total, "position": 0, "searched": part.total, "next": None}
        return json_response({**slice, "state": state, "matched": part.total})
    found = await _find(call, LOOK)
    return json_response({**found.shown(), "state": state, "matched": len(found.jobs)})


async def list_failures(call: Call) -> Response:
    """The failed jobs of a slice, those of one function and one error together."""
    cursor = cursors.read(call.params["cursor"])
    presenter = call.site.presenter
    found = await find(call.queue, "failed", cursor, Filter(presenter), LOOK)
    groups: dict[str, dict[str, Any]] = {}
    for job in found.jobs:
        function = str(job.function)
        group, error = present.group_of(function, presenter.error(job))
        known = groups.setdefault(
            group,
            {
                "group": group,
                "function": function[: present.SHORT],
                "error": error,
                "count": 0,
                # The newest comes first, and stands for all.
                "newest": job.completed,
                "oldest": job.completed,
                "key": str(job.key),
                "path": paths.join("queues", call.queue.name, "jobs", str(job.key)),
            },
        )
        known["count"] += 1
        known["newest"] = max(known["newest"], job.completed)
        known["oldest"] = min(known["oldest"], job.completed)
    return json_response({**found.shown(), "groups": list(groups.values())})


async def show_job(call: Call) -> Response:
    """A job with all its fields and attempts."""
    job, time = await asyncio.gather(read(call), call.queue.server_time())
    return json_response({"now": int(time * 1000), "job": whole(call, job)})


async def read(call: Call) -> Job:
    """The job that the path names. Raises ``HttpError`` 404."""
    (job,) = await call.queue.views.jobs([call.names["job"]])
    if job is None:
        raise HttpError(404, "no_such_job", "There is no job of this key, or it is kept no longer.")
    return job


def whole(call: Call, job: Job) -> dict[str, Any]:
    """A job as its own page shows it."""
    return call.site.presenter.job(job, present.LONG, call.queue.views.attempts(job))


async def _find(call: Call, limit: int) -> Found:
    cursor = cursors.read(call.params["cursor"])
    wanted = Filter.of(call.site.presenter, call.params)
    return await find(call.queue, call.params["state"], cursor, wanted, limit)
