"""Jobs that were run twice, or at once, or whose result was replaced by that of another run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from saq import CronJob, Job, Status
from saq.errors import RunningError
from saq.queue.redis import RedisQueue
from tests.conformance.helpers import all_keys, claim, run_one, turns
from tests.redis.helpers import prefix, run_out
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, make_worker, until
from tests.worker.test_cron_jobs import put_back, tick
from tests.worker.test_lifecycle import Start


async def sweep_until(queue: RedisQueue, end: asyncio.Event) -> None:
    """Sweeps as often as it can."""
    while not end.is_set():
        await queue.sweep()


async def test_sweeping_all_the_time_makes_no_job_run_twice(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """Between leaving the queue and being marked as active, a job looked abandoned: it was swept and run
    twice."""
    ran, end = Counter[int](), asyncio.Event()

    async def note(ctx: Any, *, n: int) -> None:
        ran[n] += 1

    sweepers = [asyncio.create_task(sweep_until(make_queue(), end)) for _ in range(2)]
    await work({"note": note}, queue=make_queue(), concurrency=3)
    await client.enqueue_many(Job("note", kwargs={"n": n}) for n in range(500))
    await until(lambda: len(ran) == 500)
    end.set()
    await asyncio.gather(*sweepers)
    assert set(ran.values()) == {1}


async def test_the_result_of_a_frozen_worker_does_not_replace_that_of_its_successor(
    client: RedisQueue, start: Start
) -> None:
    """A worker that came back after its job had been given to another ended it all the same, as its own, and
    was never told."""
    frozen = start("-v", lease=0.6)
    job = await enqueue(client, "where", seconds=1, timeout=0)
    await frozen.says("Processing")
    frozen.send(signal.SIGSTOP)
    second = start(lease=0.6)
    assert (await ended(client, job, timeout=15)).result == second.pid
    frozen.send(signal.SIGCONT)
    await frozen.says("Lost the lease|settled too late")
    # Whatever it had to say it has said when it has run another.
    second.send(signal.SIGTERM)
    assert await second.end() == 0
    assert await client.apply("where") == frozen.pid
    end = await client.job(job.key)
    assert end is not None
    assert (end.result, end.attempts) == (second.pid, 2)


async def test_jobs_that_end_while_several_sweep_are_taken_back_or_end_and_never_both(
    raw: Redis, queue: RedisQueue, make_queue: MakeQueue
) -> None:
    """A sweeper worked with what it had read, up to five seconds a job ago, and its lock ran out meanwhile:
    jobs that had ended were run again, and others were put back twice."""
    sweepers = [make_queue() for _ in range(3)]
    await queue.enqueue_many(Job("f", key=f"{n}") for n in range(90))
    jobs = (await queue.step((), 90)).jobs
    lost, well = jobs[::2], jobs[1::2]
    run_out(raw, queue, *lost)

    async def swept(sweeper: RedisQueue) -> list[str]:
        ids: list[str] = []
        while more := await sweeper.sweep():
            ids += more
        return ids

    async def end() -> list[Status | None]:
        verdicts: list[Status | None] = []
        for job in well:
            verdicts += (await queue.step([queue.settle(job, Status.COMPLETE, result=1)], 0)).verdicts
        return verdicts

    found, verdicts = await asyncio.gather(asyncio.gather(*map(swept, sweepers)), end())
    assert verdicts == [Status.COMPLETE] * len(well)
    assert await all_keys(queue, [Status.QUEUED]) == sorted(job.key for job in lost)
    # Those who settle take back as well.
    ids = Counter(id for ids in found for id in ids)
    assert ids <= Counter(queue.job_id(job.key) for job in lost)
    assert raw.hget(prefix(queue) + b"stats", "lost") == b"%d" % len(lost)


async def test_a_timeout_that_the_sweeper_notices_as_well_is_one_attempt(
    make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """Worker and sweeper both went by the timeout of a job, and both had it tried again."""
    runs, end = 0, asyncio.Event()

    async def hang(ctx: Any) -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    sweeper = asyncio.create_task(sweep_until(make_queue(), end))
    await work({"hang": hang}, lease=0.6)
    job = await ended(client, await enqueue(client, "hang", timeout=0.6, retries=3))
    end.set()
    await sweeper
    assert (job.status, job.attempts, runs) == (Status.FAILED, 3, 3)
    assert await client.count("incomplete") == 0


async def test_an_attempt_that_does_not_end_at_its_timeout_is_not_joined_by_the_next(
    client: RedisQueue, work: Work
) -> None:
    """A function that went on after its timeout was given up, and its retry began beside it."""
    inside = most = runs = 0
    on = asyncio.Event()

    async def stubborn(ctx: Any) -> str:
        nonlocal inside, most, runs
        inside, runs = inside + 1, runs + 1
        most, run = max(most, inside), runs
        while run == 1 and not on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await on.wait()
        inside -= 1
        return f"run {run}"

    await work({"stubborn": stubborn}, lease=0.3, cancellation_hard_deadline_s=0.1, timers={"sweep": 0.05})
    job = await enqueue(client, "stubborn", timeout=0.1, retries=2)
    try:
        with pytest.raises(TimeoutError):  # its lease has long since ended
            await client.wait(job.key, 1.5)
    finally:
        on.set()
    end = await ended(client, job)
    assert (end.status, end.result, runs, most) == (Status.COMPLETE, "run 2", 2, 1)


async def test_a_retry_by_hand_while_the_job_ends_is_refused_or_a_whole_new_run(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """Who looked at a running job and had it retried wrote back what he had seen: the result was gone, and
    the job in the queue while it still ran."""
    seen: set[bool] = set()
    for place in range(30):
        await enqueue(client, "f", key=f"{place}")
        job = await claim(queue)
        guest = await client.job(job.key)
        assert guest is not None
        ending = asyncio.create_task(queue.finish(job, Status.COMPLETE, result="mine"))
        await turns(place // 3)
        try:
            retried = await client.retry(guest, None)
        except RunningError:
            retried = False
        assert await ending
        seen.add(retried)
        found = await client.job(job.key)
        assert found is not None
        if retried:
            assert (found.status, found.attempts, found.result) == (Status.QUEUED, 0, None)
            again = await claim(queue)
            assert (again.key, again.attempts) == (job.key, 1)
            await queue.finish(again, Status.COMPLETE)
        else:
            assert (found.status, found.attempts, found.result) == (Status.COMPLETE, 1, "mine")
    assert seen == {True, False}


@pytest.mark.parametrize(
    "days", [[0, 0, 0], [400, 0, -400], [-400, 400, 0]], ids=["right", "ahead", "behind"]
)
async def test_a_tick_is_enqueued_once_by_workers_whose_clocks_are_wrong(
    days: list[int], make_queue: MakeQueue, client: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker went by its own clock, and an entry that was not unique was enqueued each second by each of
    them until its tick came."""
    entry = CronJob(tick, "0 0 1 1 *", unique=False)
    workers = [make_worker(make_queue(), {}, cron_jobs=[entry]) for _ in days]
    await workers[0].schedule()
    await put_back(client, "tick:0 0 1 1 *", 400 * 86_400)
    real, enqueued = time.time, 0
    for worker, wrong in zip(workers * 2, days * 2, strict=True):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: real() + wrong * 86_400)
        await worker.schedule()
        while await client.count("incomplete"):
            enqueued += 1
            await run_one(client)
    monkeypatch.undo()
    assert enqueued == 1
    for worker in workers:
        await worker.stop()
