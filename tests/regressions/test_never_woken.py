"""People and workers who waited, and were not told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from redis import Redis

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.conformance.helpers import SOON, claim, run_one, turns
from tests.faults.proxy import Cut, proxied
from tests.redis.helpers import calls, prefix
from tests.servers import Server
from tests.worker.conftest import MakeQueue
from tests.worker.support import enqueue, idle, took, until


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


async def listen(queue: RedisQueue, key: str) -> None:
    await queue.listen([key], lambda key, status: status is Status.COMPLETE, timeout=None)


async def wait(queue: RedisQueue, key: str) -> None:
    assert await queue.wait(key) is not None


@pytest.mark.parametrize(("hear", "heard_in"), [(listen, b"watching"), (wait, b"waiting")])
@pytest.mark.parametrize("order", ["comes first", "goes first"])
async def test_who_begins_to_wait_as_another_gives_up_is_told(
    order: str,
    hear: Callable[[RedisQueue, str], Coroutine[Any, Any, None]],
    heard_in: bytes,
    raw: Redis,
    queue: RedisQueue,
    client: RedisQueue,
) -> None:
    """The last who waited shut everything down when it left, and with it who had just come: that one heard
    nothing, or was told that it had waited long enough."""
    for gap in range(10):
        key = f"{gap}"
        await enqueue(client, "f", key=key)
        running = await claim(queue)
        goes = asyncio.create_task(hear(client, key))
        await until(partial(raw.hexists, prefix(client) + heard_in, key))
        if order == "goes first":
            goes.cancel()
            await turns(gap)
        comes = asyncio.create_task(hear(client, key))
        if order == "comes first":
            await turns(gap)
            goes.cancel()
        await asyncio.wait([goes])
        await turns(20)
        await client.count("queued")  # what was sent until now has arrived
        await queue.finish(running, Status.COMPLETE)
        async with took(at_most=5.0):
            await comes


async def test_a_waiting_worker_is_woken_though_another_gave_up_in_the_moment_of_its_wake_up(
    server: Server, make_queue: MakeQueue, client: RedisQueue
) -> None:
    """Redis had handed a job to somebody who just then gave up waiting: nobody else heard of it until it was
    swept."""
    async with proxied(server.port) as proxy:
        gives_up, next_one = make_queue(proxy.url), make_queue()
        first = asyncio.create_task(gives_up.dequeue())
        await idle(client)
        second = asyncio.create_task(next_one.dequeue())
        await idle(client, 2)
        proxy.late = 0.3
        await enqueue(client, "f", key="k")
        await idle(client)
        first.cancel()
        async with took(at_most=3.0):
            job = await second
        assert job is not None
        assert job.key == "k"
        await next_one.finish(job, Status.COMPLETE)
        await asyncio.wait([first])
        assert first.cancelled()
        await gives_up.disconnect()
