"""Ticks of cron entries: each enqueues its job once, however many workers say so."""

from __future__ import annotations

import asyncio

from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import QueueFactory, claim, claim_keys, counts, run_one

ENTRY = "f * * * * * 0"


async def tick(queue: Queue, at: float, key: str = "cron:f", entry: str = ENTRY) -> str:
    return await queue.tick(entry, at, Job("f", key=key))


async def test_a_new_entry_is_only_recorded(queue: Queue, other: Queue):
    assert await tick(queue, 100) == "first"
    assert await counts(queue) == {}
    assert await tick(other, 100) == "done"
    assert await counts(other) == {}


async def test_each_tick_enqueues_its_job_once(queue: Queue, other: Queue):
    await tick(queue, 100)
    assert await tick(queue, 160) == "enqueued"
    assert await tick(other, 160) == "done"
    assert await counts(other) == {"queued": 1, "incomplete": 1}
    assert (await run_one(other)).key == "cron:f"
    assert await tick(other, 160) == "done", "nor when its job has ended already"
    assert await tick(other, 220) == "enqueued"
    assert await tick(queue, 220) == "done"


async def test_of_many_workers_one_enqueues_a_tick(queue_factory: QueueFactory):
    queues = [queue_factory() for _ in range(5)]
    await asyncio.gather(*(tick(queue, 100) for queue in queues))
    for at in (160.0, 220.0):
        verdicts = await asyncio.gather(*(tick(queue, at) for queue in queues * 3))
        assert sorted(verdicts) == ["done"] * 14 + ["enqueued"]
        await run_one(queues[0])


async def test_a_tick_whose_predecessor_is_incomplete_is_skipped(queue: Queue, other: Queue):
    await tick(queue, 100)
    assert await tick(queue, 160) == "enqueued"
    assert await tick(other, 220) == "running"
    job = await claim(queue)
    assert await tick(other, 280) == "running"
    await job.finish(Status.COMPLETE)
    assert await tick(other, 280) == "done", "skipped is skipped"
    assert await tick(other, 340) == "enqueued"


async def test_ticks_with_keys_of_their_own_may_overlap(queue: Queue):
    await tick(queue, 100, "a")
    assert await tick(queue, 160, "b") == "enqueued"
    assert await tick(queue, 220, "c") == "enqueued"
    assert await claim_keys(queue) == ["b", "c"]


async def test_a_tick_that_was_missed_is_enqueued_late_and_once(queue: Queue, other: Queue):
    await tick(queue, 100)
    assert await tick(queue, 10_000) == "enqueued"
    await run_one(queue)
    assert await tick(other, 9_940) == "done", "those before it are not made up for"
    assert await counts(other) == {}


async def test_a_tick_of_a_clock_that_is_ahead_has_to_wait(queue: Queue):
    await tick(queue, 100)
    at = await queue.server_time() + 3600
    assert await tick(queue, at) == "done"
    assert await counts(queue) == {}
    assert await tick(queue, at - 7200) == "enqueued"


async def test_entries_do_not_disturb_each_other(queue: Queue):
    for entry in ("a", "b", "a:b", "ü\ud800*"):
        assert await tick(queue, 100, key=entry, entry=entry) == "first"
    for entry in ("a", "b", "a:b", "ü\ud800*"):
        assert await tick(queue, 160, key=entry, entry=entry) == "enqueued"
    assert await queue.count("queued") == 4


async def test_the_job_of_a_tick_is_a_job_like_any_other(queue: Queue, other: Queue):
    job = Job("f", key="k", kwargs={"n": 1}, timeout=3, retries=2, ttl=-1, meta={"m": 1})
    await tick(queue, 100)
    assert await queue.tick(ENTRY, 160, job) == "enqueued"
    claimed = await claim(other)
    assert (claimed.kwargs, claimed.timeout, claimed.retries, claimed.ttl, claimed.meta) == (
        {"n": 1},
        3,
        2,
        -1,
        {"m": 1},
    )
