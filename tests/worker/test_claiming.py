"""How workers come by their jobs: at once, on time, each once, and never one that they do not know."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import pytest

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.servers import Server
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, made_known, took, until


async def nothing(ctx: Any) -> None:
    pass


# At once ---------------------------------------------------------------------------------------------------


async def test_an_idle_worker_starts_a_new_job_at_once(client: RedisQueue, work: Work) -> None:
    await work({"nothing": nothing})
    took_ms: list[float] = []
    await client.apply("nothing")  # connections and scripts are there from now on
    for _ in range(20):
        await idle(client)
        began = time.perf_counter()
        await client.apply("nothing")
        took_ms.append((time.perf_counter() - began) * 1000)
    took_ms.sort()
    assert took_ms[10] < 20, took_ms
    assert took_ms[-1] < 100, took_ms


async def test_a_worker_that_was_busy_takes_the_next_job_as_soon_as_one_ends(
    client: RedisQueue, work: Work
) -> None:
    ons = [asyncio.Event() for _ in range(3)]
    started: asyncio.Queue[int] = asyncio.Queue()

    async def wait(ctx: Any, *, n: int) -> None:
        await started.put(n)
        await ons[n].wait()

    await work({"wait": wait}, concurrency=2)
    for n in range(3):
        await client.enqueue("wait", n=n)
    assert {await started.get(), await started.get()} == {0, 1}
    async with took(at_most=0.3):
        ons[1].set()
        assert await started.get() == 2
    for on in ons:
        on.set()
    await until(lambda: _is_empty(client))


async def _is_empty(client: RedisQueue) -> bool:
    return await client.count("incomplete") == 0


async def test_a_worker_that_is_full_does_not_stand_in_line_for_the_marker(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """Full by a job that no marker brought, it must not get one that is for the idle worker behind it."""
    on = asyncio.Event()
    started: asyncio.Queue[str] = asyncio.Queue()

    async def wait(ctx: Any) -> None:
        await started.put(ctx["worker"].id)
        await on.wait()

    await client.enqueue("wait", scheduled=time.time() + 0.3)
    await work({"wait": wait}, queue=make_queue(), id="one", concurrency=1)
    await idle(client, 1)
    assert await started.get() == "one"
    await work({"wait": wait}, queue=make_queue(), id="two", concurrency=1)
    await until(lambda: _workers(client, 2))
    async with took(at_most=2.0):
        await idle(client, 1)
    async with took(at_most=0.5):
        await client.enqueue("wait")
        assert await started.get() == "two"
    on.set()
    await until(lambda: _is_empty(client))


async def _workers(client: RedisQueue, count: int) -> bool:
    return len((await client.info())["workers"]) == count


async def test_a_marker_that_a_stopping_worker_took_is_not_lost_to_the_others(
    make_queue: MakeQueue, client: RedisQueue, work: Work, server: Server
) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    marker = server.client()

    async def note(ctx: Any) -> None:
        await started.put(ctx["worker"].id)

    slow = []
    for turns in [0, 1, 2, 3, 4] * 4:
        # The one that waits the longest is the one that gets the marker.
        goes = await work({"note": note}, queue=make_queue(), id="goes")
        await idle(client, 1)
        stays = await work({"note": note}, queue=make_queue(), id="stays")
        await idle(client, 2)
        await client.enqueue("note")
        while marker.exists("saq:{default}:wake"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        began = time.monotonic()
        await goes.stop()
        await started.get()
        if time.monotonic() - began > 1.0:
            slow.append(turns)
        await stays.stop()
    assert not slow


# On time ---------------------------------------------------------------------------------------------------


async def test_a_scheduled_job_starts_at_its_time_on_an_idle_worker(client: RedisQueue, work: Work) -> None:
    starts: list[float] = []

    async def note(ctx: Any) -> None:
        starts.append(time.time())

    await work({"note": note})
    await idle(client)
    at = time.time() + 0.3
    await ended(client, await enqueue(client, "note", scheduled=at))
    assert 0 <= starts[0] - at < 0.08


async def test_an_earlier_one_that_is_enqueued_later_starts_at_its_time_too(
    client: RedisQueue, work: Work
) -> None:
    starts: dict[str, float] = {}

    async def note(ctx: Any) -> None:
        starts[ctx["job"].key] = time.time()

    await work({"note": note})
    await idle(client)
    now = time.time()
    due = {"late": now + 0.6, "early": now + 0.2, "middle": now + 0.4}
    jobs = []
    for key, at in due.items():
        jobs.append(await enqueue(client, "note", key=key, scheduled=at))
        await idle(client)
    for job in jobs:
        await ended(client, job)
    for key, at in due.items():
        assert 0 <= starts[key] - at < 0.08, key


async def test_a_scheduled_job_starts_on_time_though_the_worker_is_busy_with_others(
    client: RedisQueue, work: Work
) -> None:
    starts: list[float] = []

    async def note(ctx: Any) -> None:
        starts.append(time.time())

    async def chain(ctx: Any) -> None:
        await asyncio.sleep(0.001)
        if not starts:
            await ctx["queue"].enqueue("chain")

    await work({"note": note, "chain": chain}, concurrency=2)
    await client.enqueue("chain")
    at = time.time() + 0.3
    await ended(client, await enqueue(client, "note", scheduled=at))
    assert 0 <= starts[0] - at < 0.1
    await until(lambda: _is_empty(client))


async def test_jobs_of_the_past_run_at_once_and_those_of_the_far_future_wait(
    client: RedisQueue, work: Work
) -> None:
    await work({"nothing": nothing})
    await idle(client)
    far = await enqueue(client, "nothing", scheduled=time.time() + 10 * 365 * 86400)
    async with took(at_most=0.5):
        await ended(client, await enqueue(client, "nothing", scheduled=1))
        await ended(client, await enqueue(client, "nothing", scheduled=time.time() - 0.5))
    await far.refresh()
    assert (far.status, await client.count("scheduled")) == (Status.QUEUED, 1)


async def test_lower_priorities_run_first_and_equal_ones_in_order(client: RedisQueue, work: Work) -> None:
    order: list[str] = []

    async def note(ctx: Any) -> None:
        order.append(ctx["job"].key)

    for key, priority in [("a", 0), ("b", 5), ("c", -5), ("d", 0), ("e", 32767), ("f", -32768)]:
        await client.enqueue("note", key=key, priority=priority)
    await work({"note": note}, concurrency=1)
    await until(lambda: len(order) == 6)
    assert order == ["f", "c", "a", "d", "b", "e"]


# Each once -------------------------------------------------------------------------------------------------


async def test_four_workers_run_each_of_2000_jobs_exactly_once(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    runs: Counter[int] = Counter()
    by: Counter[str] = Counter()

    async def note(ctx: Any, *, n: int) -> int:
        runs[n] += 1
        by[ctx["worker"].id] += 1
        if n % 10 == 0:
            await asyncio.sleep(0)
        return n

    for name in "abcd":
        await work({"note": note}, queue=make_queue(), id=name, concurrency=10)
    await idle(client, 4)
    results = await client.map("note", [{"n": n} for n in range(2000)], timeout=20)
    assert results == list(range(2000))
    assert set(runs.values()) == {1}
    assert len(runs) == 2000
    assert len(by) > 1
    assert await client.count("incomplete") == 0


# Unknown functions -----------------------------------------------------------------------------------------


async def test_an_unknown_function_is_given_back_and_said_once_and_another_worker_runs_it(
    make_queue: MakeQueue, client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    await work({"nothing": nothing}, queue=make_queue(), concurrency=1, id="ignorant")
    jobs = [await enqueue(client, "rare") for _ in range(3)]
    await until(lambda: "does not know the function 'rare'" in caplog.text)
    # Its one slot is free again.
    async with took(at_most=1.0):
        await client.apply("nothing")
    await until(lambda: _attempted(client, jobs))
    for job in jobs:
        assert job.status is Status.QUEUED

    async def rare(ctx: Any) -> str:
        return str(ctx["worker"].id)

    await work({"rare": rare}, queue=make_queue(), id="knowing")
    async with took(at_most=5.0):
        ends = [await ended(client, job) for job in jobs]
    assert {end.result for end in ends} == {"knowing"}
    said = [r for r in caplog.records if "does not know the function" in r.getMessage()]
    assert len(said) == 1
    assert "nothing" in said[0].getMessage()


async def _attempted(client: RedisQueue, jobs: list[Job]) -> bool:
    for job in jobs:
        await job.refresh()
    return all(job.attempts and job.status is Status.QUEUED for job in jobs)


async def test_hooks_do_not_run_for_an_unknown_function(client: RedisQueue, work: Work) -> None:
    said: list[str] = []
    await work(
        {"nothing": nothing},
        before_process=lambda ctx: said.append("before"),
        after_process=lambda ctx: said.append("after"),
    )
    job = await enqueue(client, "rare")
    await until(lambda: _attempted(client, [job]))
    assert not said


async def test_a_function_that_no_live_worker_has_known_for_a_minute_fails_its_job(
    client: RedisQueue, work: Work
) -> None:
    await work({"nothing": nothing})
    job = await enqueue(client, "rare", retries=5)
    await until(lambda: client.redis.zscore("saq:{default}:functions", "rare"))
    await made_known(client, "rare", seconds_ago=61)
    async with took(at_most=4.0):
        end = await ended(client, job)
    assert end.status is Status.FAILED
    assert "unknown function" in (end.error or "")
    assert "rare" in (end.error or "")


async def test_a_function_that_another_worker_knows_does_not_fail(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """The one that knows it may be busy for long: its registration says that it will come to it."""
    on = asyncio.Event()

    async def busy(ctx: Any) -> str:
        await on.wait()
        return "ran"

    await work({"busy": busy}, queue=make_queue(), concurrency=1, timers={"worker_info": 0.2})
    first = await enqueue(client, "busy", timeout=0)
    await until(lambda: _count(client, "active", 1))
    await work({"nothing": nothing}, queue=make_queue())
    second = await enqueue(client, "busy", timeout=0)
    await until(lambda: _attempted(client, [second]))
    await made_known(client, "busy", seconds_ago=30)
    before = await client.redis.zscore("saq:{default}:functions", "busy")

    async def said_again() -> bool:
        return bool(await client.redis.zscore("saq:{default}:functions", "busy") != before)

    await until(said_again)
    on.set()
    assert [(await ended(client, job)).result for job in (first, second)] == ["ran", "ran"]


async def _count(client: RedisQueue, kind: Any, count: int) -> bool:
    return await client.count(kind) == count


# Pause and poison ------------------------------------------------------------------------------------------


async def test_a_paused_queue_hands_out_nothing_and_running_jobs_go_on(
    client: RedisQueue, work: Work
) -> None:
    started, on = asyncio.Event(), asyncio.Event()

    async def long(ctx: Any) -> str:
        started.set()
        await on.wait()
        return "ended"

    await work({"long": long, "nothing": nothing}, concurrency=5)
    running = await enqueue(client, "long")
    await started.wait()
    await client.pause()
    waits = await enqueue(client, "nothing")
    due = await enqueue(client, "nothing", scheduled=time.time() + 0.05)
    on.set()
    assert (await ended(client, running)).result == "ended"
    with pytest.raises(TimeoutError):
        await client.wait(waits.key, 0.3)
    async with took(at_most=0.5):
        await client.resume()
        await ended(client, waits)
        await ended(client, due)


async def test_a_paused_queue_does_not_keep_its_worker_busy(client: RedisQueue, work: Work) -> None:
    await work({"nothing": nothing})
    await client.pause()
    for _ in range(10):
        await client.enqueue("nothing")
    before = await _requests(client)
    await asyncio.sleep(0.5)  # time itself is the subject
    assert await _requests(client) - before < 20
    await client.resume()
    await until(lambda: _is_empty(client))


async def test_a_payload_that_cannot_be_decoded_is_kept_as_failed_and_the_loop_goes_on(
    client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [f"poison {n}" for n in range(3)]
    values = [b"\xff\xfe", b"[1, 2]", b'{"function": 5}']
    for key, value in zip(keys, values, strict=True):
        await client.enqueue("nothing", key=key)
        stored: Any = await client.redis.hget("saq:{default}:jobs", key)
        head, _, _ = stored.partition(b"\n")
        await client.redis.hset("saq:{default}:jobs", key, head + b"\n" + value)
    good = await enqueue(client, "nothing", key="good")
    await work({"nothing": nothing}, concurrency=1)
    async with took(at_most=2.0):
        assert (await ended(client, good)).status is Status.COMPLETE
        for key in keys:
            end = await ended(client, key)
            assert end.status is Status.FAILED
            assert "decode" in (end.error or "")
    assert await client.count("incomplete") == 0
    assert "poison 0" in caplog.text
    # Their bytes are kept.
    record: Any = await client.redis.get("saq:{default}:job:poison 0")
    assert values[0] in record


# What it costs ---------------------------------------------------------------------------------------------


async def _requests(client: RedisQueue) -> int:
    """Commands that clients sent; those inside scripts are counted under names of their own."""
    stats = await client.redis.info("commandstats")
    names = ("eval", "evalsha", "bzpopmin", "ping", "time", "client|unblock", "zadd|", "subscribe")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)


@pytest.mark.timeout(40)
async def test_an_idle_worker_asks_less_than_once_in_a_second_and_a_half(
    client: RedisQueue, work: Work
) -> None:
    await work({"nothing": nothing})
    await client.apply("nothing")
    await idle(client)
    before, began = await _requests(client), time.monotonic()
    await asyncio.sleep(5.5)  # time itself is the subject
    seconds = time.monotonic() - began
    requests = await _requests(client) - before
    assert 0 < requests <= 0.7 * seconds


async def test_a_worker_has_four_connections_whatever_its_concurrency(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    on = asyncio.Event()
    inside = 0

    async def wait(ctx: Any) -> None:
        nonlocal inside
        inside += 1
        await ctx["job"].update(progress=0.5)
        await on.wait()

    await work({"wait": wait}, queue=make_queue(), concurrency=101, lease=0.3)
    await client.enqueue_many([Job("wait") for _ in range(100)])
    await until(lambda: inside == 100)
    names: list[str] = []

    async def four() -> bool:
        names[:] = sorted(c["name"] for c in await client.redis.client_list() if c["name"])
        return len(names) == 4 + 1  # one of the test's own

    await until(four)
    await asyncio.sleep(0.3)
    assert await four(), names
    on.set()
    await until(lambda: _is_empty(client))


async def test_a_worker_says_what_it_does_not_understand_with_its_trace(
    queue: RedisQueue, client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong between queue and worker is tried again, and is not called an outage."""
    await client.enqueue("nothing")
    await client.redis.set("saq:{default}:queued:saved", "x")
    await client.redis.rename("saq:{default}:queued", "saq:{default}:queued:saved")
    await client.redis.set("saq:{default}:queued", "a string")
    await work({"nothing": nothing})
    await until(lambda: "WRONGTYPE" in caplog.text)
    await client.redis.rename("saq:{default}:queued:saved", "saq:{default}:queued")
    async with took(at_most=5.0):
        await until(lambda: _is_empty(client))
    errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.module == "fetcher"]
    assert len(errors) == 1
