"""Leases: who holds a running job, and what becomes of it when its worker is lost."""

from __future__ import annotations

import time
from typing import cast

import pytest
from redis import Redis

from saq.errors import StaleError
from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import (
    SOON,
    QueueFactory,
    attached,
    claim,
    claim_keys,
    counts,
    enqueue,
    run_one,
    status_of,
)
from tests.redis.helpers import prefix, run_out, session, snapshot, without_answers


async def lose(raw: Redis, queue: Queue) -> Job:
    """Claims the next job and loses it; without a sweep nobody has noticed yet."""
    job = await claim(queue)
    run_out(raw, queue, job)
    return job


async def stored(queue: Queue, key: str) -> Job:
    job = await queue.job(key)
    assert job is not None
    return job


# -- taken back ---------------------------------------------------------------------------------------------


async def test_a_job_whose_worker_died_returns_to_its_place_uncharged(raw: Redis, queue: Queue, other: Queue):
    await enqueue(queue, "a", "b", "c", retries=2)
    await lose(raw, queue)
    assert await other.sweep() == [queue.job_id("a")]
    assert await status_of(other, "a") == "queued"
    again, *rest = (await other.step((), 3)).jobs
    assert [again.key, *(job.key for job in rest)] == ["a", "b", "c"]
    assert (again.attempts, again.retryable) == (2, True)
    await again.retry("a failure of its own")
    last = await claim(other)
    assert (last.attempts, last.retryable) == (3, False)


async def test_a_claim_takes_back_what_was_lost_without_anybody_sweeping(
    raw: Redis, queue: Queue, other: Queue
):
    await enqueue(queue, "k")
    await lose(raw, queue)
    assert await claim_keys(other) == ["k"]
    assert await other.sweep() == []


