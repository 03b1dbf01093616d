"""Enqueueing: what is taken in, what is refused, and what goes along with it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from saq.errors import InvalidUrlError, SaqError, SerializationError, UsageError
from saq.job import Job, Status
from saq.queue.base import Queue
from saq.utils import now
from tests.conformance.helpers import QueueFactory, all_keys, claim, claim_keys, counts, enqueue, turns


async def test_what_is_enqueued_is_a_job_and_is_queued(queue: Queue):
    before = now()
    job = await queue.enqueue("f", a=1)
    assert job is not None
    assert (job.function, job.kwargs, job.status, job.queue) == ("f", {"a": 1}, Status.QUEUED, queue)
    assert before <= job.queued <= now()
    assert job.id == queue.job_id(job.key)
    assert await counts(queue) == {"queued": 1, "incomplete": 1}


async def test_every_field_that_a_user_sets_reaches_the_worker(queue: Queue, other: Queue):
    fields: dict[str, Any] = {
        "kwargs": {"a": [1, None, "ü"]},
        "key": "k",
        "timeout": 1.5,
        "heartbeat": 2,
        "retries": 4,
        "ttl": 0.25,
        "retry_delay": 0.5,
        "retry_backoff": 30.0,
        "priority": -3,
        "group_key": "g",
        "meta": {"m": {"n": 1}},
        "progress": 0.25,
    }
    await queue.enqueue("f", **fields)
    for job in (await other.job("k"), await claim(other)):
        assert job is not None
        assert {name: getattr(job, name) for name in fields} == fields


async def test_a_field_that_is_not_set_has_its_default(queue: Queue, other: Queue):
    await queue.enqueue("f")
    job = await claim(other)
    for field in dataclasses.fields(Job):
        if field.name in ("kwargs", "timeout", "heartbeat", "retries", "ttl", "retry_delay", "retry_backoff"):
            assert getattr(job, field.name) == field.default, field.name
    assert (job.scheduled, job.priority, job.group_key, job.meta, job.progress) == (0, 0, None, {}, 0.0)


async def test_arguments_named_like_fields_go_into_kwargs(queue: Queue):
    job = await queue.enqueue("f", kwargs={"timeout": "an argument", "key": 1}, timeout=3, other=2)
    assert job is not None
    claimed = await claim(queue)
    assert claimed.kwargs == {"timeout": "an argument", "key": 1, "other": 2}
    assert claimed.timeout == 3


async def test_a_job_object_can_be_enqueued(queue: Queue):
    job = Job("f", kwargs={"a": 1, "b": 1}, key="k")
    assert await queue.enqueue(job, b=2, ttl=9) is job
    claimed = await claim(queue)
    assert (claimed.kwargs, claimed.ttl, claimed) == ({"a": 1, "b": 2}, 9, job)


async def test_a_job_of_another_queue_is_refused(queue: Queue, queue_factory: QueueFactory):
    job = await queue.enqueue("f")
    assert job is not None
    with pytest.raises(UsageError, match="another queue"):
        await queue_factory("b").enqueue(job)


async def test_keys_are_new_and_in_the_order_of_time(queue: Queue):
    jobs = [await queue.enqueue("f") for _ in range(50)]
    keys = [job.key for job in jobs if job]
    assert len(set(keys)) == 50
    assert keys == sorted(keys)


async def test_a_key_of_none_is_a_new_key(queue: Queue):
    first, second = await queue.enqueue("f", key=None), await queue.enqueue("f", key=None)
    assert first is not None
    assert second is not None
    assert first.key != second.key


async def test_a_key_that_is_incomplete_is_not_enqueued_again(queue: Queue, other: Queue):
    await enqueue(queue, "queued", "active")
    await queue.enqueue("f", key="scheduled", scheduled=4e9)
    await queue.run_now("active")
    for key in ("queued", "active", "scheduled"):
        assert await other.enqueue("g", key=key) is None
    await claim(queue)
    for key in ("queued", "active", "scheduled"):
        assert await other.enqueue("g", key=key) is None
        job = await other.job(key)
        assert job is not None
        assert job.function == "f"


async def test_of_many_who_enqueue_a_key_at_once_one_succeeds(queue: Queue, other: Queue):
    jobs = await asyncio.gather(*(by.enqueue("f", key="k") for by in [queue, other] * 10))
    assert len([job for job in jobs if job]) == 1
    assert await counts(queue) == {"queued": 1, "incomplete": 1}


BAD: dict[str, dict[str, Any]] = {
    "no function": {"function": ""},
    "function is no text": {"function": 3},
    "key is no text": {"key": 3},
    "kwargs are no dict": {"kwargs": [1]},
    "priority too high": {"priority": 32_768},
    "priority too low": {"priority": -32_769},
    "priority is no whole number": {"priority": 0.5},
    "priority is no number": {"priority": "high"},
    "retries below zero": {"retries": -1},
    "retries are no whole number": {"retries": 2.5},
    "timeout below zero": {"timeout": -1},
    "timeout is no number": {"timeout": "1"},
    "timeout is not finite": {"timeout": float("inf")},
    "ttl is no number": {"ttl": None},
    "ttl is not a number": {"ttl": float("nan")},
    "scheduled is no number": {"scheduled": "tomorrow"},
    "scheduled is in milliseconds and more": {"scheduled": 1.7e15},
    "scheduled is beyond all time": {"scheduled": 1e300},
    "scheduled is not finite": {"scheduled": float("inf")},
    "heartbeat below zero": {"heartbeat": -0.5},
    "retry_delay below zero": {"retry_delay": -1},
    "retry_backoff below zero": {"retry_backoff": -1},
    "meta is no dict": {"meta": "text"},
    "progress is no number": {"progress": "half"},
    "group_key is no text": {"group_key": 3},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
async def test_a_field_that_cannot_be_right_is_refused_by_name(fields: dict[str, Any], queue: Queue):
    with pytest.raises(UsageError, match=next(iter(fields))):
        await queue.enqueue(Job(**{"function": "f", **fields}))
    assert await counts(queue) == {}


class Thing:
    pass


@pytest.mark.parametrize(
    "value", [float("nan"), {1, 2}, b"bytes", Thing(), now], ids=lambda v: type(v).__name__
)
async def test_an_argument_that_cannot_be_stored_is_refused_by_name(value: Any, queue: Queue):
    with pytest.raises(SerializationError, match=r"data.*when"):
        await queue.enqueue("f", data=[{"when": value}])
    assert await counts(queue) == {}


@pytest.mark.parametrize(
    "value", [2**70, -(2**64), 0.1, "\ud800\x00", [], {}, {"a": []}, None, True], ids=repr
)
async def test_an_argument_comes_back_as_it_was(value: Any, queue: Queue, other: Queue):
    await queue.enqueue("f", value=value)
    found = ((await claim(other)).kwargs or {})["value"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "redis", "postgres://x/y"])
def test_a_url_that_no_backend_goes_by_is_refused(url: str):
    with pytest.raises(InvalidUrlError, match="redis://"):
        Queue.from_url(url)


def test_a_queue_name_is_text():
    with pytest.raises(UsageError, match="name"):
        Queue.from_url("redis://localhost", name=3)


# -- many ---------------------------------------------------------------------------------------------------


async def test_any_number_of_jobs_can_be_enqueued_at_once(queue: Queue, other: Queue):
    keys = [f"{i:04}" for i in range(1_001)]
    sent = await queue.enqueue_many(Job("f", key=key) for key in keys)
    assert [job and job.key for job in sent] == keys
    assert await counts(other) == {"queued": 1_001, "incomplete": 1_001}
    claimed = await claim_keys(other, 200)
    assert claimed == keys[:200]


async def test_enqueue_many_says_which_were_incomplete(queue: Queue):
    await enqueue(queue, "b")
    sent = await queue.enqueue_many([Job("f", key="a"), Job("f", key="b"), "g", Job("f", key="a")])
    assert [job and job.function for job in sent] == ["f", None, "g", None]
    assert await queue.enqueue_many([]) == []


async def test_enqueue_many_says_how_far_it_came(queue: Queue):
    jobs = [Job("f", key=f"{i}") for i in range(600)]
    jobs[300].priority = 99_999
    with pytest.raises(UsageError) as refused:
        await queue.enqueue_many(jobs)
    assert "200" in refused.value.__notes__[0]
    assert await queue.count("queued") == 200


async def test_enqueue_many_of_jobs_that_cannot_be_made(queue: Queue):
    def jobs() -> Iterator[Job]:
        for n in range(700):
            yield Job("f", key=f"{n}")
        raise LookupError("the 701st")

    with pytest.raises(LookupError) as failed:
        await queue.enqueue_many(jobs())
    assert failed.value.__notes__ == ["400 jobs had been enqueued, and some of the next 400 may be"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "saq-enqueue-many"]
    assert await queue.count("queued") in (400, 600)


async def test_enqueue_many_keeps_the_order(queue: Queue, other: Queue):
    await queue.enqueue_many(Job("f", key=f"{n}") for n in range(1_000))
    claimed = [job.key for _ in range(10) for job in (await other.step((), 100)).jobs]
    assert claimed == [f"{n}" for n in range(1_000)]


async def test_big_jobs_go_through_as_well(queue: Queue, other: Queue):
    data = "x" * 100_000
    await queue.enqueue_many(Job("f", kwargs={"data": data, "n": n}) for n in range(30))
    jobs = (await other.step((), 30)).jobs
    while len(jobs) < 30:
        more = (await other.step((), 30)).jobs
        assert more, "a claim may be bounded in bytes, but always makes progress"
        jobs += more
    assert [job.kwargs for job in jobs] == [{"data": data, "n": n} for n in range(30)]


# -- before_enqueue -----------------------------------------------------------------------------------------


async def test_before_enqueue_may_change_the_job(queue: Queue, other: Queue):
    async def slow(job: Job) -> None:
        await asyncio.sleep(0)
        job.meta["slow"] = True

    def quick(job: Job) -> None:
        job.meta["quick"] = True

    queue.register_before_enqueue(slow)
    queue.register_before_enqueue(quick)
    await enqueue(queue, "a")
    await queue.enqueue_many([Job("f", key="b")])
    waiting = asyncio.create_task(queue.apply("f", key="c"))
    while await other.count("queued") < 3:
        pass
    for job in (await other.step((), 3)).jobs:
        assert job.meta == {"slow": True, "quick": True}
        await other.finish(job, Status.COMPLETE)
    await waiting


async def test_before_enqueue_may_refuse_the_job(queue: Queue):
    def refuse(job: Job) -> None:
        raise LookupError("not this one")

    queue.register_before_enqueue(refuse)
    for enqueues in (queue.enqueue("f"), queue.enqueue_many(["f"]), queue.apply("f")):
        with pytest.raises(LookupError, match="not this one"):
            await enqueues
    assert await counts(queue) == {}


async def test_a_callback_can_be_unregistered(queue: Queue):
    class Hook:
        calls = 0

        def method(self, job: Job) -> None:
            self.calls += 1

    hook = Hook()
    queue.register_before_enqueue(hook.method)
    queue.register_before_enqueue(hook.method)
    await queue.enqueue("f")
    assert hook.calls == 1, "registered twice is registered once"
    queue.unregister_before_enqueue(hook.method)
    queue.unregister_before_enqueue(hook.method)
    await queue.enqueue("f")
    assert hook.calls == 1


# -- batch --------------------------------------------------------------------------------------------------


async def aborted(queue: Queue) -> list[str]:
    return await all_keys(queue, [Status.ABORTED])


async def test_a_batch_that_ends_well_leaves_its_jobs_alone(queue: Queue):
    async with queue.batch():
        await enqueue(queue, "a", "b")
    assert await counts(queue) == {"queued": 2, "incomplete": 2}


async def test_a_batch_that_raises_aborts_its_jobs_and_no_others(queue: Queue, other: Queue):
    await enqueue(queue, "before", "taken")
    with pytest.raises(LookupError):
        async with queue.batch():
            await enqueue(queue, "a", "taken")
            await queue.enqueue_many([Job("f", key="b"), Job("f", key="taken")])
            async with asyncio.TaskGroup() as group:
                group.create_task(enqueue(queue, "task"))
            await enqueue(other, "by another queue object")
            raise LookupError
    await enqueue(queue, "after")
    assert await aborted(queue) == ["a", "b", "by another queue object", "task"]
    job = await queue.job("a")
    assert job is not None
    assert job.error == "cancelled"
    assert await claim_keys(queue) == ["before", "taken", "after"]


async def test_a_batch_in_a_batch(queue: Queue):
    async with queue.batch():
        await enqueue(queue, "outer")
        with pytest.raises(LookupError):
            async with queue.batch():
                await enqueue(queue, "inner")
                raise LookupError
    assert await aborted(queue) == ["inner"]
    with pytest.raises(LookupError):
        async with queue.batch():
            async with queue.batch():
                await enqueue(queue, "both")
            raise LookupError
    assert await aborted(queue) == ["both", "inner"]


@pytest.mark.parametrize("way", ["enqueue", "enqueue_many", "apply", "map"])
async def test_a_batch_cancelled_at_any_moment_leaves_no_job_behind(way: str, queue: Queue, other: Queue):
    await enqueue(other, "taken")

    async def block() -> None:
        async with queue.batch():
            match way:
                case "enqueue":
                    await enqueue(queue, "a", "taken", "b")
                case "enqueue_many":
                    await queue.enqueue_many(Job("f", key=key) for key in ("a", "taken", "b"))
                case "apply":
                    await queue.apply("f", key="a")
                case "map":
                    await queue.map("f", [{"key": key} for key in "ab"])
            await asyncio.sleep(3600)

    for place in range(40):
        task = asyncio.create_task(block())
        await turns(place)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await queue.count("queued")  # whatever was sent before has arrived when this is answered
        incomplete = await all_keys(other, set(Status) - {Status.ABORTED})
        assert incomplete == ["taken"], f"cancelled after {place} turns"


async def test_the_counters_are_those_of_one_queue_object(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b")
    for key in "ab":
        job = await other.job(key)
        assert job is not None
        await other.abort(job, "no")
    assert (other.aborted, queue.aborted) == (2, 0)


def test_errors_of_saq_are_of_one_family():
    assert issubclass(UsageError, SaqError)
    assert issubclass(UsageError, ValueError)
    assert issubclass(SerializationError, TypeError)
