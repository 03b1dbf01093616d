"""Every route, filled in, and what has to be there so that it does what it is for.

Made of the table of routes itself: a route that is added is tested for methods, password, origin, headers and
errors, or these tests say that they do not know how.
"""

from __future__ import annotations

import json
import re
import time
from typing import NamedTuple

from saq import Job, Queue
from saq.queue.views import CronEntry, Report
from saq.web import paths
from saq.web.routes import ROUTES, Route

ENTRY = "nightly:0 3 * * *"
#: What stands in a path for the names in it.
NAMES = {
    "queue": "default",
    "job": "a",
    "worker": "w",
    "entry": ENTRY,
    "page": "nothing",
    "file": "app.js",
}
#: Actions that need a job that has ended.
AGAIN = ("retry",)


class Target(NamedTuple):
    """A request that is right; ``status`` is that of its answer, ``streams`` whether that goes on."""

    method: str
    path: str
    body: bytes
    status: int
    streams: bool

    @property
    def api(self) -> bool:
        """Whether it asks Redis."""
        return self.path.startswith("/api") and self.path not in ("/api/about", "/api/openapi.json")


def target_of(route: Route) -> Target:
    path = re.sub(r"{(\w+)(\.\.\.)?}", lambda found: paths.encode(NAMES[found[1]]), route.path)
    body = json.dumps({"keys": ["a"]}).encode() if route.body == "Bulk" else b""
    return Target(route.method, path, body, 404 if "{page}" in route.path else 200, path == "/api/events")


TARGETS = [target_of(route) for route in ROUTES]
IDS = [f"{target.method} {target.path}" for target in TARGETS]


async def prepare(queue: Queue, target: Target | None = None) -> None:
    """A job, a worker and a cron entry; the job has ended if the target is meant for one that has."""
    await queue.worker_info("w", queue_key="default", metadata={"host": "h"})
    entry = CronEntry(ENTRY, "0 3 * * *", "UTC", True, Job("nightly", key=f"cron:{ENTRY}"))
    await queue.report("w", Report({"host": "h", "uptime": 5}, [entry], {0: 1}, {"f": (1, {0: 1})}))
    await queue.enqueue("f", key="a", scheduled=time.time() + 100)
    if target is not None and target.path.endswith(AGAIN):
        await queue.abort(Job("f", key="a"), "x")
