"""A queue's own `dump` and `load`, and bytes that are no job."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from saq.errors import DecodeError, SerializationError, UsageError
from saq.job import Job, Status
from saq.queue.base import JobError, Queue
from tests.conformance.helpers import SOON, QueueFactory, claim, claim_keys, counts, enqueue


def reversed_json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()[::-1]


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pickle": (pickle.dumps, pickle.loads),
    "json as text": (json.dumps, json.loads),
    "bytes that look like nothing": (reversed_json, lambda data: json.loads(data[::-1])),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
async def test_a_queue_may_have_its_own_dump_and_load(
    pair: tuple[Callable[..., Any], Callable[..., Any]], queue_factory: QueueFactory
):
    queue, other = (queue_factory(dump=pair[0], load=pair[1]) for _ in range(2))
    waiting = asyncio.create_task(queue.apply("f", key="k", a=[1, "\n;"], meta={"m": 1}, retries=2, ttl=9))
    job = await other.dequeue(timeout=SOON)
    assert job is not None
    assert (job.kwargs, job.meta, job.retries, job.ttl) == ({"a": [1, "\n;"]}, {"m": 1}, 2, 9)
    await job.update(progress=0.5, meta={"m": 2})
    found = await queue.job("k")
    assert found is not None
    assert (found.progress, found.meta) == (0.5, {"m": 2})
    job.meta["m"] = 3
    await job.finish(Status.COMPLETE, result=["\n", 0.5])
    assert await waiting == ["\n", 0.5]
    found = await queue.job("k")
    assert found is not None
    assert (found.result, found.meta, found.kwargs) == (["\n", 0.5], {"m": 3}, {"a": [1, "\n;"]})
    assert await queue.requeue("k")
    await other.finish(await claim(other), Status.FAILED, error="no")


async def test_pickle_keeps_what_json_cannot_say(queue_factory: QueueFactory):
    queue = queue_factory(dump=pickle.dumps, load=pickle.loads)
    when = datetime(2024, 2, 29, 12)
    await queue.enqueue("f", when=when, some={1, 2})
    job = await claim(queue)
    assert job.kwargs == {"when": when, "some": {1, 2}}
    await job.finish(Status.COMPLETE, result=timedelta(days=1))
    found = await queue.job(job.key)
    assert found is not None
    assert found.result == timedelta(days=1)


async def test_an_error_of_dump_is_told_to_the_caller(queue_factory: QueueFactory):
    queue = queue_factory(dump=pickle.dumps, load=pickle.loads)
    with pytest.raises(SerializationError, match="dump"):
        await queue.enqueue("f", bad=lambda: None)
    assert await counts(queue) == {}


def test_dump_without_load_is_refused(queue_factory: QueueFactory):
    for half in ({"dump": json.dumps}, {"load": json.loads}):
        with pytest.raises(UsageError, match="both"):
            Queue.from_url("redis://localhost", **half)


async def test_a_job_is_serialized_and_read_again(queue: Queue):
    job = Job("f", kwargs={"a": 1}, key="k", queue=queue, meta={"m": 1}, status=Status.FAILED, error="no")
    again = queue.deserialize(queue.serialize(job))
    assert again is not None
    assert again.to_dict() == job.to_dict()
    assert queue.deserialize(job.to_dict()) == job
    assert queue.deserialize(None) is None
    assert queue.deserialize(b"") is None


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"[]", b"1", b"{}", b'{"function": 3}', b'{"function": "f", "queue": "other"}', "{"],
    ids=repr,
)
def test_what_is_no_job_cannot_be_deserialized(payload: bytes, queue: Queue):
    with pytest.raises(DecodeError):
        queue.deserialize(payload)


async def test_an_unknown_field_of_a_newer_release_is_left_alone(queue_factory: QueueFactory):
    def newer(fields: Mapping[str, Any]) -> str:
        return json.dumps({**fields, "invented_later": [1]} if "function" in fields else fields)

    await enqueue(queue_factory(dump=newer, load=json.loads), "k", n=1)
    queue = queue_factory()
    for job in (await queue.job("k"), await claim(queue)):
        assert job is not None
        assert (job.function, job.kwargs) == ("f", {"n": 1})
    fields = {"function": "f", "key": "k", "invented_later": 1}
    assert queue.deserialize(json.dumps(fields)) == Job("f", key="k")


# -- poison -------------------------------------------------------------------------------------------------

#: What another program, or a queue with another `dump`, may have put there.
POISON: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
    "no JSON": lambda fields: b"\xff\xfe\x00{",
    "nothing": lambda fields: b"",
    "no object": lambda fields: b"[1, 2]",
    "no function": lambda fields: b'{"kwargs": {}}',
    "kwargs that are none": lambda fields: b'{"function": "f", "kwargs": [1]}',
    "meta that is none": lambda fields: b'{"function": "f", "meta": 3}',
    "newlines": lambda fields: b"\n;\n;t1\n",
    "a pickle": pickle.dumps,
}


@pytest.mark.parametrize("dump", POISON.values(), ids=POISON)
async def test_bytes_that_are_no_job_are_kept_as_failed_and_work_goes_on(
    dump: Callable[[Mapping[str, Any]], bytes],
    queue_factory: QueueFactory,
    caplog: pytest.LogCaptureFixture,
):
    bad = queue_factory(dump=dump, load=pickle.loads)
    queue = queue_factory()
    await enqueue(queue, "first")
    await enqueue(bad, "poison", ttl=0)
    await enqueue(queue, "last")
    found = await queue.job("poison")
    assert found is not None
    assert found.status is Status.QUEUED
    assert found.error
    assert len((await queue.info(jobs=True))["jobs"]) == 3
    with caplog.at_level(logging.ERROR, "saq"):
        assert await claim_keys(queue) == ["first", "last"]
    assert "'poison'" in caplog.text
    assert await counts(queue) == {"active": 2, "incomplete": 2}
    ended = await queue.job("poison")
    assert ended is not None
    assert ended.status is Status.FAILED
    assert "cannot be decoded" in (ended.error or "")
    assert queue.failed == 1
    assert [job.key async for job in queue.iter_jobs([Status.FAILED])] == ["poison"]
    assert await queue.enqueue("f", key="poison") is not None, "its key is free again"


async def test_poison_can_be_read_again_by_whoever_can(queue_factory: QueueFactory):
    good = queue_factory(dump=pickle.dumps, load=pickle.loads)
    queue = queue_factory()
    await enqueue(good, "k", n={1})
    assert await claim_keys(queue) == []
    assert await good.requeue("k"), "its bytes were kept"
    job = await claim(good)
    assert (job.function, job.kwargs) == ("f", {"n": {1}})


async def test_who_waits_for_poison_is_told(queue_factory: QueueFactory):
    bad = queue_factory(dump=lambda fields: b"\xff", load=pickle.loads)
    queue = queue_factory()
    waiting = asyncio.create_task(bad.apply("f", key="k"))
    assert await queue.dequeue(timeout=0.05) is None
    with pytest.raises(JobError, match="cannot be decoded"):
        await waiting


async def test_a_result_that_cannot_be_read_says_so(queue_factory: QueueFactory):
    queue = queue_factory(dump=pickle.dumps, load=pickle.loads)
    await enqueue(queue, "k")
    await queue.finish(await claim(queue), Status.COMPLETE, result=1)
    reader = queue_factory()
    job = await reader.job("k")
    assert job is not None
    assert job.status is Status.COMPLETE
    assert job.error


async def test_a_patch_that_cannot_be_read_fails_the_job_and_work_goes_on(queue_factory: QueueFactory):
    queue, strange = queue_factory(), queue_factory(dump=pickle.dumps, load=pickle.loads)
    await enqueue(queue, "k", "next")
    await strange.update(Job("f", key="k", queue=strange), meta={"a": 1})
    assert await claim_keys(queue) == ["next"]
    job = await queue.job("k")
    assert job is not None
    assert job.status is Status.FAILED
