"""Scheduled jobs and delayed retries: when they start, and that nobody has to look for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import (
    FAR,
    SOON,
    QueueFactory,
    attached,
    claim,
    claim_keys,
    counts,
    enqueue,
    status_of,
    turns,
)

#: Who was not told and looks by himself does so after seconds; a busy machine needs some time as well.
LATE = 1.5


async def seconds_until_claimed(waiting: Awaitable[Job | None], queue: Queue, due: float) -> float:
    """How long after `due`, by the clock that decides, a job was claimed."""
    job = await waiting
    assert job is not None
    assert job.started / 1000 >= int(due * 1000) / 1000, "never before its time"
    return job.started / 1000 - due


@pytest.mark.parametrize("scheduled", [0, 0.0, 0.4, 1, 1e9, -1, -1.5, -1e15])
async def test_a_time_that_has_passed_is_now(scheduled: float, queue: Queue, other: Queue):
    await queue.enqueue("f", key="k", scheduled=scheduled)
    assert await counts(other) == {"queued": 1, "incomplete": 1}
    assert await claim_keys(other) == ["k"]


@pytest.mark.parametrize("scheduled", [FAR, FAR + 0.25, 1e12, 9e12])
async def test_a_time_to_come_is_waited_for(scheduled: float, queue: Queue, other: Queue):
    await queue.enqueue("f", key="k", scheduled=scheduled)
    await enqueue(queue, "now")
    assert await counts(other) == {"queued": 1, "scheduled": 1, "incomplete": 2}
    job = await other.job("k")
    assert job is not None
    assert (job.scheduled, job.status) == (scheduled, Status.QUEUED)
    step = await other.step((), 2)
    assert [job.key for job in step.jobs] == ["now"]
    assert await other.schedule() == []


async def test_a_scheduled_job_starts_at_its_time(queue: Queue, other: Queue):
    due = await queue.server_time() + 0.3004
    await other.enqueue("f", scheduled=due)
    assert (await queue.step((), 1)).jobs == []
    assert await seconds_until_claimed(queue.dequeue(timeout=SOON), queue, due) < LATE


async def test_who_waits_already_hears_of_a_scheduled_job(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
    await other.step((), 0)
    await turns(5)
    due = await queue.server_time() + 0.05
    await other.enqueue("f", scheduled=due)
    assert await seconds_until_claimed(waiting, queue, due) < LATE


async def test_who_waits_hears_that_a_job_is_due_earlier(queue: Queue, other: Queue):
    now = await queue.server_time()
    await other.enqueue("f", key="late", scheduled=now + 3600)
    waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
    await other.step((), 0)
    await other.enqueue("f", key="soon", scheduled=now + 0.1)
    assert await seconds_until_claimed(waiting, queue, now + 0.1) < LATE


async def test_an_attached_claimant_is_told_of_earlier_jobs(queue: Queue, other: Queue):
    async with attached(queue) as recorder:
        await other.enqueue("f", scheduled=FAR)
        await recorder.news.wait()
        recorder.news.clear()
        await other.enqueue("f", scheduled=FAR + 1)
        await other.enqueue("f", scheduled=FAR - 1)
        await recorder.news.wait()


async def test_jobs_that_became_due_together_start_in_the_order_of_their_times(queue: Queue, other: Queue):
    now = await queue.server_time()
    for key, delay in {"c": 0.03, "a": 0.01, "b": 0.02}.items():
        await queue.enqueue("f", key=key, scheduled=now + delay)
    while await other.count("scheduled"):
        await other.schedule()
    assert await claim_keys(other) == ["a", "b", "c"]


async def test_schedule_says_what_it_has_moved(queue: Queue, other: Queue):
    await queue.enqueue("f", key="k", scheduled=await queue.server_time() + 0.02)
    moved: list[str] = []
    while not moved:
        moved = await other.schedule()
    assert moved == [queue.job_id("k")]
    assert await counts(queue) == {"queued": 1, "incomplete": 1}


@pytest.mark.parametrize("delay", [0.3, 0.3005])
async def test_a_retry_waits_its_delay(delay: float, queue: Queue, other: Queue):
    await enqueue(queue, "k", retries=2, retry_delay=delay)
    job = await claim(queue)
    before = await queue.server_time()
    await job.retry("no")
    assert (await other.step((), 1)).jobs == []
    assert await status_of(other, "k") == "scheduled"
    waiting = await other.job("k")
    assert waiting is not None
    assert waiting.scheduled >= before + delay - 0.001
    again = await other.dequeue(timeout=SOON)
    assert again is not None
    assert again.started / 1000 >= before + delay - 0.001
    assert (again.attempts, again.error, again.scheduled) == (2, "no", 0)


async def test_who_waits_already_hears_of_a_delayed_retry(queue: Queue, other: Queue):
    await enqueue(queue, "k", retries=2, retry_delay=0.05)
    job = await claim(queue)
    assert await other.dequeue(timeout=0.02) is None  # whatever was to wake him has done so
    waiting = asyncio.create_task(other.dequeue(timeout=SOON))
    await queue.step((), 0)
    await turns(5)
    due = await queue.server_time() + 0.05
    await job.retry("no")
    assert await seconds_until_claimed(waiting, queue, due) < LATE


async def test_a_retry_with_backoff_waits_a_random_time_up_to_its_limit(queue: Queue):
    job = Job("f", retry_delay=1.0, retry_backoff=True)
    for charged, limit in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0)):
        job._charged = charged  # type: ignore[misc]
        delays = [job.next_retry_delay() for _ in range(200)]
        assert all(0 <= delay <= limit for delay in delays)
        assert max(delays) > limit / 2
        assert len(set(delays)) > 100
    job.retry_backoff = 2.5
    assert max(job.next_retry_delay() for _ in range(500)) <= 2.5
    job._charged = 10_000  # type: ignore[misc]
    assert job.next_retry_delay() <= 2.5


async def test_a_job_given_back_for_a_while_comes_back_to_its_place(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b")
    job = await claim(queue)
    await queue.step([queue.settle_return(job, "later", 0.01)], 0)
    while await other.count("scheduled"):
        await other.schedule()
    assert await claim_keys(other) == ["a", "b"]


async def test_a_job_run_now_does_not_wait(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
    await other.enqueue("f", key="k", scheduled=FAR)
    assert await other.run_now("k")
    job = await waiting
    assert job is not None
    assert (job.key, job.scheduled) == ("k", 0)


async def test_a_finished_job_that_had_a_time_runs_again_at_once(queue: Queue, other: Queue):
    await queue.enqueue("f", key="k", scheduled=FAR)
    await other.run_now("k")
    await other.finish(await claim(other), Status.FAILED, error="no")
    assert await queue.requeue("k")
    assert await claim_keys(other) == ["k"]


async def test_many_jobs_that_are_due_are_all_started(queue: Queue, other: Queue):
    due = await queue.server_time() + 0.02
    await queue.enqueue_many(Job("f", key=f"{i}", scheduled=due) for i in range(450))
    claimed: list[str] = []
    while len(claimed) < 450:
        job = await other.dequeue(timeout=SOON)
        assert job is not None
        claimed += [job.key, *await claim_keys(other, 100)]
    assert sorted(claimed) == sorted(f"{i}" for i in range(450))


async def test_the_clock_is_the_servers(
    queue: Queue, queue_factory: QueueFactory, monkeypatch: pytest.MonkeyPatch
):
    import time

    real = time.time
    due = await queue.server_time() + 0.5
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    fast = queue_factory()
    job = await fast.enqueue("f", key="k", scheduled=due)
    assert job is not None
    assert job.queued / 1000 < due
    assert (await fast.step((), 1)).jobs == []
    claimed = await fast.dequeue(timeout=SOON)
    assert claimed is not None
    assert claimed.started / 1000 < due + LATE
