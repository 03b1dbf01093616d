"""Answers that come late, or later than a connection is given: whatever was done is done once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import Redis

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.claims import Claims
from tests.conformance.helpers import attached
from tests.faults.conftest import MakeQueue, Work
from tests.faults.proxy import Proxy
from tests.redis.helpers import calls
from tests.servers import Server
from tests.suspensions.promises import end_leases
from tests.worker.support import ended, until

#: Seconds without an answer after which a connection counts as dead here.
SILENCE = 0.15


def impatient(proxy: Proxy, make_queue: MakeQueue) -> RedisQueue:
    """A queue that gives a connection up soon, and also one that is being made."""
    queue = make_queue(f"{proxy.url}?socket_timeout={SILENCE}&socket_connect_timeout={SILENCE}")
    queue._session.wire.silence = SILENCE
    return queue


async def test_late_answers_change_nothing(
    proxy: Proxy, client: RedisQueue, make_queue: MakeQueue, work: Work
):
    runs = 0

    async def note(ctx: Any) -> str:
        nonlocal runs
        runs += 1
        await ctx["job"].update(progress=0.5)
        return "noted"

    worker, waiter = make_queue(proxy.url), make_queue(proxy.url)
    await work({"note": note}, queue=worker)
    proxy.late = 0.05
    assert await asyncio.gather(*(waiter.apply("note") for _ in range(5))) == ["noted"] * 5
    assert runs == 5
    assert await client.count("incomplete") == 0
    proxy.late = 0.0


@pytest.mark.parametrize("what", ["enqueue", "claim", "settle"])
async def test_what_arrives_after_the_connection_was_given_up_is_done_once(
    what: str, proxy: Proxy, client: RedisQueue, make_queue: MakeQueue
):
    """It is sent again on another connection, and both arrive: the first may be the later one."""
    queue = impatient(proxy, make_queue)
    await queue.connect()
    if what == "settle":
        await client.enqueue("f", key="k")
        (job,) = (await queue.step((), 1)).jobs
    elif what == "claim":
        await client.enqueue("f", key="k")
        await client.enqueue("f", key="other")
    proxy.freeze()
    lost = queue._session.wire.lost
    if what == "enqueue":
        doing: asyncio.Task[Any] = asyncio.create_task(queue.enqueue("f", key="k"))
    elif what == "claim":
        doing = asyncio.create_task(queue.step((), 1))
    else:
        doing = asyncio.create_task(queue.step([queue.settle(job, Status.COMPLETE, result=1)], 0))
    await lost.wait()
    proxy.thaw()
    answer = await doing
    if what == "enqueue":
        assert answer is not None, "it is told that its own job was there already"
        assert await client.count("incomplete") == 1
    elif what == "claim":
        assert [job.key for job in answer.jobs] == ["k"]
        assert (await client.count("active"), await client.count("queued")) == (1, 1)
    else:
        assert answer.verdicts == [Status.COMPLETE]
        assert await client.count("incomplete") == 0


async def test_a_caller_is_told_when_nothing_is_heard_for_long(proxy: Proxy, make_queue: MakeQueue):
    """Half open from the first moment on: the server acts on what reaches it, and no answer comes back."""
    queue = impatient(proxy, make_queue)
    await queue.enqueue("f", key="before")
    proxy.silence("saq")
    assert await queue.enqueue("f", key="k") is not None
    assert await queue.enqueue("f", key="k") is None
    assert await queue.count("incomplete") == 2


async def test_a_claim_that_took_half_its_lease_is_renewed_before_it_is_run(
    server: Server, proxy: Proxy, client: RedisQueue, make_queue: MakeQueue
):
    raw = server.client()
    queue = make_queue(proxy.url)
    await queue.connect()
    async with attached(queue, lease=1.2):
        await client.enqueue("f", key="k")
        raw.config_resetstat()
        proxy.late = 0.8
        (job,) = (await queue.step((), 1)).jobs
        proxy.late = 0.0
        assert calls(raw, "evalsha", "eval") >= 2
        until_ms = raw.zscore("saq:{default}:active", job._member or b"")
        assert until_ms is not None
        assert until_ms - 1000 * await queue.server_time() > 50, "nothing is left of the first lease"
        await job.finish(Status.COMPLETE)


@pytest.mark.parametrize("keeper_first", [False, True])
async def test_a_claim_that_took_longer_than_its_lease_and_is_lost_is_not_run(
    server: Server,
    proxy: Proxy,
    client: RedisQueue,
    make_queue: MakeQueue,
    monkeypatch: pytest.MonkeyPatch,
    keeper_first: bool,
):
    """Whoever asks first whether it is lost: the claim itself, or the keeper of leases."""
    raw: Redis = server.client()
    queue = make_queue(proxy.url)
    renew = Claims._renew

    async def told_meanwhile(claims: Claims, jobs: list[Job]) -> None:
        claims.found([job._member or b"" for job in jobs], [])
        await renew(claims, jobs)

    if keeper_first:
        monkeypatch.setattr(Claims, "_renew", told_meanwhile)
    async with attached(queue, lease=0.4):
        await client.enqueue("f", key="k")
        await queue.count("queued")
        proxy.freeze()
        claiming = asyncio.create_task(queue.step((), 1))
        proxy.late = 0.3
        proxy.thaw()
        await until(lambda: raw.zcard("saq:{default}:active"))
        end_leases(raw, "saq:{default}:")
        await client.sweep()
        (theirs,) = (await client.step((), 1)).jobs
        assert (await claiming).jobs == []
        proxy.late = 0.0
        await theirs.finish(Status.COMPLETE, result="theirs")
    assert (await ended(client, "k")).result == "theirs"
