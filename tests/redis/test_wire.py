"""The connections: that they break unnoticed, how many there are, and what is said without a server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from typing import Any

import pytest
import redis.exceptions
from redis import Redis

from saq.errors import SaqError, SerializationError, ServerError
from saq.job import Job, Status
from saq.queue.base import Queue
from saq.queue.redis import RefusedError, UnreachableError
from tests.conformance.helpers import (
    SOON,
    QueueFactory,
    all_keys,
    attached,
    claim,
    counts,
    enqueue,
    listening,
    status_of,
    turns,
)
from tests.conftest import MakeServer
from tests.ports import free_port
from tests.redis.helpers import calls, session, snapshot
from tests.servers import Server


def cut(raw: Redis, *kinds: str) -> int:
    """Kills connections of these kinds, but not our own."""
    kill: Any = raw.client_kill_filter
    return sum(int(kill(_type=kind, skipme=True)) for kind in kinds or ("normal", "pubsub"))


def names_of(raw: Redis) -> Counter[str]:
    """The connections of queues by name."""
    clients = raw.client_list()
    return Counter(client["name"] for client in clients if client["name"].startswith("saq"))


# -- broken connections -------------------------------------------------------------------------------------


async def test_enqueues_go_through_while_connections_break(raw: Redis, queue: Queue, other: Queue):
    await queue.connect()  # a server that was never reached is tried once
    enqueued: list[asyncio.Task[Job | None]] = []
    for n in range(200):
        enqueued.append(asyncio.create_task(queue.enqueue("f", key=f"{n}")))
        await turns(n % 4)
        if n % 10 == 0:
            cut(raw)
    jobs = await asyncio.gather(*enqueued)
    assert all(jobs), "none is a duplicate of itself"
    assert await counts(other) == {"queued": 200, "incomplete": 200}


async def test_claims_and_ends_go_through_while_connections_break(raw: Redis, queue: Queue, other: Queue):
    await other.enqueue_many(Job("f", key=f"{n}") for n in range(150))
    ended: list[str] = []
    done: list[Any] = []
    chance = random.Random(7)
    while len(ended) < 150:
        step = asyncio.create_task(queue.step(done, 3))
        await turns(chance.randrange(6))
        if chance.random() < 0.3:
            cut(raw)
        result = await step
        assert None not in result.verdicts, "nobody else had it"
        ended += [settlement.job.key for settlement in done]
        done = [queue.settle(job, Status.COMPLETE, result=job.key) for job in result.jobs]
    assert sorted(ended) == sorted(f"{n}" for n in range(150))
    jobs = await other.jobs(ended)
    assert {(job.result, job.attempts) for job in jobs if job} == {(key, 1) for key in ended}


async def test_who_waits_is_told_although_connections_break(raw: Redis, queue: Queue, other: Queue):
    assert await queue.wait("nobody") is None  # a server that was never reached is tried once
    await other.connect()
    for n in range(25):
        waiting = asyncio.create_task(queue.apply("f", key=f"{n}"))
        await turns(n)
        cut(raw)
        job = await other.dequeue(timeout=SOON)
        assert job is not None
        if n % 2:
            cut(raw, "pubsub")
        await other.finish(job, Status.COMPLETE, result=n)
        assert await waiting == n


async def test_an_end_that_was_told_while_nobody_listened_is_found(raw: Redis, queue: Queue, other: Queue):
    (job,) = await enqueue(queue, "k")
    waiting = asyncio.create_task(job.refresh(SOON))
    assert await queue.wait("nobody") is None
    await turns(3)
    await queue.count("queued")
    claimed = await claim(other)
    cut(raw, "pubsub")
    await other.finish(claimed, Status.COMPLETE, result=1)
    await waiting
    assert job.result == 1


async def test_listening_goes_on_after_the_connection_broke(raw: Redis, queue: Queue, other: Queue):
    async with listening(queue, "k") as heard:
        assert cut(raw, "pubsub") == 1
        while not heard.qsize():
            await other.notify(Job("f", key="k", status=Status.ACTIVE))
        assert (await heard.get())[1] is Status.ACTIVE


async def test_dequeue_goes_on_after_the_connection_broke(raw: Redis, queue: Queue, other: Queue):
    for _ in range(5):
        waiting = asyncio.create_task(queue.dequeue(timeout=SOON))
        while names_of(raw)["saq-marker"] == 0:
            await turns(1)
        await other.step((), 0)
        cut(raw)
        await enqueue(other, "k")
        job = await waiting
        assert job is not None
        await job.finish(Status.COMPLETE)


async def test_cancelled_callers_disturb_nobody_else(queue: Queue):
    await enqueue(queue, *(f"{n}" for n in range(50)))
    asked = [(f"{n}", asyncio.create_task(queue.job(f"{n}"))) for n in range(50)]
    await turns(1)
    for n, (_, task) in enumerate(asked):
        if n % 3 == 0:
            task.cancel()
    for n, (key, task) in enumerate(asked):
        if n % 3 == 0:
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            job = await task
            assert job is not None
            assert job.key == key


async def test_a_server_that_is_back_soon_was_never_missed(make_server: MakeServer):
    server = make_server(appendonly="yes", appendfsync="always")
    queue = Queue.from_url(server.url())
    await enqueue(queue, "before")
    server.kill()
    enqueuing = asyncio.create_task(enqueue(queue, "meanwhile"))
    claiming = asyncio.create_task(queue.dequeue(timeout=SOON))
    await asyncio.to_thread(server.start)
    assert [job.key for job in await enqueuing] == ["meanwhile"]
    job = await claiming
    assert job is not None
    await job.finish(Status.COMPLETE)
    assert sorted(await all_keys(queue)) == ["before", "meanwhile"]
    await queue.disconnect()


async def test_a_server_that_does_not_answer_counts_as_away(make_server: MakeServer):
    server = make_server()
    queue = Queue.from_url(server.url())
    await queue.connect()
    session(queue).wire.silence = 0.1
    server.pause()
    waiting = asyncio.create_task(queue.count("queued"))
    await session(queue).wire.lost.wait()
    server.resume()
    assert await waiting == 0
    await queue.disconnect()


async def test_a_server_that_only_accepts_counts_as_away_as_soon_as_one_that_fell_silent():
    """Whoever renews leases has to find another way while there is time."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        queue = Queue.from_url(f"redis://127.0.0.1:{deaf.getsockname()[1]}")
        session(queue).wire.silence = 0.1
        with pytest.raises(UnreachableError, match=r"no answer for 0\.1 s"):
            await asyncio.wait_for(queue.connect(), 3)
        await queue.disconnect()


