"""Whether a worker is well.

Owns the checks behind /ready and /health, and their limits. Must not start or change anything.

They answer different questions. /health: would it help to start this process anew? /ready: does it do its
work, or would it if there were any? A server that is away makes a worker not ready, but no new process would
help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from saq.errors import ServerError
from saq.observe.monitor import Monitor
from saq.queue.base import LOOK_EVERY, Queue

#: An idle worker looks for work every 5 seconds at the latest. One that has room and did not for so long …
CLAIM_LIMIT = 3 * LOOK_EVERY
#: … or whose event loop is so late, in seconds, is not ready.
LAG_LIMIT = 2.0
#: Without a sign of the event loop for so long, its jobs are given up: nothing is lost by ending the process.
DEAD_LIMIT = 600.0
#: A server is given so many seconds to answer.
PATIENCE = 2.0

#: What says that a server is not there, or not now.
AWAY = (ServerError, ConnectionError, TimeoutError)


class Readiness(NamedTuple):
    """Whether all is well, and what was looked at: for each check ``ok``, and what was found."""

    ready: bool
    checks: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON says it."""
        failing = [name for name, check in self.checks.items() if not check["ok"]]
        return {"ready": self.ready, "failing": failing, "checks": self.checks}


async def answers(queue: Queue) -> bool:
    """Whether the server of a queue answers."""
    try:
        async with asyncio.timeout(PATIENCE):
            await queue.server_time()
    except AWAY:
        return False
    return True


async def ask(queues: Iterable[Queue]) -> dict[str, bool]:
    """By name, whether the server of each queue answers."""
    asked = list(queues)
    found = await asyncio.gather(*map(answers, asked))
    return dict(zip((queue.name for queue in asked), found, strict=True))


def readiness(reached: dict[str, bool] | None, monitor: Monitor | None = None) -> Readiness:
    """What /ready says.

    Args:
        reached: of each queue, whether its server answers; None: the event loop could not even ask.
        monitor: of the worker in this process, if there is one.
    """
    checks: dict[str, dict[str, Any]] = {}
    if monitor is not None:
        checks["worker"] = {"ok": monitor.state == "working", "state": monitor.state}
        checks["claim"] = _claim(monitor)
        lag = monitor.lag
        checks["loop"] = {"ok": lag < LAG_LIMIT, "lag_seconds": round(lag, 3), "limit_seconds": LAG_LIMIT}
    if reached is None:
        checks["server"] = {"ok": False, "reason": "the event loop is blocked, and cannot ask"}
    else:
        checks["server"] = {"ok": all(reached.values()), "queues": reached}
    return Readiness(all(check["ok"] for check in checks.values()), checks)


def _claim(monitor: Monitor) -> dict[str, Any]:
    slots, busy = monitor.worker.concurrency, monitor.busy
    since = monitor.since_claim
    check: dict[str, Any] = {"limit_seconds": CLAIM_LIMIT, "slots": slots, "busy": busy}
    if busy >= slots:
        # It need not claim. Whether it can settle is for the other checks.
        return {"ok": True, "reason": "all slots are taken", **check}
    if monitor.worker.quiet:
        return {"ok": True, "reason": "it was asked to take no jobs", **check}
    if since is None:
        return {"ok": False, "reason": "it has not claimed yet", **check}
    return {"ok": since < CLAIM_LIMIT, "age_seconds": round(since, 3), **check}


def alive(monitor: Monitor) -> bool:
    """What /health says: False if only a new process would help."""
    return monitor.state != "working" or monitor.lag < DEAD_LIMIT
