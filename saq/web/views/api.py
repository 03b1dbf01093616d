"""What this interface is, and its queues.

Owns what is said of a queue as a whole. Must not change anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import STATES, Counts
from saq.types import QueueInfo
from saq.utils import now
from saq.version import __version__
from saq.web import present
from saq.web.call import Call
from saq.web.http import Response, json_response
from saq.web.params import MAX_TEXT
from saq.web.search import LOOK
from saq.web.views import every, history
from saq.web.views.actions import ACTIONS


async def about(call: Call) -> Response:
    """What the page has to know of where it is."""
    return json_response(
        {
            "version": __version__,
            "read_only": call.site.read_only,
            "redacted": call.site.presenter.redacts,
            "states": list(STATES),
            "actions": [] if call.site.read_only else list(ACTIONS),
            "limits": {"searched": LOOK, "text": MAX_TEXT, "minutes": history.MINUTES},
        }
    )


async def document(call: Call) -> Response:
    """The OpenAPI document."""
    return json_response(call.site.document)


async def list_queues(call: Call) -> Response:
    """All queues, without their jobs."""

    async def shown(queue: Queue) -> dict[str, Any]:
        return _shown(call, queue, *await _read(call, queue), ())

    queues, unavailable = await every.ask(call.site, shown)
    return json_response({"now": now(), "queues": queues, "unavailable": unavailable})


async def show_queue(call: Call) -> Response:
    """A queue, its workers, and a page of its incomplete jobs: running, queued, scheduled."""
    queue, offset, limit = call.queue, call.params["offset"], call.params["limit"]
    (counts, info, recent), functions, jobs = await asyncio.gather(
        _read(call, queue), queue.views.functions(), queue.views.incomplete(offset, limit)
    )
    return json_response(
        {
            "now": counts.now,
            "offset": offset,
            "limit": limit,
            "functions": functions,
            "queue": _shown(call, queue, counts, info, recent, jobs),
        }
    )


async def _read(call: Call, queue: Queue) -> tuple[Counts, QueueInfo, dict[str, Any]]:
    found: tuple[Counts, QueueInfo, dict[str, Any]] = await asyncio.gather(
        queue.views.counts(), queue.info(), history.recent(call.site, queue)
    )
    return found


def _shown(
    call: Call, queue: Queue, counts: Counts, info: QueueInfo, recent: dict[str, Any], jobs: Sequence[Job]
) -> dict[str, Any]:
    return {
        **present.queue(queue.name, counts),
        "recent": recent,
        "workers": {id: present.worker(worker) for id, worker in info["workers"].items()},
        "jobs": [call.site.presenter.job(job, present.SHORT) for job in jobs],
    }
