"""Workers: where they are, what each runs, and whether it takes jobs.

Owns what is shown of them. Must not stop one: it is asked to take no more jobs, and finishes what it runs.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from saq.queue.base import Queue
from saq.queue.views import Running, WorkersView, WorkerView
from saq.utils import now
from saq.web import paths, present
from saq.web.call import Call
from saq.web.http import HttpError, Response, json_response
from saq.web.views import every

logger = logging.getLogger("saq")

#: Jobs that are listed of one worker, those first that run longest; and of a queue those that are looked up.
OF_ONE = 12
LOOKED_UP = 120
#: Seconds for which a worker takes no jobs, unless one says otherwise, and at the most.
QUIET = 3600.0
LONGEST_QUIET = 7 * 86400.0


async def list_all(call: Call) -> Response:
    """The workers of all queues."""
    found, unavailable = await every.ask(call.site, _read)
    at = max((at for at, _ in found), default=now())
    shown = [worker for _, some in found for worker in some]
    return json_response({"now": at, "unavailable": unavailable, "workers": shown})


async def list_of_queue(call: Call) -> Response:
    """The workers of one queue."""
    at, shown = await _read(call.queue)
    return json_response({"now": at, "unavailable": [], "workers": shown})


async def _read(queue: Queue) -> tuple[int, list[dict[str, Any]]]:
    view = await queue.views.workers()
    running: defaultdict[str, list[Running]] = defaultdict(list)
    for job in sorted(view.running, key=lambda job: job.started):
        running[job.worker].append(job)
    listed = [job.key for some in running.values() for job in some[:OF_ONE]][:LOOKED_UP]
    functions = await queue.views.functions_of(listed)
    known = {worker.id: worker for worker in view.workers}
    # A worker that has jobs and no registration has died, or was cut off.
    ids = [*known, *(id for id in running if id not in known)]
    return view.now, [_shown(queue, view, id, known.get(id), running[id], functions) for id in ids]


def _shown(
    queue: Queue,
    view: WorkersView,
    id: str,
    worker: WorkerView | None,
    running: list[Running],
    functions: Mapping[str, str],
) -> dict[str, Any]:
    about = worker.about if worker is not None else {}
    known = present.worker(worker.info) if worker is not None else None
    quiet = worker.quiet if worker is not None else 0
    uptime = present.number(about.get("uptime"))
    reported = worker.reported if worker is not None else 0
    leased = min((job.leased for job in running), default=None)
    return {
        "id": id,
        "queue": queue.name,
        "path": paths.join("queues", queue.name, "workers", id),
        "state": "gone" if worker is None else "quiet" if quiet > view.now else "live",
        **{name: _text(about.get(name)) for name in ("host", "version", "python")},
        "metadata": known and known["metadata"],
        **{name: present.number(about.get(name)) for name in ("pid", "concurrency", "lease")},
        "lease_left_ms": None if leased is None else leased - view.now,
        "started": int(reported - uptime) if reported and uptime is not None else None,
        "seen": worker.seen if worker is not None else None,
        "expires": worker.expires if worker is not None else None,
        "quiet": quiet or None,
        "running": len(running),
        "partial": view.partial,
        "jobs": [
            {
                "key": job.key,
                "path": paths.join("queues", queue.name, "jobs", job.key),
                "function": _text(functions.get(job.key)),
                "started": job.started,
            }
            for job in running[:OF_ONE]
        ],
        "stats": known and known["stats"],
    }


def _text(given: Any) -> str | None:
    return None if given is None else str(present.scalar(given, present.SHORT))


async def quiet(call: Call) -> Response:
    """Asks a worker to take no more jobs for some time."""
    seconds = min(max(float(call.body.get("seconds", QUIET)), 1.0), LONGEST_QUIET)
    return await _ask(call, seconds, "It takes no more jobs, and finishes what it runs.")


async def resume(call: Call) -> Response:
    """Asks a worker to take jobs again."""
    return await _ask(call, 0, "It takes jobs again.")


async def _ask(call: Call, seconds: float, message: str) -> Response:
    id = call.names["worker"]
    until = await call.queue.views.quiet(id, seconds)
    if until is None:
        raise HttpError(404, "no_such_worker", "No worker of this name is registered, or it is no more.")
    logger.info(
        "Web: %s asked the worker %r of the queue %r to %s",
        call.request.peer or "somebody",
        id,
        call.queue.name,
        f"take no jobs for {int(seconds)} seconds" if seconds else "take jobs again",
    )
    return json_response({"now": now(), "message": message, "quiet": until or None})
