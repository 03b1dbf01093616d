"""Claiming jobs and ending them: what a worker does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saq.errors import SerializationError, StaleError
from saq.job import Job, Status
from saq.queue.base import Queue
from saq.utils import now
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
    turns,
)


async def stored(queue: Queue, key: str) -> Job:
    job = await queue.job(key)
    assert job is not None
    return job


# -- claiming -----------------------------------------------------------------------------------------------


async def test_jobs_are_handed_out_in_the_order_they_came(queue: Queue):
    await enqueue(queue, *"abcdef")
    assert await claim_keys(queue, 2) == ["a", "b"]
    assert await claim_keys(queue, 0) == []
    assert await claim_keys(queue, 10) == ["c", "d", "e", "f"]
    assert await claim_keys(queue, 10) == []


async def test_a_claimed_job_says_what_it_is(queue: Queue, other: Queue):
    before = now()
    sent = await queue.enqueue("f", key="k", a=1, timeout=0.5, retries=3, meta={"m": [1]}, group_key="g")
    assert sent is not None
    for job in (await claim(other), await stored(queue, "k")):
        assert job.queue is not None
        assert job.queue.name == queue.name
        assert (job.function, job.key, job.kwargs) == ("f", "k", {"a": 1})
        assert (job.timeout, job.retries, job.meta, job.group_key) == (0.5, 3, {"m": [1]}, "g")
        assert job.status is Status.ACTIVE
        assert job.attempts == 1
        assert before <= sent.queued == job.queued <= job.started <= now()
        assert job.touched == job.started
        assert job.completed == 0
        assert job.worker_id


async def test_what_is_claimed_counts_as_active(queue: Queue):
    await enqueue(queue, *"abc")
    assert await counts(queue) == {"queued": 3, "incomplete": 3}
    await claim(queue)
    assert await counts(queue) == {"queued": 2, "active": 1, "incomplete": 3}


async def test_each_job_is_handed_out_once_to_those_who_compete(queue_factory: QueueFactory):
    queues = [queue_factory() for _ in range(4)]
    keys = [f"{i:03}" for i in range(200)]
    await queues[0].enqueue_many(Job("f", key=key) for key in keys)
    claimed: list[str] = []

    async def work(queue: Queue) -> None:
        done: list[Any] = []
        while (step := await queue.step(done, 7)).jobs:
            claimed.extend(job.key for job in step.jobs)
            done = [queue.settle(job, Status.COMPLETE) for job in step.jobs]

    await asyncio.gather(*(work(queue) for queue in queues))
    assert sorted(claimed) == keys
    assert await counts(queues[0]) == {}


async def test_a_claim_says_whether_work_is_left_and_when_more_is_due(queue: Queue):
    step = await queue.step((), 1)
    assert (step.more, step.wait, step.paused) == (False, None, False)
    await enqueue(queue, "a", "b")
    assert (await queue.step((), 1)).more
    assert not (await queue.step((), 1)).more
    await queue.enqueue("f", scheduled=now() / 1000 + 60)
    wait = (await queue.step((), 1)).wait
    assert wait is not None
    assert 55 < wait <= 60


# -- waiting for a job --------------------------------------------------------------------------------------


async def test_dequeue_returns_at_once_what_is_there(queue: Queue):
    await enqueue(queue, "a")
    job = await queue.dequeue()
    assert job is not None
    assert (job.key, job.status) == ("a", Status.ACTIVE)
    await queue.finish(job, Status.COMPLETE)


async def test_dequeue_returns_none_when_its_time_is_over(queue: Queue):
    assert await queue.dequeue(timeout=0.02) is None
    await enqueue(queue, "a")
    assert await queue.dequeue(timeout=SOON) is not None


async def test_dequeue_starts_as_soon_as_a_job_comes(queue: Queue, other: Queue):
    began = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
    await other.step((), 0)
    await turns(3)
    await enqueue(other, "a")
    job = await waiting
    assert job is not None
    assert job.key == "a"
    assert asyncio.get_running_loop().time() - began < 2


async def test_dequeue_starts_as_soon_as_a_queue_is_resumed(queue: Queue, other: Queue):
    await other.pause()
    await enqueue(other, "a")
    waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
    await other.step((), 0)
    began = asyncio.get_running_loop().time()
    await other.resume()
    assert await waiting is not None
    assert asyncio.get_running_loop().time() - began < 2


async def test_several_may_wait_at_one_queue_object(queue: Queue, other: Queue):
    waiting = [asyncio.create_task(queue.dequeue(timeout=SOON)) for _ in range(5)]
    await other.step((), 0)
    began = asyncio.get_running_loop().time()
    await other.enqueue_many([Job("f", key=key) for key in "abcde"])
    jobs = await asyncio.gather(*waiting)
    assert sorted(job.key for job in jobs if job) == list("abcde")
    assert asyncio.get_running_loop().time() - began < 2


async def test_those_who_gave_up_waiting_swallow_no_wake_up(queue: Queue, other: Queue):
    assert not any(await asyncio.gather(*(queue.dequeue(timeout=t) for t in (0.02, 0.04, 0.03))))
    waiting = asyncio.create_task(other.dequeue(timeout=SOON))
    await queue.step((), 0)
    began = asyncio.get_running_loop().time()
    await enqueue(queue, "a")
    assert await waiting is not None
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_dequeue_cancelled_at_any_moment_loses_no_job(queue: Queue, other: Queue):
    for i in range(60):
        waiting = asyncio.create_task(queue.dequeue())
        if i % 2:
            await other.step((), 0)
        sending = asyncio.create_task(enqueue(other, f"{i}"))
        await turns(i // 2)
        waiting.cancel()
        await asyncio.wait([waiting])
        await sending
        if waiting.cancelled():
            job = await other.dequeue(timeout=SOON)
        else:
            job = waiting.result()
        assert job is not None
        assert job.key == f"{i}"
        await (other if waiting.cancelled() else queue).finish(job, Status.COMPLETE)
    assert await counts(other) == {}


# -- ending -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.FAILED, Status.ABORTED])
async def test_a_job_ends_with_its_outcome(status: Status, queue: Queue, other: Queue):
    await enqueue(queue, "k", a=1)
    job = await claim(queue)
    error = None if status is Status.COMPLETE else "Traceback: ünd \x00 so on"
    await queue.finish(job, status, result={"r": [1, None]}, error=error)
    for handle in (job, await stored(other, "k")):
        assert (handle.status, handle.result, handle.results) == (status, {"r": [1, None]}, {"r": [1, None]})
        assert handle.error == error
        assert handle.attempts == 1
        assert handle.kwargs == {"a": 1}
        assert handle.queued <= handle.started <= handle.completed <= now()
        assert handle.duration("process") is not None
        assert handle.worker_id
    assert await counts(other) == {}
    assert (queue.complete, queue.failed, queue.aborted, queue.retried) == (
        int(status is Status.COMPLETE),
        int(status is Status.FAILED),
        int(status is Status.ABORTED),
        0,
    )


async def test_a_complete_job_has_made_all_its_progress(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    await job.update(progress=0.25)
    assert (await stored(other, "k")).progress == 0.25
    await job.finish(Status.COMPLETE)
    assert (await stored(other, "k")).progress == 1.0


async def test_an_error_with_any_characters_is_kept(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    await run_one(queue, Status.FAILED, error="lone \ud800 surrogate, \x00, \n;S1;e3 and 🎉")
    error = (await stored(other, "k")).error
    assert error == "lone \\ud800 surrogate, \x00, \n;S1;e3 and 🎉"


@pytest.mark.parametrize("result", [None, 0, False, "", [], {}, 0.1, 2**70, "\ud800", "x" * 300_000])
async def test_a_result_comes_back_as_it_was(result: Any, queue: Queue, other: Queue):
    await enqueue(queue, "k")
    await run_one(queue, result=result)
    found = (await stored(other, "k")).result
    assert found == result
    assert type(found) is type(result)


async def test_a_result_that_cannot_be_stored_is_refused_and_the_job_still_runs(queue: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    with pytest.raises(SerializationError, match="result"):
        await job.finish(Status.COMPLETE, result={"when": object()})
    assert await status_of(queue, "k") == "active"
    await job.finish(Status.FAILED, error="not serializable")
    assert await status_of(queue, "k") == "failed"


async def test_what_a_function_puts_into_meta_is_kept_with_the_outcome(queue: Queue, other: Queue):
    await enqueue(queue, "k", meta={"at": "start"})
    job = await claim(queue)
    job.meta["rows"] = 3
    await job.finish(Status.COMPLETE)
    assert (await stored(other, "k")).meta == {"at": "start", "rows": 3}


async def test_meta_that_a_function_has_emptied_stays_empty(queue: Queue, other: Queue):
    await enqueue(queue, "k", meta={"secret": 1})
    job = await claim(queue)
    job.meta.clear()
    await job.finish(Status.COMPLETE)
    assert (await stored(other, "k")).meta == {}


async def test_many_are_settled_and_claimed_in_one_step(queue: Queue, other: Queue):
    await enqueue(queue, *"abcd", retries=2)
    a, b, c, d = (await queue.step((), 4)).jobs
    await enqueue(queue, "e")
    step = await queue.step(
        [
            queue.settle(a, Status.COMPLETE, result=1),
            queue.settle(b, Status.FAILED, error="no"),
            queue.settle(c, Status.ABORTED, error="stop"),
            queue.settle_retry(d, "again", 0),
        ],
        2,
    )
    assert step.verdicts == [Status.COMPLETE, Status.FAILED, Status.ABORTED, Status.QUEUED]
    assert [job.key for job in step.jobs] == ["e", "d"]
    assert [job.status for job in (a, b, c)] == [Status.COMPLETE, Status.FAILED, Status.ABORTED]
    found = await other.jobs("abc")
    assert [(job.status, job.result, job.error) for job in found if job] == [
        (Status.COMPLETE, 1, None),
        (Status.FAILED, None, "no"),
        (Status.ABORTED, None, "stop"),
    ]
    assert (queue.complete, queue.failed, queue.aborted, queue.retried) == (1, 1, 1, 1)


async def test_a_job_is_settled_once(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    first = queue.settle(job, Status.COMPLETE, result="first")
    second = queue.settle(job, Status.FAILED, error="second")
    assert (await queue.step([first], 0)).verdicts == [Status.COMPLETE]
    assert (await queue.step([second], 0)).verdicts == [None]
    assert job.status is Status.COMPLETE
    assert queue.failed == 0
    ended = await stored(other, "k")
    assert (ended.status, ended.result) == (Status.COMPLETE, "first")
    with pytest.raises(StaleError):
        queue.settle(job, Status.COMPLETE)


async def test_a_settlement_of_an_earlier_life_does_not_reach_the_next(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    late = queue.settle(job, Status.COMPLETE, result="late")
    await job.finish(Status.FAILED, error="first")
    await enqueue(queue, "k")
    again = await claim(other)
    assert (await queue.step([late], 0)).verdicts == [None]
    assert await status_of(queue, "k") == "active"
    await other.finish(again, Status.COMPLETE, result="second")
    assert (await stored(queue, "k")).result == "second"


async def test_a_key_is_free_as_soon_as_its_job_has_ended(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    assert await queue.enqueue("f", key="k") is None
    job = await claim(queue)
    assert await other.enqueue("f", key="k") is None
    await job.finish(Status.COMPLETE, result=1)
    assert await other.enqueue("g", key="k") is not None
    assert (await stored(queue, "k")).function == "g", "a new life hides the record of the last one"
    await run_one(other, result=2)
    assert (await stored(queue, "k")).result == 2


async def test_ending_a_job_goes_through_although_its_caller_is_cancelled(queue: Queue):
    for i in range(12):
        await enqueue(queue, "k")
        job = await claim(queue)
        ending = asyncio.create_task(job.finish(Status.COMPLETE, result=i))
        await turns(1 + i // 2)
        ending.cancel()
        await asyncio.wait([ending])
        await queue.step((), 0)  # whatever was sent before has been done when this is
        assert (await stored(queue, "k")).result == i


# -- other ends of an attempt -------------------------------------------------------------------------------


async def test_a_failed_attempt_is_made_again_behind_those_who_had_none(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b", retries=3)
    job = await claim(queue)
    assert job.retryable
    await job.retry("ValueError: no")
    assert (job.status, job.error) == (Status.QUEUED, "ValueError: no")
    waiting = await stored(other, "a")
    assert (waiting.status, waiting.error, waiting.attempts) == (Status.QUEUED, "ValueError: no", 1)
    assert await claim_keys(queue, 1) == ["b"]
    again = await claim(other)
    assert (again.key, again.attempts, again.error, again.status) == ("a", 2, "ValueError: no", Status.ACTIVE)
    assert again.retryable
    await other.retry(again, "ValueError: never")
    last = await claim(queue)
    assert (last.attempts, last.retryable) == (3, False)
    assert (queue.retried, other.retried) == (1, 1)


async def test_a_job_given_back_keeps_its_place_and_its_attempts(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b", "c")
    a, b = (await queue.step((), 2)).jobs
    verdicts = (await queue.step([queue.settle_return(job, "cancelled") for job in (b, a)], 0)).verdicts
    assert verdicts == [Status.QUEUED, Status.QUEUED]
    assert queue.retried == 0
    waiting = await stored(other, "a")
    assert (waiting.status, waiting.error) == (Status.QUEUED, "cancelled")
    again, *rest = (await other.step((), 3)).jobs
    assert [again.key, *(job.key for job in rest)] == ["a", "b", "c"]
    assert again.attempts == 2, "each start is counted"
    assert again.retryable is False, "it is at its only attempt, as the first time"
    assert again.retries == 1


async def test_giving_back_uses_up_no_attempt(queue: Queue):
    await enqueue(queue, "a", retries=2)
    for attempt in range(1, 6):
        job = await claim(queue)
        assert (job.attempts, job.retryable) == (attempt, True)
        await queue.step([queue.settle_return(job, "cancelled")], 0)
    await (await claim(queue)).retry("once")
    assert not (await claim(queue)).retryable


async def test_a_job_whose_function_is_unknown_is_given_back(queue: Queue, other: Queue):
    await queue.enqueue("nobody", key="a")
    job = await claim(queue)
    assert (await queue.step([queue.settle_unknown(job, 0)], 0)).verdicts == [Status.QUEUED]
    again = await claim(other)
    assert (again.function, again.attempts, queue.failed) == ("nobody", 2, 0)


# -- while it runs ------------------------------------------------------------------------------------------


async def test_what_a_running_job_says_is_seen_by_all(queue: Queue, other: Queue):
    await enqueue(queue, "k", meta={"a": 1})
    job = await claim(queue)
    started = job.started
    await job.update(progress=0.5, meta={"b": 2})
    seen = await stored(other, "k")
    assert (seen.progress, seen.meta, seen.status) == (0.5, {"b": 2}, Status.ACTIVE)
    assert seen.touched >= started
    assert seen.started == started
    await job.update()
    assert (await stored(other, "k")).progress == 0.5


async def test_a_guest_may_change_what_is_not_the_status(queue: Queue, other: Queue):
    await enqueue(queue, "k", timeout=5)
    job = await stored(other, "k")
    await job.update(kwargs={"n": 2}, timeout=0.5, ttl=7, retries=4, meta={"by": "guest"}, heartbeat=3)
    claimed = await claim(queue)
    assert (claimed.kwargs, claimed.timeout, claimed.ttl, claimed.retries) == ({"n": 2}, 0.5, 7, 4)
    assert (claimed.meta, claimed.heartbeat) == ({"by": "guest"}, 3)
    await (await stored(other, "k")).update(retries=9)
    await claimed.finish(Status.COMPLETE)
    ended = await stored(other, "k")
    assert (ended.kwargs, ended.retries, ended.meta) == ({"n": 2}, 9, {"by": "guest"})


@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.COMPLETE},
        {"key": "other"},
        {"nonsense": 1},
        {"ttl": "long"},
        {"ttl": float("nan")},
        {"timeout": -1},
        {"retries": 1.5},
        {"retries": "3"},
        {"meta": "text"},
        {"kwargs": [1]},
        {"progress": "half"},
        {"heartbeat": -1},
        {"retry_delay": -0.1},
        {"result": {1, 2}},
    ],
    ids=str,
)
async def test_an_update_that_cannot_be_right_is_refused_and_changes_nothing(
    fields: dict[str, Any], queue: Queue, other: Queue
):
    await enqueue(queue, "k", meta={"a": 1}, ttl=60)
    job = await stored(other, "k")
    with pytest.raises(ValueError, match=next(iter(fields))):
        await job.update(**fields)
    assert (job.meta, job.ttl, job.retries, job.status) == ({"a": 1}, 60, 1, Status.QUEUED)
    claimed = await claim(queue)
    assert (claimed.meta, claimed.ttl, claimed.retries, claimed.key) == ({"a": 1}, 60, 1, "k")


async def test_an_abort_reaches_the_one_who_runs_the_job(queue: Queue, other: Queue):
    async with attached(queue, "wörker 1:{2}") as recorder:
        await enqueue(other, "k")
        job = await claim(queue)
        guest = await stored(other, "k")
        await guest.abort("enough: ünd aus")
        assert await recorder.aborted.get() == (job, "enough: ünd aus")
        assert (job.status, job.error) == (Status.ABORTING, "enough: ünd aus")
        assert guest.status is Status.ABORTING
        seen = await stored(other, "k")
        assert (seen.status, seen.error) == (Status.ABORTING, "enough: ünd aus")
        await queue.finish(job, Status.ABORTED, error="enough: ünd aus")
        assert await status_of(other, "k") == "aborted"


async def test_the_first_reason_of_an_abort_stands(queue: Queue, other: Queue):
    await enqueue(queue, "k", retries=5)
    job = await claim(queue)
    await other.abort(await stored(other, "k"), "first")
    await other.abort(await stored(other, "k"), "second")
    await queue.retry(job, "failed as well")
    ended = await stored(other, "k")
    assert (ended.status, ended.error, ended.attempts) == (Status.ABORTED, "first", 1)


async def test_a_job_to_be_aborted_is_not_given_back(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    await other.abort(await stored(other, "k"), "stop")
    assert (await queue.step([queue.settle_return(job, "cancelled")], 1)).verdicts == [Status.ABORTED]
    assert (await stored(other, "k")).error == "stop"
    assert queue.aborted == 1


async def test_an_abort_that_comes_too_late_changes_nothing(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    guest = await stored(other, "k")
    await job.finish(Status.COMPLETE, result=1)
    await guest.abort("too late")
    ended = await stored(other, "k")
    assert (ended.status, ended.result, ended.error) == (Status.COMPLETE, 1, None)


@pytest.mark.parametrize("id", ["plain", "host 1:{x}*", "wörker\n;w%41", "\ud800"])
async def test_a_worker_may_have_any_name(id: str, queue: Queue, other: Queue):
    async with attached(queue, id):
        await enqueue(queue, "k")
        job = await claim(queue)
        assert job.worker_id == id
        assert (await stored(other, "k")).worker_id == id
        await job.finish(Status.COMPLETE)
        assert (await stored(other, "k")).worker_id == id


async def test_another_process_may_not_use_the_claim_of_this_one(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    with pytest.raises(ValueError, match="running"):
        await other.finish(job, Status.COMPLETE)
    assert await status_of(other, "k") == "active"


async def test_a_queue_can_be_used_again_after_it_was_disconnected(queue: Queue):
    await enqueue(queue, "a")
    await queue.disconnect()
    await queue.connect()
    await enqueue(queue, "b")
    assert await claim_keys(queue) == ["a", "b"]
