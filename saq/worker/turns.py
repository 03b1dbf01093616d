"""Jobs of several queues, claimed one by one.

Owns whose turn it is when a worker is asked for one job at a time. Must not run it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from saq.job import Job
from saq.queue.base import LOOK_EVERY, Queue


class Turns:
    """Claims single jobs, from the first queue that has one.

    Args:
        weights: of the queues, or None for each: then they are served in their order.
    """

    def __init__(self, weights: Sequence[float | None]) -> None:
        self._strides = [1 / weight if weight else 0.0 for weight in weights]
        #: How far each has come: its jobs by weight.
        self._come = [0.0] * len(weights)

    async def dequeue(self, queues: Sequence[Queue], timeout: float) -> tuple[int, Job | None]:
        """A job, and the position of its queue; waits ``timeout`` seconds for one (0: without limit)."""
        deadline = time.monotonic() + timeout if timeout else float("inf")
        woken: set[int] = set()
        while True:
            wait = LOOK_EVERY
            order = self._order()
            for tried, position in enumerate(order):
                step = await queues[position]._claim_one()
                woken.discard(position)
                if step.jobs:
                    self._served(order[:tried], position)
                    for other in woken:
                        # It may have been told of work, and somebody else must be now.
                        await queues[other].step((), 0)
                    return position, step.jobs[0]
                if step.wait is not None:
                    wait = min(wait, step.wait)
            left = deadline - time.monotonic()
            if left <= 0:
                return 0, None
            woken = await _woken(queues, min(wait, left))

    def _order(self) -> list[int]:
        strides, come = self._strides, self._come
        return sorted(range(len(come)), key=lambda position: come[position] + strides[position])

    def _served(self, empty: Iterable[int], position: int) -> None:
        come = self._come
        for other in empty:
            # What it did not have, it has not saved up.
            come[other] = max(come[other], come[position])
        come[position] += self._strides[position]


async def _woken(queues: Sequence[Queue], seconds: float) -> set[int]:
    """Waits until a queue may have work, or so long. Which have been told of some."""
    waits = {
        asyncio.create_task(queue.wait_for_work(LOOK_EVERY), name="saq-wait"): position
        for position, queue in enumerate(queues)
    }
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)
    failed = [task for task in done if not task.cancelled() and task.exception() is not None]
    if failed:
        await asyncio.sleep(0.05)  # if a server is gone, the next claim will say so
    return {waits[task] for task in done} - {waits[task] for task in failed}
