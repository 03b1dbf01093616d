"""Jobs and queues that said what was not so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis import Redis

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.conformance.helpers import SOON, claim, run_one, status_of
from tests.faults.proxy import proxied
from tests.redis.helpers import snapshot, without_answers
from tests.servers import Server
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, took, until


async def test_a_heartbeat_does_not_undo_an_abort(queue: RedisQueue, client: RedisQueue) -> None:
    """An update read the whole job, and wrote the whole job: what was aborted between was active again."""
    job = await enqueue(client, "f")
    running = await claim(queue)
    await asyncio.gather(*(running.update(progress=n / 10) for n in range(9)), job.abort("enough"))
    await running.update()
    found = await client.job(job.key)
    assert found is not None
    assert (found.status, found.error) == (Status.ABORTING, "enough")


async def test_an_abort_that_overtakes_the_claim_of_its_job_is_heard(
    server: Server, make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """Between taking a job and marking it as active, a worker overwrote its abort, and ran it to its end."""
    ran: list[str] = []

    async def forever(ctx: Any) -> None:
        ran.append(ctx["job"].key)
        await asyncio.Event().wait()

    async with proxied(server.port) as proxy:
        queue = make_queue(proxy.url)
        worker = await work({"forever": forever}, queue=queue)
        await idle(client)
        proxy.silence("saq-marker")
        job = await enqueue(client, "forever", timeout=0)
        await until(lambda: client.count("active"))
        # Told on the same connection, and later: when this one is heard, the abort was.
        await enqueue(client, "f", key="later")
        hearing = asyncio.create_task(queue.wait("later", SOON))
        later = await claim(client)
        await client.abort(job, "overtaken")
        await client.finish(later, Status.COMPLETE)
        await hearing
        proxy.drop("saq-marker")
        async with took(at_most=3.0):
            end = await ended(client, job)
        assert (end.status, end.error) == (Status.ABORTED, "overtaken")
        await worker.stop()
    assert ran == []


async def test_who_updates_a_job_does_not_undo_the_update_of_another(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """The last who wrote won, with all fields as it had read them."""
    await enqueue(client, "f", key="k")
    running, guest = await claim(queue), await client.job("k")
    assert guest is not None
    await asyncio.gather(
        running.update(progress=0.5), guest.update(meta={"by": "a guest"}), guest.update(ttl=7)
    )
    found = await client.job("k")
    assert found is not None
    assert (found.progress, found.meta, found.ttl) == (0.5, {"by": "a guest"}, 7)


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.FAILED, Status.ABORTED])
async def test_an_abort_of_a_job_that_has_ended_leaves_it_as_it_is(
    status: Status, raw: Redis, queue: RedisQueue, client: RedisQueue
) -> None:
    """It became "aborting", lost its result, and was kept for ever."""
    job = await enqueue(client, "f", ttl=60)
    await run_one(queue, status, result=1, error="before")
    before, left = without_answers(snapshot(raw)), raw.pttl(job.id)
    await job.abort("too late")
    assert without_answers(snapshot(raw)) == before
    assert left - 10_000 < raw.pttl(job.id) <= left


async def test_aborting_a_job_blocks_its_key_nowhere(make_queue: MakeQueue) -> None:
    """For five seconds, no job of that key could be enqueued in any queue: `enqueue` said it was there."""
    one, other = make_queue(name="one"), make_queue(name="other")
    job = await enqueue(one, "f", key="k")
    await job.abort("no more")
    for queue in (other, one):
        assert await queue.enqueue("f", key="k") is not None
        assert await status_of(queue, "k") == "queued"


async def test_a_sweeper_whose_clock_is_ahead_takes_nothing_back(
    queue: RedisQueue, make_queue: MakeQueue, client: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It compared its own clock with that of the worker, and ended jobs that were well."""
    await enqueue(client, "f", key="k", timeout=1)
    running = await claim(queue)
    real, sweeper = time.time, make_queue()
    monkeypatch.setattr(time, "time", lambda: real() + 3_600)
    assert await sweeper.sweep() == []
    assert (await sweeper.step((), 1)).jobs == []
    monkeypatch.undo()
    assert await running.queue.finish(running, Status.COMPLETE)  # type: ignore[union-attr]


async def test_the_counts_of_a_queue_add_up_while_its_jobs_move(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """Each count was read by itself, and one reckoned from the others: with jobs on the move, a queue had -3
    scheduled jobs."""
    await client.enqueue_many(Job("f", key=f"{n}") for n in range(20))
    on = True

    async def move() -> None:
        while on:
            jobs = (await queue.step((), 10)).jobs
            await queue.step(
                [queue.settle_return(job, "later", 0.002 * (n % 3)) for n, job in enumerate(jobs)], 0
            )

    moving = asyncio.create_task(move())
    seen = []
    for _ in range(200):
        info = await client.info()
        seen.append((info["queued"], info["active"], info["scheduled"]))
    on = False
    await moving
    assert [counts for counts in seen if sum(counts) != 20 or min(counts) < 0] == []
    assert len(set(seen)) > 3, "they did not move"