async def test_a_lease_that_has_not_run_out_is_left_alone(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    await claim(queue)
    assert await other.sweep() == []
    assert await claim_keys(other) == []


async def test_a_job_that_keeps_killing_its_workers_is_failed_with_the_reason(
    raw: Redis, queue_factory: QueueFactory
):
    await enqueue(queue_factory(), "k", retries=9)
    for _ in range(3):
        worker = queue_factory()
        job = await lose(raw, worker)
        await queue_factory().sweep()
    ended = await stored(queue_factory(), "k")
    assert (ended.status, ended.attempts) == (Status.FAILED, 3)
    assert "3 workers" in (ended.error or "")
    assert str(job.worker_id) in (ended.error or "")
    assert await counts(queue_factory()) == {}


async def test_how_often_a_job_may_lose_its_worker_is_a_setting(raw: Redis, queue: Queue, other: Queue):
    async with attached(other, max_lost=1):
        await enqueue(queue, "k")
        await lose(raw, queue)
        await other.sweep()
        assert await status_of(other, "k") == "failed"


async def test_a_queue_may_have_its_own_words_for_it(raw: Redis, queue: Queue, queue_factory: QueueFactory):
    other = queue_factory(swept_error_message="ihr Worker ist fort")
    async with attached(other, max_lost=1):
        await enqueue(queue, "k")
        await lose(raw, queue)
        await other.sweep()
        assert (await stored(queue, "k")).error == "ihr Worker ist fort"


async def test_a_job_that_was_lost_and_completed_starts_from_nought_in_its_next_life(
    raw: Redis, other: Queue, queue_factory: QueueFactory
):
    await enqueue(other, "k")
    for _ in range(2):
        await lose(raw, queue_factory())
        await other.sweep()
    await run_one(other, result=1)
    await enqueue(other, "k")
    await lose(raw, queue_factory())
    await other.sweep()
    assert await status_of(other, "k") == "queued"


async def test_a_job_that_ran_for_longer_than_it_may_has_failed_and_is_charged(
    raw: Redis, queue: Queue, other: Queue
):
    await enqueue(queue, "k", timeout=0.5, retries=2)
    for worker in (queue, other):
        job = await claim(worker)
        assert job.retryable == (worker is queue)
        assert job._member is not None
        await session(worker).run("overtime", job._member)  # as its worker says before it stops to renew
        run_out(raw, worker, job)
        await other.sweep()
        found = await stored(other, "k")
        assert "timed out" in (found.error or "")
        assert "0.5 s" in (found.error or "")
        assert found.status is (Status.QUEUED if worker is queue else Status.FAILED)
    assert found.attempts == 2


async def test_a_worker_that_died_has_proved_nothing_against_a_job_past_its_timeout(
    raw: Redis, queue: Queue, other: Queue
):
    await enqueue(queue, "k", timeout=0.001)
    job = await lose(raw, queue)
    while await other.server_time() < job.started / 1000 + 0.003:
        pass
    await other.sweep()
    assert await status_of(other, "k") == "queued"


async def test_a_lost_job_that_was_to_be_aborted_is_aborted(raw: Redis, queue: Queue, other: Queue):
    await enqueue(queue, "k", retries=5)
    job = await claim(queue)
    await other.abort(await stored(other, "k"), "enough")
    run_out(raw, queue, job)
    await other.sweep()
    ended = await stored(other, "k")
    assert (ended.status, ended.error, ended.attempts) == (Status.ABORTED, "enough", 1)


async def test_many_leases_that_ran_out_are_all_taken_back(raw: Redis, queue: Queue, other: Queue):
    await queue.enqueue_many(Job("f", key=f"{i}", ttl=0) for i in range(250))
    jobs = (await queue.step((), 250)).jobs
    run_out(raw, queue, *jobs)
    swept: list[str] = []
    while more := await other.sweep():
        swept += more
    assert sorted(swept) == sorted(queue.job_id(job.key) for job in jobs)
    assert await counts(other) == {"queued": 250, "incomplete": 250}


# -- renewed ------------------------------------------------------------------------------------------------


def block_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_lease_is_renewed_although_the_event_loop_is_blocked(queue: Queue, other: Queue):
    async with attached(queue, lease=0.2), attached(other, lease=0.2):
        await enqueue(queue, "k")
        job = await claim(queue)
        until = await other.server_time() + 0.5
        while await other.server_time() < until:
            block_the_loop(0.08)
            assert await other.sweep() == []
        block_the_loop(0.5)
        await job.finish(Status.COMPLETE, result=1)
        assert (await stored(other, "k")).attempts == 1


async def test_a_job_that_is_held_no_longer_loses_its_lease_and_is_charged(queue: Queue, other: Queue):
    async with attached(queue, lease=0.3), attached(other, lease=0.3):
        await enqueue(queue, "k")
        job = await claim(queue)
        queue.hold(job, 0.0)
        until = time.monotonic() + SOON
        while not await other.sweep():
            assert time.monotonic() < until
        ended = await stored(other, "k")
        assert ended.status is Status.FAILED
        assert "timed out" in (ended.error or "")


async def test_a_worker_is_told_that_it_lost_a_job(raw: Redis, queue: Queue, other: Queue):
    async with attached(queue, lease=0.15) as recorder:
        await enqueue(queue, "k")
        job = await lose(raw, queue)
        again = await claim(other)
        assert await recorder.lost.get() == job
        with pytest.raises(StaleError):
            await job.finish(Status.COMPLETE)
        await other.finish(again, Status.COMPLETE)


async def test_a_worker_hears_of_an_abort_whose_message_was_lost(raw: Redis, queue: Queue, other: Queue):
    async with attached(queue, lease=0.15) as recorder:
        await enqueue(queue, "k")
        job = await claim(queue)
        raw.client_kill_filter(_type="pubsub")
        await other.abort(await stored(other, "k"), "stop")
        assert await recorder.aborted.get() == (job, "stop")


# -- fenced -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whose", ["taken back", "claimed by another", "ended by another", "in its next life"]
)
async def test_a_zombie_changes_nothing(whose: str, raw: Redis, queue: Queue, other: Queue):
    await enqueue(queue, "k", retries=5, meta={"a": 1})
    zombie = await lose(raw, queue)
    member = zombie._member
    await other.sweep()
    if whose != "taken back":
        job = await claim(other)
    if whose in ("ended by another", "in its next life"):
        await other.finish(job, Status.COMPLETE, result="theirs")
    if whose == "in its next life":
        await enqueue(other, "k")
        await claim(other)
    before = without_answers(snapshot(raw))
    settlements = [
        queue.settle(zombie, Status.COMPLETE, result="mine"),
        queue.settle_retry(zombie, "again", 0),
        queue.settle_return(zombie, "cancelled"),
        queue.settle_unknown(zombie, 0),
    ]
    with pytest.raises(StaleError):
        await queue.update(zombie, progress=0.9, meta={"mine": True}, ttl=-1)
    assert (await queue.step(settlements, 0)).verdicts == [None] * 4
    for _ in range(2):  # at first it does not know, then it does
        with pytest.raises(StaleError):
            await queue.finish(zombie, Status.FAILED, error="mine")
        with pytest.raises(StaleError):
            await queue.retry(zombie, "mine")
        with pytest.raises(StaleError):
            await queue.update(zombie)
    _, lost, *_ = await session(queue).run("renew", 30_000, cast(bytes, member))
    assert lost == [member]
    after = without_answers(snapshot(raw))
    for found in (before, after):
        found[prefix(queue) + b"meta"].pop(b"stepped")
    assert after == before
    assert (queue.complete, queue.failed, queue.retried) == (0, 0, 0)


