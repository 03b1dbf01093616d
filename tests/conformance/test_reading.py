"""Reading jobs: by key, all of them, by pages, and how many there are."""

from __future__ import annotations

import asyncio

import pytest

from saq.errors import UsageError
from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import all_keys, claim, claim_keys, counts, enqueue, run_one

UNFINISHED = [Status.NEW, Status.QUEUED, Status.ACTIVE, Status.ABORTING]


async def one_of_each(queue: Queue) -> None:
    """Leaves a job in each state, its key the state's name."""
    await enqueue(queue, "complete", "failed", "aborted", "active", "aborting", retries=2)
    await run_one(queue)
    await run_one(queue, Status.FAILED, error="fell")
    await run_one(queue, Status.ABORTED, error="stopped")
    await claim_keys(queue, 2)
    await queue.abort(Job("f", key="aborting", queue=queue), "stop")
    await enqueue(queue, "queued")
    await queue.enqueue("f", key="scheduled", scheduled=4e9)


ALL = ["aborted", "aborting", "active", "complete", "failed", "queued", "scheduled"]


async def test_jobs_are_read_in_the_order_asked_for(queue: Queue, other: Queue):
    await one_of_each(queue)
    found = await other.jobs([*reversed(ALL), "nobody", "active", "active"])
    assert [job and job.key for job in found] == [*reversed(ALL), None, "active", "active"]
    said = {job.key: job.status.value for job in found if job}
    assert said == {key: key if key != "scheduled" else "queued" for key in ALL}
    assert await other.jobs([]) == []
    assert await other.job("nobody") is None


async def test_any_number_of_jobs_can_be_read(queue: Queue):
    await queue.enqueue_many(Job("f", key=f"{i}") for i in range(600))
    found = await queue.jobs(f"{i}" for i in range(700))
    assert [job and job.key for job in found] == [f"{i}" for i in range(600)] + [None] * 100


async def test_reading_changes_nothing(queue: Queue, other: Queue):
    await one_of_each(queue)
    before = [job.to_dict() for job in await queue.jobs(ALL) if job]
    for job in await other.jobs(ALL):
        assert job is not None
        job.meta["mine"] = True
    await other.info(jobs=True)
    await all_keys(other)
    assert [job.to_dict() for job in await queue.jobs(ALL) if job] == before


async def test_counts_say_how_many_there_are(queue: Queue, other: Queue):
    await one_of_each(queue)
    assert await counts(other) == {"queued": 1, "active": 2, "scheduled": 1, "incomplete": 4}
    with pytest.raises(UsageError, match=r"'finished'.*incomplete"):
        await other.count("finished")  # type: ignore[arg-type]


@pytest.mark.parametrize("status", Status)
async def test_jobs_are_iterated_by_status(status: Status, queue: Queue, other: Queue):
    await one_of_each(queue)
    expected = {Status.QUEUED: ["queued", "scheduled"], Status.NEW: []}.get(status, [status.value])
    assert await all_keys(other, [status]) == expected


async def test_all_jobs_are_iterated(queue: Queue, other: Queue):
    await one_of_each(queue)
    assert await all_keys(other) == ALL
    assert await all_keys(other, UNFINISHED) == ["aborting", "active", "queued", "scheduled"]
    assert await all_keys(other, []) == []


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
async def test_many_jobs_are_iterated_each_once(batch_size: int, queue: Queue):
    keys = sorted(f"{i}" for i in range(300))
    await queue.enqueue_many(Job("f", key=key) for key in keys)
    done = [queue.settle(job, Status.COMPLETE) for job in (await queue.step((), 100)).jobs]
    await queue.step(done, 0)
    assert await all_keys(queue, batch_size=batch_size) == keys


async def test_jobs_that_end_while_they_are_iterated_are_seen_once(queue: Queue, other: Queue):
    keys = sorted(f"{i}" for i in range(300))
    await queue.enqueue_many(Job("f", key=key) for key in keys)
    seen = []
    async for job in other.iter_jobs(batch_size=10):
        seen.append(job.key)
        if len(seen) % 3 == 0:
            step = await queue.step((), 3)
            await queue.step([queue.settle(job, Status.COMPLETE) for job in step.jobs], 0)
    assert sorted(seen) == keys


async def test_info_says_how_the_queue_is(queue: Queue, other: Queue):
    await one_of_each(queue)
    info = await other.info()
    assert info == {"workers": {}, "name": "default", "queued": 1, "active": 2, "scheduled": 1, "jobs": []}


async def test_info_shows_jobs_that_run_then_those_that_wait(queue: Queue, other: Queue):
    await one_of_each(queue)
    jobs = (await other.info(jobs=True))["jobs"]
    assert {job["key"] for job in jobs[:2]} == {"active", "aborting"}
    assert [job["key"] for job in jobs[2:]] == ["queued", "scheduled"]
    assert [(job["function"], job["queue"]) for job in jobs] == [("f", "default")] * 4
    assert {job["status"].value for job in jobs} == {"active", "aborting", "queued"}


async def test_info_shows_a_page(queue: Queue):
    await enqueue(queue, *"abcdefgh")
    await claim_keys(queue, 2)
    await queue.enqueue("f", key="x", scheduled=4e9)
    await queue.enqueue("f", key="y", scheduled=4.1e9)
    everything = [job["key"] for job in (await queue.info(jobs=True, limit=100))["jobs"]]
    assert everything == list("abcdefghxy")
    assert [job["key"] for job in (await queue.info(jobs=True))["jobs"]] == list("abcdefghxy")
    for limit in (1, 3, 4):
        pages: list[str] = []
        for offset in range(0, 12, limit):
            page = (await queue.info(jobs=True, offset=offset, limit=limit))["jobs"]
            pages += [job["key"] for job in page]
        assert pages == everything, f"by {limit}"
    assert (await queue.info(jobs=True, offset=10))["jobs"] == []
    assert (await queue.info(jobs=True, limit=0))["jobs"] == []
    assert len((await queue.info(jobs=True, offset=-5, limit=-1))["jobs"]) == 0


async def test_a_job_says_how_long_it_took(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    waiting = await other.job("k")
    assert waiting is not None
    assert [waiting.duration(kind) for kind in ("process", "start", "total", "running")] == [None] * 4
    job = await claim(queue)
    assert job.duration("running") is not None
    assert job.duration("process") is None
    await job.finish(Status.COMPLETE)
    ended = await other.job("k")
    assert ended is not None
    assert all(ended.duration(kind) is not None for kind in ("process", "start", "total"))
    with pytest.raises(ValueError, match="duration"):
        ended.duration("forever")  # type: ignore[arg-type]


async def test_the_server_says_what_time_it_is(queue: Queue, other: Queue):
    first, second = await queue.server_time(), await other.server_time()
    assert 0 <= second - first < 5


async def test_a_handle_of_another_loop_reads_anew(queue: Queue):
    await enqueue(queue, "k")

    async def elsewhere() -> str:
        job = await queue.job("k")
        assert job is not None
        await queue.disconnect()
        return job.key

    await queue.disconnect()
    assert await asyncio.to_thread(asyncio.run, elsewhere()) == "k"
    assert await queue.job("k") is not None
