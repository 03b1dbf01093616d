"""How long a finished job is kept."""

from __future__ import annotations

import asyncio

import pytest

from saq.job import Status
from saq.queue.base import Queue
from tests.conformance.helpers import SOON, all_keys, claim, enqueue, run_one, status_of

ENDS = [Status.COMPLETE, Status.ABORTED, Status.FAILED]


async def until_gone(queue: Queue, key: str) -> float:
    """Seconds until a job is not there any more."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(SOON):
        while await queue.job(key) is not None:
            pass
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.ABORTED])
@pytest.mark.parametrize("ttl", [0.3, 0.3005])
async def test_a_record_is_kept_for_its_ttl_and_no_longer(ttl: float, status: Status, queue: Queue):
    await enqueue(queue, "k", ttl=ttl)
    await run_one(queue, status)
    assert await status_of(queue, "k") == status.value
    assert 0.05 < await until_gone(queue, "k") < 2
    assert await all_keys(queue) == []


async def test_a_failed_job_is_kept_longer_for_whoever_looks_into_it(queue: Queue):
    await enqueue(queue, "failed", "complete", ttl=0.01)
    await run_one(queue, Status.FAILED, error="no")
    await run_one(queue)
    await until_gone(queue, "complete")
    assert await status_of(queue, "failed") == "failed"


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("ttl", [0, 0.0, 1e-9, 1e12, 1e18, 1e300])
async def test_a_ttl_of_zero_or_beyond_all_time_keeps_the_record(ttl: float, status: Status, queue: Queue):
    await enqueue(queue, "k", "next", ttl=ttl)
    job = await run_one(queue, status, error="e")
    assert job.status is status
    if ttl != 1e-9:
        assert await status_of(queue, "k") == status.value
    assert (await claim(queue)).key == "next"
    assert await queue.enqueue("f", key="k") is not None


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("ttl", [-1, -0.001, -1e300])
async def test_a_ttl_below_zero_keeps_nothing(ttl: float, status: Status, queue: Queue, other: Queue):
    await enqueue(queue, "k", ttl=ttl)
    job = await claim(queue)
    await job.update(progress=0.5)
    await job.finish(status, result=1)
    assert job.status is status
    assert await status_of(other, "k") == "missing"
    assert await all_keys(other) == []


@pytest.mark.parametrize("second", [-1, 0, 600])
@pytest.mark.parametrize("first", [*ENDS])
async def test_the_end_of_the_next_life_replaces_the_record_of_the_last(
    first: Status, second: float, queue: Queue, other: Queue
):
    await enqueue(queue, "k", ttl=0)
    await run_one(queue, first, error="first")
    assert await status_of(other, "k") == first.value
    await enqueue(queue, "k", ttl=second)
    assert await status_of(other, "k") == "queued"
    assert await all_keys(other, ENDS) == []
    for last in ENDS:
        await run_one(queue, last, result="second")
        job = await other.job("k")
        if second < 0:
            assert job is None
        else:
            assert job is not None
            assert (job.status, job.result, job.error) == (last, "second", None)
            assert await all_keys(other) == ["k"]
        await enqueue(queue, "k", ttl=second)


async def test_a_job_that_was_aborted_while_it_waited_keeps_its_ttl(queue: Queue):
    await enqueue(queue, "gone", ttl=-1)
    await enqueue(queue, "kept", ttl=0)
    for key in ("gone", "kept"):
        job = await queue.job(key)
        assert job is not None
        await job.abort("no")
    assert await all_keys(queue) == ["kept"]


async def test_a_ttl_can_be_changed_while_the_job_is_incomplete(queue: Queue, other: Queue):
    await enqueue(queue, "k", ttl=0)
    job = await claim(queue)
    await (await other.job("k") or job).update(ttl=-1)
    await job.finish(Status.COMPLETE)
    assert await status_of(other, "k") == "missing"
