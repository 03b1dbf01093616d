"""Workers say that they live, and what they know."""

from __future__ import annotations

import asyncio

import pytest

from saq.job import Status
from saq.queue.base import Queue
from tests.conformance.helpers import SOON, attached, enqueue, run_one


async def test_a_worker_is_seen_by_all(queue: Queue, other: Queue):
    info = await queue.worker_info("w1", queue_key="default", metadata={"host": "ü", "n": [1]}, ttl=60)
    assert (await other.info())["workers"] == {"w1": info}
    assert info["queue_key"] == "default"
    assert info["metadata"] == {"host": "ü", "n": [1]}


async def test_the_statistics_are_those_of_the_queue_object(queue: Queue, other: Queue):
    await enqueue(queue, *"abcde", retries=2)
    await run_one(queue)
    await run_one(queue)
    await run_one(queue, Status.FAILED)
    await run_one(queue, Status.ABORTED)
    job = await queue.dequeue(timeout=SOON)
    assert job is not None
    await job.retry("no")
    stats = (await queue.worker_info("w"))["stats"]
    assert stats is not None
    assert {name: count for name, count in stats.items() if name != "uptime"} == {
        "complete": 2,
        "failed": 1,
        "aborted": 1,
        "retried": 1,
    }
    assert stats["uptime"] >= 0
    assert (await other.info())["workers"]["w"]["stats"] == stats


async def test_a_worker_that_says_nothing_any_more_is_gone(queue: Queue, other: Queue):
    await queue.worker_info("stays", ttl=60)
    await queue.worker_info("goes", ttl=0.5)
    assert set((await other.info())["workers"]) == {"stays", "goes"}
    async with asyncio.timeout(SOON):
        while set((await other.info())["workers"]) != {"stays"}:
            pass


async def test_a_worker_that_stops_takes_its_registration_away(queue: Queue, other: Queue):
    async with attached(queue, "w"):
        await queue.worker_info("w")
        assert set((await other.info())["workers"]) == {"w"}
    assert (await other.info())["workers"] == {}


@pytest.mark.parametrize("id", ["a:b", "{x}*", "ü \n", "\ud800", "%41", ""])
async def test_a_worker_may_have_any_id(id: str, queue: Queue, other: Queue):
    await queue.worker_info(id)
    assert set((await other.info())["workers"]) == {id}
    await queue.register(id, {"stats": None, "queue_key": None, "metadata": None}, (), 0)
    assert (await other.info())["workers"] == {}


async def test_saying_it_again_replaces_what_was_said(queue: Queue):
    await queue.worker_info("w", metadata={"n": 1})
    await queue.worker_info("w", metadata={"n": 2})
    workers = (await queue.info())["workers"]
    assert [worker["metadata"] for worker in workers.values()] == [{"n": 2}]


async def test_metadata_that_cannot_be_stored_is_refused(queue: Queue):
    with pytest.raises(ValueError, match="metadata"):
        await queue.worker_info("w", metadata={"when": object()})
    assert (await queue.info())["workers"] == {}