# -- no server, or none for us ------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_told_at_once_and_with_advice():
    port = free_port()
    queue = Queue.from_url(f"redis://:secret@127.0.0.1:{port}/3")
    for call in (queue.connect(), queue.enqueue("f"), queue.apply("f"), queue.job("k"), queue.dequeue(1)):
        with pytest.raises(UnreachableError) as unreachable:
            await call
        text = str(unreachable.value)
        assert f"redis://127.0.0.1:{port}/3" in text
        assert "once" in text
        assert "redis-server" in text
        assert "embedded://" in text
        assert "secret" not in text
        assert isinstance(unreachable.value, SaqError | redis.exceptions.ConnectionError)
    await queue.disconnect()


async def test_a_wrong_password_is_told_as_such(make_server: MakeServer):
    server = make_server(requirepass="right")
    for url in (server.url().replace("right", "wrong"), server.url().replace(":right@", "")):
        queue = Queue.from_url(url)
        with pytest.raises(ServerError, match=r"password|credentials|NOAUTH|Authentication") as refused:
            await queue.enqueue("f")
        assert "wrong" not in str(refused.value).replace("wrong.", "").replace("is wrong", "")
        await queue.disconnect()
    queue = Queue.from_url(server.url())
    assert await queue.enqueue("f")
    await queue.disconnect()


async def test_a_server_out_of_memory_takes_in_nothing_and_lets_everything_end(make_server: MakeServer):
    server = make_server(maxmemory_policy="noeviction")
    queue = Queue.from_url(server.url())
    await enqueue(queue, "a", "b", retries=2)
    a, b = (await queue.step((), 2)).jobs
    server.client().config_set("maxmemory", 1)
    with pytest.raises(RefusedError, match=r"OOM.*maxmemory"):
        await queue.enqueue("f", key="c")
    assert (await queue.step([queue.settle(a, Status.COMPLETE, result=1)], 0)).verdicts == [Status.COMPLETE]
    await b.retry("again")
    assert await counts(queue) == {"queued": 1, "incomplete": 1}
    assert await status_of(queue, "a") == "complete"
    assert await status_of(queue, "c") == "missing"
    server.client().config_set("maxmemory", 0)
    assert await queue.enqueue("f", key="c")
    await queue.disconnect()


async def test_a_queue_that_was_disconnected_while_it_was_busy_answers_all(queue: Queue):
    calls = [asyncio.create_task(queue.enqueue("f", key=f"{n}")) for n in range(20)]
    await turns(2)
    await queue.disconnect()
    done, pending = await asyncio.wait(calls, timeout=SOON)
    assert not pending
    for call in done:
        assert isinstance(call.exception(), UnreachableError | None)


# -- how many connections, how many calls -------------------------------------------------------------------


async def test_a_process_has_four_connections_at_the_most(raw: Redis, queue: Queue):
    async with attached(queue), listening(queue, *"abc"):
        waiting = [asyncio.create_task(queue.apply("f", key=f"{n}")) for n in range(100)]
        while await queue.count("queued") < 100:
            pass
        jobs = (await queue.step((), 100)).jobs
        dequeues = [asyncio.create_task(queue.dequeue(timeout=SOON)) for _ in range(5)]
        await asyncio.gather(*(job.update(progress=0.5) for job in jobs))
        assert sum(names_of(raw).values()) <= 4
        assert max(names_of(raw).values()) == 1
        await asyncio.gather(*(job.finish(Status.COMPLETE) for job in jobs))
        await asyncio.gather(*waiting)
        await enqueue(queue, *"vwxyz")
        for task in dequeues:
            job = await task
            assert job is not None
            await job.finish(Status.COMPLETE)
        assert names_of(raw).keys() <= {"saq", "saq-marker", "saq-inbox", "saq-leases"}
    await queue.disconnect()
    while names_of(raw):  # the server notices by and by
        await turns(1)


