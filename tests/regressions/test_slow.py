"""Queues and workers that asked Redis for more, and more often, than they needed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis import Redis

from saq import CronJob, Job
from saq.queue.redis import RedisQueue
from tests.redis.helpers import calls
from tests.worker.conftest import Work
from tests.worker.support import until

LARGE = "x" * 100_000


async def test_a_worker_does_not_fetch_again_what_it_runs(raw: Redis, client: RedisQueue, work: Work) -> None:
    """Each worker fetched all its running jobs each second, to see whether one was aborted, and enqueued each
    of its cron entries as often."""
    inside, on = 0, asyncio.Event()

    async def hold(ctx: Any, *, large: str) -> None:
        nonlocal inside
        inside += 1
        await on.wait()

    def sent() -> int:
        return int(raw.info("stats")["total_net_output_bytes"])

    entries = [CronJob(hold, f"0 0 1 1 {day}") for day in range(1, 6)]
    await work({"hold": hold}, cron_jobs=entries, concurrency=20, lease=0.9)
    await client.enqueue_many(Job("hold", kwargs={"large": LARGE}, timeout=0) for _ in range(20))
    await until(lambda: inside == 20)
    await client.count("queued")
    raw.config_resetstat()
    before, began = sent(), time.monotonic()
    await asyncio.sleep(2.5)  # time itself is the subject
    asked, answered = calls(raw, "evalsha", "eval"), sent() - before
    seconds = time.monotonic() - began
    on.set()
    assert answered < len(LARGE)
    assert 1 < asked / seconds < 8, "the leases are renewed each 0.3 seconds, and little else is done"
