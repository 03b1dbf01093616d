"""Jobs that said what was not so, and people who were not told what was."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis import Redis

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.conformance.helpers import SOON, claim, run_one, status_of
from tests.faults.proxy import Cut, proxied
from tests.redis.helpers import calls, prefix, snapshot, without_answers
from tests.servers import Server
from tests.worker.conftest import MakeQueue
from tests.worker.support import enqueue, until


async def test_a_heartbeat_does_not_undo_an_abort(queue: RedisQueue, client: RedisQueue) -> None:
    """An update read the whole job, and wrote the whole job: what was aborted between was active again."""
    job = await enqueue(client, "f")
    running = await claim(queue)
    await asyncio.gather(*(running.update(progress=n / 10) for n in range(9)), job.abort("enough"))
    await running.update()
    found = await client.job(job.key)
    assert found is not None
    assert (found.status, found.error) == (Status.ABORTING, "enough")


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


async def test_who_waits_is_told_although_the_worker_never_hears_that_its_result_was_taken(
    server: Server, make_queue: MakeQueue, client: RedisQueue, raw: Redis
) -> None:
    """The end of a job was written first and told later: a worker that died between left all waiting."""
    async with proxied(server.port) as proxy:
        worker = make_queue(proxy.url)
        job = await enqueue(client, "f")
        running = await claim(worker)
        waiting = asyncio.create_task(client.wait(job.key, SOON))
        await until(lambda: raw.hexists(prefix(client) + b"waiting", job.key))
        proxy.cut(Cut("answer"))
        proxy.refusing = True
        ending = asyncio.create_task(worker.finish(running, Status.COMPLETE, result=1))
        end = await waiting
        assert end is not None
        assert (end.status, end.result, proxy.faults) == (Status.COMPLETE, 1, 1)
        assert not ending.done()
        proxy.refusing = False
        assert await ending, "and it hears the same when it asks again"
        await worker.disconnect()


async def test_a_process_is_told_of_nothing_that_it_does_not_wait_for(
    make_queue: MakeQueue, raw: Redis
) -> None:
    """Who waited for one job was told of all jobs of its queue, and of queues whose names began alike."""
    one, alike = make_queue(name="a"), make_queue(name="ab")
    job = await enqueue(one, "f", key="waited for", priority=1)
    waiting = asyncio.create_task(one.wait(job.key, SOON))
    await until(lambda: raw.hexists(prefix(one) + b"waiting", job.key))
    raw.config_resetstat()
    for queue in (one, alike):
        await queue.enqueue_many(Job("f", key=f"{n}") for n in range(20))
        while await queue.count("queued") > (queue is one):
            await run_one(queue)
    assert calls(raw, "publish") == 0
    assert raw.pubsub_numpat() == 0
    await run_one(one)
    assert (await waiting) == job
    assert calls(raw, "publish") == 1


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