@pytest.mark.parametrize("action", ["finish", "retry", "update"])
async def test_a_zombie_has_no_part_in_a_claim_of_the_same_process(
    action: str, raw: Redis, queue: Queue, other: Queue
):
    await enqueue(queue, "k", retries=5)
    zombie = await lose(raw, queue)
    await other.sweep()
    assert (await queue.step([queue.settle_retry(zombie, "no", 0)], 0)).verdicts == [None]
    job = await claim(queue)
    with pytest.raises(StaleError):
        match action:
            case "finish":
                await queue.finish(zombie, Status.COMPLETE)
            case "retry":
                await queue.retry(zombie, "no")
            case "update":
                await queue.update(zombie, progress=0.9)
    assert await status_of(other, "k") == "active"
    await queue.finish(job, Status.COMPLETE, result="second")
    assert (await stored(other, "k")).result == "second"


async def test_a_job_that_still_runs_here_is_not_run_here_twice(raw: Redis, queue: Queue, other: Queue):
    async with attached(queue, lease=0.6) as recorder:
        await enqueue(queue, "k")
        running = await lose(raw, queue)
        await other.sweep()
        for _ in range(3):
            assert (await queue.step((), 1)).jobs == [], "handed back, for it still runs"
            await other.run_now("k")
        assert await recorder.lost.get() is running
        assert await status_of(other, "k") == "queued"
        job = await claim(other)
        assert job.retries == 1
        await other.finish(job, Status.COMPLETE)


async def test_tokens_only_go_up(raw: Redis, queue: Queue, queue_factory: QueueFactory):
    await enqueue(queue, "a")
    first = await claim(queue)
    await first.finish(Status.COMPLETE)
    raw.flushall()  # as a restart that lost everything
    other = queue_factory()
    await enqueue(other, "a")
    second = await claim(other)
    assert first._member is None
    assert int((second._member or b"").split(b":")[0]) > 10**12


# -- calm and careful ---------------------------------------------------------------------------------------


