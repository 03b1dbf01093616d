"""Cron entries of workers: each tick once, late rather than never, and not on top of one another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from saq import CronJob, Status
from saq.queue.redis import RedisQueue
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, idle, make_worker, until

EVERY_SECOND = "* * * * * *"
CRON = "saq:{default}:cron"


async def tick(ctx: Any) -> None:
    pass


async def ticks_of(client: RedisQueue) -> dict[str, float]:
    """entry → its last tick, epoch seconds"""
    entries: Any = await client.redis.zrange(CRON, 0, -1, withscores=True)
    return {name.decode(): score / 1000 for name, score in entries}


async def put_back(client: RedisQueue, entry: str, seconds: float) -> None:
    """Pretends that nobody has looked at an entry for so long."""
    assert await client.redis.zadd(CRON, {entry: (time.time() - seconds) * 1000}, xx=True, ch=True)


async def test_three_workers_let_each_second_tick_once_and_on_time(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    ran: list[float] = []

    async def note(ctx: Any) -> None:
        ran.append(time.time())

    entry = CronJob(note, EVERY_SECOND)
    for name in "abc":
        await work({"note": note}, queue=make_queue(), cron_jobs=[entry], id=name)
    await until(lambda: len(ran) >= 4)
    seconds = Counter(int(moment) for moment in ran)
    assert set(seconds.values()) == {1}
    assert list(seconds) == list(range(min(seconds), min(seconds) + len(seconds)))
    assert max(moment % 1 for moment in ran) < 0.3


async def test_a_function_named_only_by_a_cron_entry_is_known(queue: RedisQueue) -> None:
    worker = make_worker(queue, {}, cron_jobs=[CronJob(tick, "* * * * *")])
    assert list(worker.functions) == ["tick"]


async def test_an_entry_that_is_seen_for_the_first_time_is_only_recorded(
    client: RedisQueue, work: Work
) -> None:
    await work({}, cron_jobs=[CronJob(tick, "0 0 1 1 *")])
    await until(lambda: client.redis.exists(CRON))
    await idle(client)
    assert await client.count("incomplete") == 0
    assert await client.job("cron:tick:0 0 1 1 *") is None
    (at,) = (await ticks_of(client)).values()
    assert datetime.fromtimestamp(at, UTC) == datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)


async def test_a_missed_tick_runs_once_and_late(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    ran: list[str] = []

    async def yearly(ctx: Any) -> None:
        ran.append(ctx["job"].key)

    entry = CronJob(yearly, "0 0 1 1 *")
    first = await work({"yearly": yearly}, queue=make_queue(), cron_jobs=[entry])
    await until(lambda: client.redis.exists(CRON))
    await first.stop()
    # Nobody was there for five new years.
    await put_back(client, "yearly:0 0 1 1 *", 5 * 366 * 86400)
    for name in "ab":
        await work({"yearly": yearly}, queue=make_queue(), cron_jobs=[entry], id=name)
    await until(lambda: ran)
    await idle(client, 2)
    assert ran == ["cron:yearly:0 0 1 1 *"]
    end = await ended(client, ran[0])
    assert end.status is Status.COMPLETE


async def test_a_tick_whose_predecessor_still_runs_is_skipped(
    client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saq")
    on = asyncio.Event()
    inside = most = runs = 0

    async def long(ctx: Any) -> None:
        nonlocal inside, most, runs
        inside, runs = inside + 1, runs + 1
        most = max(most, inside)
        await on.wait()
        inside -= 1

    await work({"long": long}, cron_jobs=[CronJob(long, EVERY_SECOND, timeout=0)])
    await until(lambda: "skipped" in caplog.text)
    assert (runs, most) == (1, 1)
    assert await client.count("incomplete") == 1
    on.set()
    # The ticks that were skipped are not made up for; the next one runs.
    await until(lambda: runs == 2)
    assert most == 1


async def test_entries_that_are_not_unique_run_side_by_side(client: RedisQueue, work: Work) -> None:
    on = asyncio.Event()
    keys: list[str] = []

    async def long(ctx: Any) -> None:
        keys.append(ctx["job"].key)
        await on.wait()

    await work({"long": long}, cron_jobs=[CronJob(long, EVERY_SECOND, unique=False)])
    await until(lambda: len(keys) == 2)
    assert len(set(keys)) == 2
    on.set()


async def test_fields_of_the_entry_reach_the_job(client: RedisQueue, work: Work) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def note(ctx: Any, *, who: str) -> str:
        job = ctx["job"]
        await seen.put((who, job.timeout, job.heartbeat, job.retries, job.ttl, job.meta))
        return "result"

    entry = CronJob(
        note,
        EVERY_SECOND,
        timeout=33,
        heartbeat=11,
        retries=4,
        ttl=99,
        kwargs={"who": "me"},
        meta={"a": 1},
    )
    await work({"note": note}, cron_jobs=[entry])
    assert await seen.get() == ("me", 33, 11, 4, 99, {"a": 1})


async def test_two_entries_of_one_function_do_not_get_in_each_others_way(
    client: RedisQueue, work: Work
) -> None:
    seen: Counter[str] = Counter()

    async def note(ctx: Any, *, who: str) -> None:
        seen[who] += 1

    entries = [CronJob(note, EVERY_SECOND, kwargs={"who": who}) for who in ("you", "me")]
    await work({"note": note}, cron_jobs=entries)
    await until(lambda: seen["you"] and seen["me"])
    assert len(await ticks_of(client)) == 2


async def test_arguments_that_only_the_queues_own_dump_can_store_are_no_obstacle(
    make_queue: MakeQueue, work: Work
) -> None:
    import pickle

    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def note(ctx: Any, *, since: datetime) -> None:
        await seen.put(since)

    since = datetime(2024, 2, 29, tzinfo=UTC)
    queue = make_queue(dump=pickle.dumps, load=pickle.loads)
    await work({"note": note}, queue=queue, cron_jobs=[CronJob(note, EVERY_SECOND, kwargs={"since": since})])
    assert await seen.get() == since


async def test_expressions_are_read_in_the_time_zone_of_the_worker(client: RedisQueue, work: Work) -> None:
    """A daily entry at the hour that it is now in a zone far away."""
    zone = timezone(timedelta(hours=9, minutes=30))
    there = datetime.now(zone)
    expression = f"0 {there.hour} * * *"
    await work({}, cron_jobs=[CronJob(tick, expression)], cron_tz=zone)
    await until(lambda: client.redis.exists(CRON))
    (at,) = (await ticks_of(client)).values()
    last = datetime.fromtimestamp(at, zone)
    assert (last.hour, last.minute) == (there.hour, 0)
    assert timedelta(0) <= there - last < timedelta(hours=1, seconds=5)


async def test_the_schedule_can_be_called_by_hand(queue: RedisQueue, client: RedisQueue) -> None:
    worker = make_worker(queue, {"tick": tick}, cron_jobs=[CronJob(tick, "0 0 1 1 *")])
    await worker.schedule()
    assert await client.count("incomplete") == 0
    await put_back(client, "tick:0 0 1 1 *", 400 * 86400)
    for _ in range(3):
        await worker.schedule()
    assert await client.count("queued") == 1
    await worker.stop()