async def test_enqueues_of_one_turn_go_out_as_one_call(raw: Redis, queue: Queue):
    await queue.enqueue("f")
    raw.config_resetstat()
    await asyncio.gather(*(queue.enqueue("f", n=n) for n in range(200)))
    assert calls(raw, "evalsha", "eval") == 1
    raw.config_resetstat()
    await asyncio.gather(*(queue.enqueue("f", n=n) for n in range(1_000)))
    assert calls(raw, "evalsha", "eval") == 5
    raw.config_resetstat()
    await queue.enqueue_many(Job("f") for _ in range(1_000))
    assert calls(raw, "evalsha", "eval") == 5


async def test_big_jobs_are_spread_over_calls(raw: Redis, queue: Queue):
    await queue.enqueue("f")
    raw.config_resetstat()
    await asyncio.gather(*(queue.enqueue("f", data="x" * 50_000) for n in range(20)))
    assert 4 <= calls(raw, "evalsha", "eval") <= 5


async def test_settling_and_claiming_is_one_call(raw: Redis, queue: Queue):
    await enqueue(queue, *(f"{n}" for n in range(100)))
    jobs = (await queue.step((), 50)).jobs
    raw.config_resetstat()
    await queue.step([queue.settle(job, Status.COMPLETE) for job in jobs], 50)
    assert calls(raw, "evalsha", "eval") == 1


# -- the outbox ---------------------------------------------------------------------------------------------


async def test_an_enqueue_that_is_cancelled_before_it_is_sent_is_not_sent(queue: Queue, other: Queue):
    await queue.connect()
    sending = [asyncio.create_task(queue.enqueue("f", key=f"{n}")) for n in range(10)]
    for task in sending[::2]:
        task.cancel()
    await asyncio.wait(sending)
    assert await all_keys(other) == ["1", "3", "5", "7", "9"]
    sending = [asyncio.create_task(queue.enqueue("f", key=f"later {n}")) for n in range(4)]
    await turns(1)  # put into the outbox, in which nothing was done yet
    sending[0].cancel()
    await asyncio.wait(sending)
    assert [task.cancelled() for task in sending] == [True, False, False, False]
    for task in sending[1:]:
        assert await task is not None


async def test_an_enqueue_cancelled_at_any_moment_is_there_or_not_and_the_next_works(
    queue: Queue, other: Queue
):
    for place in range(30):
        task = asyncio.create_task(queue.enqueue("f", key="k"))
        beside = asyncio.create_task(queue.enqueue("f", key="beside"))
        await turns(place)
        task.cancel()
        await asyncio.wait([task])
        assert await beside is not None
        assert await status_of(other, "k") in ("queued", "missing")
        await queue.enqueue("f", key="k")
        assert await status_of(other, "k") == "queued"
        for key in ("k", "beside"):
            assert await other.delete(key)


async def test_one_bad_job_of_a_turn_does_not_harm_the_others(queue: Queue, other: Queue):
    results = await asyncio.gather(
        *(queue.enqueue("f", key=f"{n}", data=object() if n == 2 else n) for n in range(5)),
        return_exceptions=True,
    )
    assert isinstance(results[2], SerializationError)
    assert await all_keys(other) == ["0", "1", "3", "4"]


async def test_jobs_that_cannot_be_sent_are_refused_to_their_callers(make_server: MakeServer):
    server = make_server(maxmemory_policy="noeviction")
    queue = Queue.from_url(server.url())
    await queue.connect()
    server.client().config_set("maxmemory", 1)
    results = await asyncio.gather(*(queue.enqueue("f") for _ in range(300)), return_exceptions=True)
    assert {type(result) for result in results} == {RefusedError}
    server.client().config_set("maxmemory", 0)
    assert await queue.enqueue("f")
    await queue.disconnect()


async def test_a_queue_of_a_client_of_the_user_leaves_its_settings_alone(server: Server, raw: Redis):
    import redis.asyncio as aioredis

    from saq.queue.redis import RedisQueue

    client = aioredis.Redis.from_url(server.url(), decode_responses=True, socket_timeout=3)
    queue = RedisQueue(client, name="theirs")
    await enqueue(queue, "k")
    assert await client.ping()
    assert await client.keys("*jobs") == ["saq:{theirs}:jobs"]
    await queue.disconnect()


async def test_what_is_read_back_is_what_was_written(raw: Redis, queue: Queue, queue_factory: QueueFactory):
    """A queue object that knows nothing of the first one reads the very same."""
    await enqueue(queue, "k", n=1, retries=3, ttl=7)
    before = snapshot(raw)
    job = await queue_factory().job("k")
    assert job is not None
    assert (job.kwargs, job.retries, job.ttl) == ({"n": 1}, 3, 7)
    assert snapshot(raw) == before