async def test_after_an_outage_nothing_is_taken_back_for_one_lease(raw: Redis, queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await lose(raw, queue)
    raw.hset(prefix(queue) + b"meta", "stepped", 1)  # nobody stepped for long: the server was away
    before = await other.server_time()
    assert await other.sweep() == []
    assert await claim_keys(other) == []
    assert await other.sweep() == []
    calm = int(cast(bytes, raw.hget(prefix(queue) + b"meta", "calm")))
    assert 29 < calm / 1000 - before < 32
    assert await session(queue).run("renew", 30_000, cast(bytes, job._member))
    await job.finish(Status.COMPLETE, result="mine")
    assert (await stored(other, "k")).result == "mine"


async def test_a_result_whose_lease_ran_out_counts_while_nobody_has_taken_the_job(
    raw: Redis, queue: Queue, other: Queue
):
    await enqueue(queue, "k")
    job = await lose(raw, queue)
    raw.hset(prefix(queue) + b"meta", "stepped", 1)
    await job.finish(Status.COMPLETE, result="late but mine")
    assert (await stored(other, "k")).result == "late but mine"


async def test_jobs_that_lost_a_worker_are_handed_out_one_at_a_time(raw: Redis, queue: Queue, other: Queue):
    await enqueue(queue, "a", "b", "c")
    jobs = (await queue.step((), 3)).jobs
    run_out(raw, queue, *jobs)
    await other.sweep()
    await enqueue(queue, "new")
    first = (await other.step((), 10)).jobs
    assert [job.key for job in first] == ["a", "new"], "one of those that may kill, and all that are harmless"
    assert (await other.step((), 10)).jobs == []
    second = (await other.step([other.settle(first[0], Status.COMPLETE)], 10)).jobs
    # Whether one of them runs here is known when the step begins: the next is claimed by the next.
    second = second or (await other.step((), 10)).jobs
    assert [job.key for job in second] == ["b"]
    await other.finish(second[0], Status.COMPLETE)
    assert await claim_keys(other) == ["c"]


async def test_jobs_that_lost_a_worker_do_not_hold_up_those_behind_them(
    raw: Redis, queue: Queue, other: Queue
):
    keys = [f"{i:02}" for i in range(20)]
    await enqueue(queue, *keys)
    run_out(raw, queue, *(await queue.step((), 20)).jobs)
    while await other.sweep():
        pass
    await enqueue(queue, "new")
    assert await claim_keys(other, 1) == ["00"]
    assert await claim_keys(other, 1) == ["new"]
    assert await claim_keys(other, 1) == []


async def test_another_process_may_take_the_next_of_them(
    raw: Redis, queue: Queue, other: Queue, queue_factory: QueueFactory
):
    await enqueue(queue, "a", "b")
    run_out(raw, queue, *(await queue.step((), 2)).jobs)
    await other.sweep()
    assert await claim_keys(other) == ["a"]
    assert await claim_keys(queue_factory()) == ["b"]


async def unknown(queue: Queue) -> Status | None:
    """Claims the next job and gives it back, for its function is not known here."""
    (verdict,) = (await queue.step([queue.settle_unknown(await claim(queue), 0)], 0)).verdicts
    return verdict


async def test_a_function_that_no_worker_has_known_for_a_minute_fails_its_job(
    raw: Redis, queue: Queue, other: Queue
):
    await queue.enqueue("nobody", key="k")
    for _ in range(2):
        assert await unknown(queue) is Status.QUEUED
    functions = prefix(queue) + b"functions"
    ((name, since),) = cast("list[tuple[bytes, float]]", raw.zrange(functions, 0, -1, withscores=True))
    raw.zadd(functions, {name: since - 60_001})
    await other.register("knows", {"stats": None, "queue_key": None, "metadata": None}, ["nobody"], 60)
    assert await unknown(queue) is Status.QUEUED
    raw.zadd(functions, {name: since - 60_001})
    assert await unknown(queue) is Status.FAILED
    assert "nobody" in ((await stored(other, "k")).error or "")
    assert queue.failed == 1
