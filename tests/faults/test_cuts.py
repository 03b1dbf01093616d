"""The way of a job: with connections cut at every byte, every answer lost in turn, each connection lost by
itself, and the server started anew at each stage. What a cut does to one call is in test_lost_answers.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from saq.job import Status
from saq.queue.redis import RedisQueue, UnreachableError
from saq.queue.redis.scripts import load
from tests.conftest import MakeServer
from tests.faults.conftest import MakeQueue, Work
from tests.faults.proxy import Cut, Proxy, proxied
from tests.servers import Server
from tests.worker.support import ended, enqueue, idle, make_worker, took, until

#: The calls of a job's way: taken in, claimed, settled, asked for.
CALLS = ("enqueue", "step", "step", "read")
#: More bytes than any of them or of their answers has.
BYTES = 2_000
#: So many are under way at once: each waits, most of the time, for the next try.
AT_ONCE = 40


async def way_of_a_job(url: str, name: str, cut: Callable[[], None]) -> Any:
    """A queue of its own for each; returns the result."""
    queue = RedisQueue.from_url(url, name=name)
    try:
        await queue.connect()
        cut()
        assert await queue.enqueue("f", key="k", a=1) is not None
        (job,) = (await queue.step((), 1)).jobs
        step = await queue.step([queue.settle(job, Status.COMPLETE, result=[1, 2])], 0)
        assert step.verdicts == [Status.COMPLETE]
        (found,) = await queue.jobs(["k"])
        assert found is not None
        return found.result, found.attempts
    finally:
        await queue.disconnect()


async def cut_at(server: Server, where: str, nth: int, at: int) -> bool:
    """Returns whether the cut came behind the last byte."""
    name = f"{where}-{nth}-{at}"
    async with proxied(server.port) as proxy:
        way = way_of_a_job(proxy.url, name, lambda: proxy.cut(Cut(where, nth, at)))
        assert await way == ([1, 2], 1), name
        assert proxy.faults == 1, "the fault never happened"
        return proxy.cut_behind


@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", ["request", "answer"])
@pytest.mark.parametrize("nth", range(1, len(CALLS) + 1))
async def test_a_cut_at_any_byte_changes_nothing(where: str, nth: int, server: Server, redis_url: str):
    raw = server.client()
    for name in set(CALLS):
        raw.script_load(load(name).source)
    for first in range(0, BYTES, AT_ONCE):
        behind = await asyncio.gather(
            *(cut_at(server, where, nth, at) for at in range(first, first + AT_ONCE))
        )
        if all(behind):
            break
    else:
        pytest.fail("there is no end of it")
    queues = first + AT_ONCE
    counted: Counter[Any] = Counter()
    for stats in raw.keys("*:stats"):
        counted += Counter({field: int(count) for field, count in raw.hgetall(stats).items()})
    assert counted == {b"enqueued": queues, b"complete": queues}


# -- with a worker ------------------------------------------------------------------------------------------


class Runs:
    """What a worker does, and how often it did."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.started = asyncio.Event()

    async def quick(self, ctx: Any) -> str:
        self.count["quick"] += 1
        return "quick"

    async def held(self, ctx: Any) -> str:
        """Ends when it may."""
        self.count["held"] += 1
        self.started.set()
        await self.go_on.wait()
        return "held"

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        return {"quick": self.quick, "held": self.held}


async def test_every_answer_in_turn_is_lost_on_the_way_of_a_job(
    proxy: Proxy, client: RedisQueue, make_queue: MakeQueue, work: Work
):
    """Of the worker's commands and of those of who waits, whatever they are."""
    runs = Runs()
    worker, waiter = make_queue(proxy.url), make_queue(proxy.url)
    await work(runs.functions, queue=worker)
    assert await waiter.apply("quick") == "quick"
    nth = 0
    while True:
        nth += 1
        await until(lambda: blocked(client))
        proxy.cut(Cut("answer", nth, match=lambda words: True))
        assert await waiter.apply("quick") == "quick"
        assert runs.count["quick"] == nth + 1, f"the answer {nth} was lost, and the job ran again"
        if proxy.armed:
            break
    assert nth > 3
    proxy.cut(Cut("answer", 1_000_000))
    assert await client.count("incomplete") == 0


