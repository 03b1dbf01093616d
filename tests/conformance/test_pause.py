"""A paused queue takes jobs in and hands none out."""

from __future__ import annotations

import asyncio

from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import SOON, attached, claim, claim_keys, counts, enqueue


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(queue: Queue, other: Queue):
    await enqueue(queue, "before")
    await other.pause()
    await enqueue(queue, "meanwhile")
    step = await queue.step((), 10)
    assert (step.jobs, step.paused, step.more) == ([], True, False)
    assert await queue.dequeue(timeout=0.02) is None
    assert await counts(queue) == {"queued": 2, "incomplete": 2}
    await other.resume()
    assert not (await queue.step((), 0)).paused
    assert await claim_keys(queue) == ["before", "meanwhile"]


async def test_what_runs_already_goes_on_and_ends(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b", retries=2)
    a, b = (await queue.step((), 2)).jobs
    await other.pause()
    await a.update(progress=0.5)
    await a.finish(Status.COMPLETE, result=1)
    await b.retry("again")
    assert (await other.job("a") or Job("")).result == 1
    assert await claim_keys(queue) == []
    await other.resume()
    assert await claim_keys(other) == ["b"]


async def test_a_paused_queue_lets_jobs_be_aborted_and_deleted(queue: Queue, other: Queue):
    await enqueue(queue, "a", "b")
    await queue.pause()
    await (await other.job("a") or Job("")).abort("no")
    await other.delete("b")
    assert await counts(queue) == {}


async def test_pausing_twice_is_pausing_once(queue: Queue, other: Queue):
    await enqueue(queue, "a")
    await queue.pause()
    await other.pause()
    await queue.resume()
    assert await claim_keys(queue) == ["a"]
    await queue.resume()


async def test_what_became_due_meanwhile_starts_when_the_queue_is_resumed(queue: Queue, other: Queue):
    await queue.pause()
    await queue.enqueue("f", key="k", scheduled=await queue.server_time() + 0.02)
    assert await other.dequeue(timeout=0.05) is None
    waiting = asyncio.create_task(other.dequeue(timeout=SOON))
    await queue.resume()
    job = await waiting
    assert job is not None
    assert job.key == "k"


async def test_a_claimant_is_told_of_pauses(queue: Queue, other: Queue):
    async with attached(queue) as recorder:
        await other.pause()
        await recorder.news.wait()
        recorder.news.clear()
        await other.resume()
        await recorder.news.wait()


async def test_a_pause_outlives_who_asked_for_it(queue: Queue, other: Queue):
    await queue.pause()
    await queue.disconnect()
    await enqueue(other, "k")
    assert await claim_keys(other) == []
    await other.resume()
    assert (await claim(other)).key == "k"
