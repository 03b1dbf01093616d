"""Waiting for the end of a job, and hearing of its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saq.errors import ServerError, UsageError
from saq.job import Job, Status
from saq.queue.base import JobError, Queue
from tests.conformance.helpers import (
    SOON,
    attached,
    claim,
    counts,
    enqueue,
    listening,
    run_one,
    status_of,
    turns,
)

BIG = "x" * 20_000  # more than a message holds
PLACES = [0, 1, 2, 3, 5, 8, 13, 21]


async def work(queue: Queue, count: int, function: Callable[[Job], Any] = lambda job: job.kwargs) -> None:
    """Claims so many jobs, one after the other, and completes each with what `function` returns; an exception
    that it returns fails the job."""
    for _ in range(count):
        job = await queue.dequeue(timeout=SOON)
        assert job is not None
        result = function(job)
        if isinstance(result, Exception):
            await queue.finish(job, Status.FAILED, error=repr(result))
        else:
            await queue.finish(job, Status.COMPLETE, result=result)


async def reached(*queues: Queue) -> None:
    """Whoever has just begun to wait at these queue objects is known to the server when this returns."""
    for queue in queues:
        assert await queue.wait("nobody") is None  # subscribes, where that is necessary
        await turns(3)
        await queue.count("queued")  # commands of one queue object are carried out in order


# -- apply --------------------------------------------------------------------------------------------------


async def test_apply_returns_the_result(queue: Queue, other: Queue):
    result, _ = await asyncio.gather(queue.apply("f", a=[1], key="k"), work(other, 1))
    assert result == {"a": [1]}
    job = await other.job("k")
    assert job is not None
    assert (job.timeout, job.status) == (0, Status.COMPLETE), "no timeout to wait is none for the job"


@pytest.mark.parametrize("ttl", [600, 0, 0.5])
async def test_apply_returns_a_result_that_is_too_big_for_a_message(ttl: float, queue: Queue, other: Queue):
    result, _ = await asyncio.gather(queue.apply("f", ttl=ttl), work(other, 1, lambda job: [BIG, job.key]))
    assert result[0] == BIG


@pytest.mark.parametrize("result", ["small", BIG], ids=["small", "big"])
async def test_apply_returns_none_if_the_job_keeps_no_result(result: str, queue: Queue, other: Queue):
    found, _ = await asyncio.gather(queue.apply("f", ttl=-1, key="k"), work(other, 1, lambda job: result))
    assert found is None
    assert await other.job("k") is None


@pytest.mark.parametrize("ttl", [600, -1])
@pytest.mark.parametrize("error", ["small", BIG], ids=["small", "big"])
async def test_apply_raises_the_failure_of_the_job(ttl: float, error: str, queue: Queue, other: Queue):
    with pytest.raises(JobError, match="failed") as failed:
        await asyncio.gather(
            queue.apply("f", key="k", ttl=ttl, a=1), work(other, 1, lambda job: ValueError(error))
        )
    job = failed.value.job
    assert (job.key, job.status, job.kwargs) == ("k", Status.FAILED, {"a": 1})
    assert job.error == repr(ValueError(error))
    assert error in str(failed.value)


async def test_apply_raises_when_the_job_is_aborted(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.apply("f", key="k"))
    job = await claim_when_there(other)
    await other.finish(job, Status.ABORTED, error="not today")
    with pytest.raises(JobError, match="not today"):
        await waiting


async def claim_when_there(queue: Queue) -> Job:
    job = await queue.dequeue(timeout=SOON)
    assert job is not None
    return job


async def test_apply_raises_when_the_job_is_deleted(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.apply("f", key="k", scheduled=4e9))
    while not await other.delete("k"):
        pass
    with pytest.raises(JobError, match="deleted"):
        await waiting


async def test_apply_raises_when_its_time_is_over_and_the_job_goes_on(queue: Queue, other: Queue):
    with pytest.raises(TimeoutError):
        await queue.apply("f", key="k", timeout=0.3)
    job = await claim(other)
    assert (job.key, job.timeout) == ("k", 0.3)


async def test_apply_of_a_job_that_is_incomplete_waits_for_that_one(queue: Queue, other: Queue):
    await enqueue(queue, "k", a="first")
    waiting = [
        asyncio.create_task(queue.apply("f", key="k", a="second")),
        asyncio.create_task(other.apply("f", key="k", a="third")),
    ]
    await reached(queue, other)
    await work(other, 1)
    assert await asyncio.gather(*waiting) == [{"a": "first"}, {"a": "first"}]
    assert await counts(queue) == {}


async def test_apply_attaches_to_a_job_that_runs(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    job = await claim(queue)
    gives_up = asyncio.create_task(queue.apply("f", key="k"))
    last = asyncio.create_task(other.apply("f", key="k"))
    await reached(queue, other)
    gives_up.cancel()
    await asyncio.wait([gives_up])
    assert not last.done()
    assert await counts(queue) == {"active": 1, "incomplete": 1}
    await queue.finish(job, Status.COMPLETE, result=1)
    assert await last == 1


async def test_apply_takes_a_job(queue: Queue, other: Queue):
    job = Job("f", kwargs={"a": 1}, key="k", meta={"m": 1}, ttl=5)
    result, _ = await asyncio.gather(queue.apply(job, b=2), work(other, 1))
    assert result == {"a": 1, "b": 2}
    stored = await other.job("k")
    assert stored is not None
    assert (stored.meta, stored.ttl) == ({"m": 1}, 5)


async def test_many_first_calls_at_once_share_one_subscription(queue: Queue, other: Queue):
    calls = [queue.apply("f", n=n) for n in range(20)]
    *results, _ = await asyncio.gather(*calls, work(other, 20))
    assert results == [{"n": n} for n in range(20)]


async def test_apply_that_is_cancelled_leaves_its_job_and_others_alone(queue: Queue, other: Queue):
    for place in PLACES:
        gives_up = asyncio.create_task(queue.apply("f", key=f"gives up {place}"))
        stays = asyncio.create_task(queue.apply("f", key=f"stays {place}"))
        await turns(place)
        gives_up.cancel()
        await asyncio.wait([gives_up])
        assert gives_up.cancelled()
        job = await claim_when_there(other)
        if job.key.startswith("gives up"):
            await other.finish(job, Status.COMPLETE)
            job = await claim_when_there(other)
        await other.finish(job, Status.COMPLETE, result=place)
        assert await stays == place
    assert await counts(other) == {}


async def test_who_waits_is_told_when_the_queue_is_disconnected(queue: Queue, other: Queue):
    waiting = [
        asyncio.create_task(queue.apply("f", key="a")),
        asyncio.create_task(queue.map("f", [{"key": "b"}, {"key": "c"}])),
        asyncio.create_task(queue.map("f", [{"key": "d"}], return_exceptions=True)),
    ]
    await reached(queue)
    waiting.append(asyncio.create_task(queue.wait("a")))
    waiting.append(asyncio.create_task(queue.listen("ab", lambda key, status: False)))
    await reached(queue)
    await queue.disconnect()
    _, pending = await asyncio.wait(waiting, timeout=SOON)
    assert not pending
    (returned,) = waiting.pop(2).result()
    for error in [returned, *(task.exception() for task in waiting)]:
        assert isinstance(error, ServerError)
        assert "disconnected" in str(error)


# -- map ----------------------------------------------------------------------------------------------------


async def test_map_returns_results_in_the_order_of_its_arguments(queue: Queue, other: Queue):
    seen: list[Any] = []

    def note(job: Job) -> Any:
        seen.append(job.kwargs)
        return job.kwargs and job.kwargs["n"]

    results, _ = await asyncio.gather(
        queue.map("f", ({"n": n, "priority": -n} for n in range(20)), both=True), work(other, 20, note)
    )
    assert results == list(range(20))
    assert {"n": 3, "both": True} in seen
    assert seen != [{"n": n, "both": True} for n in range(20)], "they ran in another order"


async def test_map_of_very_many_while_they_are_worked_on(queue: Queue, other: Queue):
    async def work_fast(left: int) -> None:
        done: list[Any] = []
        while left:
            step = await other.step(done, 100)
            done = [other.settle(job, Status.COMPLETE, result=(job.kwargs or {})["n"]) for job in step.jobs]
            left -= len(done)
        await other.step(done, 0)

    results, _ = await asyncio.gather(queue.map("f", [{"n": n} for n in range(2_000)]), work_fast(2_000))
    assert results == list(range(2_000))


async def test_map_of_nothing_is_nothing(queue: Queue):
    assert await queue.map("f", []) == []


async def test_map_raises_the_first_failure_and_the_others_go_on(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.map("f", [{"key": key} for key in "abc"]))
    while await other.count("queued") < 3:
        pass
    a, b, c = (await other.step((), 3)).jobs
    await other.finish(b, Status.FAILED, error="b fell")
    with pytest.raises(JobError, match="b fell"):
        await waiting
    assert await counts(other) == {"active": 2, "incomplete": 2}
    await other.finish(a, Status.COMPLETE)
    await other.finish(c, Status.FAILED, error="nobody waits")


async def test_map_returns_failures_in_their_places_if_asked_to(queue: Queue, other: Queue):
    def function(job: Job) -> Any:
        n = (job.kwargs or {})["n"]
        return ValueError(n) if n % 2 else n

    results, _ = await asyncio.gather(
        queue.map("f", [{"n": n} for n in range(4)], return_exceptions=True), work(other, 4, function)
    )
    assert results[::2] == [0, 2]
    assert [type(result) for result in results[1::2]] == [JobError, JobError]
    assert [result.job.kwargs for result in results[1::2]] == [{"n": 1}, {"n": 3}]


async def test_map_raises_when_its_time_is_over(queue: Queue, other: Queue):
    with pytest.raises(TimeoutError):
        await queue.map("f", [{"key": "a"}, {"key": "b", "timeout": 9}], timeout=0.3)
    found = await other.jobs("ab")
    assert [job.timeout for job in found if job] == [0.3, 9]


async def test_map_attaches_to_jobs_that_are_incomplete(queue: Queue, other: Queue):
    await enqueue(other, "b", n="first")
    waiting = asyncio.create_task(queue.map("f", [{"key": key, "n": key} for key in "abc"]))
    await reached(queue)
    await work(other, 3)
    results = await waiting
    assert results == [{"n": "a"}, {"n": "first"}, {"n": "c"}]


async def test_the_same_key_twice_in_one_call_is_refused(queue: Queue):
    with pytest.raises(ValueError, match="'a'"):
        await queue.map("f", [{"key": "a"}, {"key": "b"}, {"key": "a"}])
    assert await counts(queue) == {}


async def test_map_with_no_keys_makes_one_for_each(queue: Queue, other: Queue):
    results, _ = await asyncio.gather(queue.map("f", [{"key": None, "n": 1}, {"n": 2}]), work(other, 2))
    assert results == [{"n": 1}, {"n": 2}]


# -- refresh and wait ---------------------------------------------------------------------------------------


async def test_refresh_reads_the_job_as_it_is(queue: Queue, other: Queue):
    (job,) = await enqueue(queue, "k")
    await run_one(other, result=7)
    assert job.status is Status.QUEUED
    await job.refresh()
    assert (job.status, job.result, job.attempts) == (Status.COMPLETE, 7, 1)


@pytest.mark.parametrize("until", [None, 0, 0.5, 5])
async def test_refresh_of_a_job_that_does_not_exist_says_so(until: float | None, queue: Queue):
    with pytest.raises(RuntimeError, match=r"key: k.*exist"):
        await Job("f", key="k", queue=queue).refresh(until)


@pytest.mark.parametrize("until", [0, SOON])
@pytest.mark.parametrize("result", [1, BIG], ids=["small", "big"])
async def test_refresh_waits_for_the_end_whenever_it_comes(
    until: float, result: Any, queue: Queue, other: Queue
):
    for place in PLACES:
        (job,) = await enqueue(queue, "k")
        claimed = await claim(other)
        waiting = asyncio.create_task(job.refresh(until))
        await turns(place)
        await other.finish(claimed, Status.COMPLETE, result=result)
        await waiting
        assert (job.status, job.result) == (Status.COMPLETE, result)


async def test_refresh_of_a_job_that_has_ended_does_not_wait(queue: Queue, other: Queue):
    (job,) = await enqueue(queue, "k")
    await run_one(other, Status.FAILED, error="no")
    await job.refresh(0)
    assert job.status is Status.FAILED


async def test_refresh_raises_when_the_end_does_not_come_in_time(queue: Queue):
    (job,) = await enqueue(queue, "k")
    with pytest.raises(TimeoutError):
        await job.refresh(0.02)
    assert job.status is Status.QUEUED


async def test_a_job_without_a_result_can_be_waited_for(queue: Queue, other: Queue):
    (job,) = await enqueue(queue, "k", ttl=-1)
    claimed = await claim(other)
    waiting = asyncio.create_task(job.refresh(SOON))
    await reached(queue)
    await other.finish(claimed, Status.COMPLETE, result=BIG)
    await waiting
    assert job.status is Status.COMPLETE
    assert job.function == "f"


async def test_waiting_that_is_cancelled_disturbs_nobody_else(queue: Queue, other: Queue):
    await enqueue(queue, "k")
    claimed = await claim(other)
    for place in PLACES:
        gives_up = asyncio.create_task(queue.wait("k"))
        await turns(place)
        gives_up.cancel()
        await asyncio.wait([gives_up])
        assert gives_up.cancelled()
    waiting = [asyncio.create_task(queue.wait("k", SOON)) for _ in range(3)]
    await turns(5)
    waiting[1].cancel()
    await other.finish(claimed, Status.COMPLETE, result=1)
    ended = [await waiting[0], await waiting[2]]
    assert [job and job.result for job in ended] == [1, 1]


async def test_an_abort_ends_the_waiting(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.apply("f", key="k"))
    while await other.count("queued") == 0:
        pass
    job = await other.job("k")
    assert job is not None
    await job.abort("stop")
    with pytest.raises(JobError, match="stop"):
        await waiting
    assert job.status is Status.ABORTED


async def test_a_retry_does_not_end_the_waiting(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.apply("f", key="k", retries=3))
    await (await claim_when_there(other)).retry("not yet")
    await other.step([other.settle_return(await claim_when_there(other), "cancelled")], 0)
    assert not waiting.done()
    await work(other, 1, lambda job: job.attempts)
    assert await waiting == 3


async def test_a_waiter_gets_the_outcome_of_its_own_job_though_the_key_lives_on(queue: Queue, other: Queue):
    waiting = asyncio.create_task(queue.apply("f", key="k"))
    job = await claim_when_there(other)
    # Enqueued again before who waits has come to read so big a result.
    await asyncio.gather(other.finish(job, Status.COMPLETE, result=["first", BIG]), enqueue(other, "k"))
    assert (await waiting)[0] == "first"


async def test_who_enqueues_a_key_anew_does_not_get_the_outcome_of_its_last_life(queue: Queue, other: Queue):
    for place in range(40):
        first = asyncio.create_task(queue.apply("f", key="k"))
        job = await claim_when_there(other)
        while await other.server_time() < job.queued / 1000 + 0.002:
            pass  # lives are told apart by the millisecond
        ending = asyncio.create_task(other.finish(job, Status.COMPLETE, result="first"))
        await turns(place // 2)
        second = asyncio.create_task(queue.apply("f", key="k"))
        await ending
        await reached(queue)
        again = (await other.step((), 1)).jobs
        if again:
            await other.finish(again[0], Status.COMPLETE, result="second")
        assert await first == "first"
        assert await second == ("second" if again else "first"), f"after {place // 2} turns"


# -- Job.enqueue --------------------------------------------------------------------------------------------


async def test_a_job_enqueues_itself(queue: Queue):
    job = Job("f", key="k", queue=queue)
    await job.enqueue()
    assert job.status is Status.QUEUED
    with pytest.raises(TypeError, match="queue"):
        await Job("f").enqueue()


async def test_a_job_whose_key_is_incomplete_becomes_that_job(queue: Queue, other: Queue):
    await enqueue(other, "k", a=1)
    job = Job("g", key="k", kwargs={"a": 2})
    await job.enqueue(queue)
    assert (job.function, job.kwargs, job.queue) == ("f", {"a": 1}, queue)


# -- listen -------------------------------------------------------------------------------------------------


async def test_listen_hears_every_change_and_update(queue: Queue, other: Queue):
    async with listening(queue, "k") as heard, attached(other) as recorder:
        await enqueue(other, "k", retries=3)
        job = await claim(other)
        await job.update(progress=0.5)
        await job.retry("again")
        job = await claim(other)
        await (await other.job("k") or job).abort("stop")
        assert await recorder.aborted.get() == (job, "stop")
        await job.update(meta={"a": 1})
        await job.finish(Status.ABORTED, error="stop")
        said = [(await heard.get())[1] for _ in range(8)]
    assert said == [
        Status.QUEUED,
        Status.ACTIVE,
        Status.ACTIVE,
        Status.QUEUED,
        Status.ACTIVE,
        Status.ABORTING,
        Status.ABORTING,
        Status.ABORTED,
    ]


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.FAILED, Status.ABORTED])
async def test_listen_ends_when_its_callback_says_so(status: Status, queue: Queue, other: Queue):
    async with listening(queue, "a", "b", until=lambda key, status: key == "b") as heard:
        await enqueue(other, "a")
        await run_one(other, status)
        await enqueue(other, "b")
        said = [await heard.get() for _ in range(4)]
        await run_one(other, status)
        await queue.count("queued")
        assert heard.empty()
    assert said == [("a", Status.QUEUED), ("a", Status.ACTIVE), ("a", status), ("b", Status.QUEUED)]


async def test_listen_takes_an_async_callback(queue: Queue):
    async def take(key: str, status: Status) -> bool:
        await asyncio.sleep(0)
        return key == "k"

    listener = asyncio.create_task(queue.listen(["k"], take, timeout=SOON))
    while not listener.done():
        await queue.notify(Job("f", key="k", queue=queue))
    await listener


async def test_listen_gives_up_in_time_although_it_hears_something(queue: Queue):
    async def speak() -> None:
        while True:
            await queue.notify(Job("f", key="k", queue=queue))

    speaker = asyncio.create_task(speak())
    with pytest.raises(TimeoutError):
        await queue.listen(["k"], lambda key, status: False, timeout=0.05)
    speaker.cancel()
    await asyncio.wait([speaker])


@pytest.mark.parametrize("error", [LookupError, TimeoutError])
async def test_an_error_of_the_callback_ends_listening(error: type[Exception], queue: Queue):
    def take(key: str, status: Status) -> None:
        raise error("mine")

    listener = asyncio.create_task(queue.listen(["k"], take, timeout=None))
    for _ in range(1000):
        if listener.done():
            break
        await queue.notify(Job("f", key="k", queue=queue))
    assert listener.done()
    with pytest.raises(error, match="mine"):
        await listener


async def test_two_listeners_of_one_process_hear_the_same(queue: Queue, other: Queue):
    async with listening(queue, "k") as first:
        async with listening(queue, "k") as second:
            await enqueue(other, "k")
            assert await first.get() == await second.get() == ("k", Status.QUEUED)
        await claim(other)
        assert await first.get() == ("k", Status.ACTIVE)
        assert second.empty()


async def test_listen_hears_nothing_of_other_jobs(queue: Queue, other: Queue):
    async with listening(queue, "k") as heard:
        await enqueue(other, "kk", "K", "k:", "*", "")
        await enqueue(other, "k")
        assert await heard.get() == ("k", Status.QUEUED)


async def test_listen_hears_of_jobs_that_become_due(queue: Queue, other: Queue):
    async with listening(queue, "k") as heard:
        await other.enqueue("f", key="k", scheduled=4e9)
        assert await heard.get() == ("k", Status.QUEUED)
        await other.run_now("k")
        assert (await claim(other)).key == "k"
        while (await heard.get())[1] is not Status.ACTIVE:
            pass


def test_jobs_errors_say_which_job_and_why():
    job = Job("f", key="k", status=Status.FAILED, error="Traceback: it fell")
    assert "it fell" in str(JobError(job))
    assert "function: f" in str(JobError(job))
    assert JobError(job).job is job


async def test_apply_refuses_what_cannot_be_right(queue: Queue):
    with pytest.raises(UsageError, match="priority"):
        await queue.apply("f", priority=99_999)
    assert await status_of(queue, "k") == "missing"