async def test_a_worker_by_hand_that_could_not_subscribe_does_so_the_next_time(
    proxy: Proxy, client: RedisQueue, make_queue: MakeQueue
):
    runs = Runs()
    worker = make_worker(make_queue(proxy.url), runs.functions, dequeue_timeout=5)
    await worker.queue.connect()
    proxy.refusing = True
    with pytest.raises(UnreachableError):
        await worker.process()
    proxy.refusing = False
    job = await enqueue(client, "held", timeout=0)
    processing = asyncio.create_task(worker.process())
    await runs.started.wait()
    async with took(at_most=3):  # it is told: asking comes with the renewal of its lease, every ten seconds
        await job.abort("enough")
        assert await processing
    assert (await ended(client, job)).status is Status.ABORTED
    await worker.stop()


async def blocked(client: RedisQueue) -> bool:
    return bool((await client.redis.info("clients"))["blocked_clients"])


@pytest.mark.parametrize("name", ["saq", "saq-marker", "saq-inbox", "saq-leases"])
@pytest.mark.parametrize("how", ["drop", "silence"])
async def test_each_connection_may_be_lost_while_a_job_runs(
    how: str,
    name: str,
    proxy: Proxy,
    client: RedisQueue,
    make_queue: MakeQueue,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
):
    """It breaks, or it stays and says nothing any more."""
    monkeypatch.setattr("saq.queue.redis.inbox.PING_EVERY", 0.1)
    monkeypatch.setattr("saq.queue.redis.session.BLOCK_MARGIN", 0.1)
    runs = Runs()
    queue = make_queue(proxy.url)
    queue._session.wire.silence = 0.2
    await work(runs.functions, queue=queue, lease=2.0, concurrency=2)
    await idle(client)
    held = await enqueue(client, "held", timeout=0)
    await runs.started.wait()
    await until(lambda: connected(client, name))
    getattr(proxy, how)(name)
    beside = await enqueue(client, "quick")
    assert (await ended(client, beside)).result == "quick"
    # Longer than the lease: it must be renewed on a connection that works.
    began = await client.server_time()
    await until(lambda: later(client, began + 2.5))
    assert await client.sweep() == []
    runs.go_on.set()
    assert (await ended(client, held)).result == "held"
    runs.go_on.clear()
    aborted = await enqueue(client, "held", timeout=0)
    await until(lambda: runs.count["held"] == 2)
    await aborted.abort("enough")
    end = await ended(client, aborted)
    assert (end.status, end.error) == (Status.ABORTED, "enough")
    assert runs.count == {"held": 2, "quick": 1}
    assert proxy.faults


async def connected(client: RedisQueue, name: str) -> bool:
    return name in {found["name"] for found in await client.redis.client_list()}


async def later(client: RedisQueue, moment: float) -> bool:
    return await client.server_time() > moment


@pytest.mark.parametrize("how", ["drop", "silence"])
async def test_who_waits_is_told_although_its_subscription_was_lost(
    how: str, proxy: Proxy, client: RedisQueue, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("saq.queue.redis.inbox.PING_EVERY", 0.1)
    waiter = make_queue(proxy.url)
    waiting = asyncio.create_task(waiter.apply("f", key="k"))
    (job,) = [await client.dequeue(timeout=5)]
    assert job is not None
    getattr(proxy, how)("saq-inbox")
    await client.finish(job, Status.COMPLETE, result=1)
    assert await asyncio.wait_for(waiting, 5) == 1


# -- the server is started anew -----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["enqueueing", "idle", "running", "settling"])
async def test_the_server_may_start_anew_at_each_stage(
    stage: str, make_server: MakeServer, make_queue: MakeQueue, work: Work
):
    server = make_server(appendonly="yes", appendfsync="always")
    queue, client = make_queue(server.url()), make_queue(server.url())
    runs = Runs()
    await work(runs.functions, queue=queue)
    await idle(client)
    assert await client.apply("quick") == "quick"  # it is subscribed from here on
    tasks: list[asyncio.Task[Any]] = []
    if stage in ("running", "settling"):
        tasks.append(asyncio.create_task(client.apply("held", key="held")))
        await runs.started.wait()
    server.kill()
    if stage == "settling":
        runs.go_on.set()
    if stage == "enqueueing":
        tasks.append(asyncio.create_task(client.apply("held", key="held")))
    await asyncio.to_thread(server.start)
    runs.go_on.set()
    if stage == "idle":
        tasks.append(asyncio.create_task(client.apply("held", key="held")))
    async with asyncio.timeout(15):
        assert set(await asyncio.gather(*tasks)) == {"held"}
    assert runs.count == {"quick": 1, "held": 1}
    assert await client.count("incomplete") == 0
