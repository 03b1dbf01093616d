"""Jobs that are claimed before there is a slot for them: they start sooner, and nobody else can tell."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from saq import Job, Status
from saq.queue.redis import RedisQueue
from saq.worker import slots
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, took, until

SHORT = 4_000


class Mixed:
    """A worker of two slots that runs short jobs, of which it claims ahead, until a few that last fill it."""

    def __init__(self) -> None:
        self.on = asyncio.Event()
        self.order: list[int] = []
        self.lasting = asyncio.Event()
        self.most = self.now = self.lasts = 0

    async def run(self, ctx: Any, *, n: int, last: bool = False) -> int:
        self.order.append(n)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        if last:
            self.lasts += 1
            if self.lasts == 2:
                self.lasting.set()
            await self.on.wait()
        self.now -= 1
        return int(ctx["job"].attempts)

    async def fill(self, client: RedisQueue) -> list[Job]:
        """Short ones, two that last, and some behind them."""
        jobs = [Job("run", {"n": n}) for n in range(SHORT)]
        jobs += [Job("run", {"n": SHORT + n, "last": n < 2}) for n in range(10)]
        await client.enqueue_many(jobs)
        return jobs[SHORT:]


async def test_no_more_jobs_run_at_once_than_there_are_slots(client: RedisQueue, work: Work) -> None:
    mixed = Mixed()
    mixed.on.set()
    await mixed.fill(client)
    await work({"run": mixed.run}, concurrency=2)
    await until(lambda: len(mixed.order) == SHORT + 10)
    assert mixed.most == 2
    assert Counter(mixed.order) == Counter(range(SHORT + 10)), "each once"


async def test_a_job_that_gets_no_slot_soon_goes_back_as_if_it_had_not_been_claimed(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    mixed = Mixed()
    behind = (await mixed.fill(client))[2:]
    await work({"run": mixed.run}, concurrency=2)
    await mixed.lasting.wait()
    assert await client.count("active") > 2, "claimed ahead"
    async with took(at_most=1.0):
        # Back in its place, with the attempts of a job that nobody has touched.
        await until(lambda: _are_queued(client, behind))
    for job in await client.jobs(job.key for job in behind):
        assert job is not None
        assert (job.status, job.attempts, job.error) == (Status.QUEUED, 0, None)
    seen: list[int] = []

    async def other(ctx: Any, *, n: int, last: bool) -> int:
        seen.append(n)
        return int(ctx["job"].attempts)

    await work({"run": other}, queue=make_queue(), concurrency=1)
    attempts = [(await ended(client, job)).result for job in behind]
    assert attempts == [1] * len(behind)
    assert seen == sorted(seen)
    mixed.on.set()


async def _are_queued(client: RedisQueue, jobs: list[Job]) -> bool:
    found = await client.jobs(job.key for job in jobs)
    return all(job is not None and job.status is Status.QUEUED for job in found)


async def test_a_job_that_waits_for_a_slot_can_be_aborted(client: RedisQueue, work: Work) -> None:
    mixed = Mixed()
    behind = (await mixed.fill(client))[2:]
    await work({"run": mixed.run}, concurrency=2)
    await mixed.lasting.wait()
    for job in behind:
        assert await client.abort(job, "not wanted")
    for job in behind:
        end = await ended(client, job)
        assert (end.status, end.error) == (Status.ABORTED, "not wanted")
    mixed.on.set()
    assert not {job.kwargs["n"] for job in behind if job.kwargs} & set(mixed.order)


async def test_a_worker_that_stops_gives_back_what_waits_at_once(client: RedisQueue, work: Work) -> None:
    mixed = Mixed()
    jobs = await mixed.fill(client)
    worker = await work({"run": mixed.run}, concurrency=2)
    await mixed.lasting.wait()
    async with took(at_most=2.0):
        await worker.stop()
    for job in await client.jobs(job.key for job in jobs[2:]):
        assert job is not None
        assert (job.status, job.attempts) == (Status.QUEUED, 0)


async def test_long_jobs_are_not_claimed_ahead(client: RedisQueue, work: Work) -> None:
    running: set[str] = set()

    async def long(ctx: Any) -> None:
        running.add(ctx["job"].key)
        assert await client.count("active") <= 2
        await asyncio.sleep(0.02)

    jobs = [Job("long") for _ in range(20)]
    await client.enqueue_many(jobs)
    await work({"long": long}, concurrency=2)
    for job in jobs:
        assert (await ended(client, job)).status is Status.COMPLETE
    assert len(running) == 20


async def test_slots_reckon_with_what_ended_lately() -> None:
    started: list[Job] = []
    room = slots.Slots(4)
    part = room.part(lambda job: None)
    part.run = started.append
    assert room.ahead == 0
    deadline = time.monotonic() + 5
    while room.ahead == 0:  # jobs that take no time at all
        assert time.monotonic() < deadline
        part.promise(1)
        job = Job("f")
        job._member = b"1:f"  # type: ignore[misc]
        part.take(job)
        part.freed()
    assert 0 < room.ahead <= slots.MOST_AHEAD
    await asyncio.sleep(2 * slots.WINDOW)
    assert room.ahead == 0
    assert room.idle
