"""Jobs that were never run, or never ended."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.conformance.helpers import claim, status_of, turns
from tests.faults.proxy import proxied
from tests.redis.helpers import prefix, run_out
from tests.servers import Server
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, took, until
from tests.worker.test_lifecycle import Start, active

PLACES = range(20)


async def test_a_job_is_still_there_when_its_sweeper_is_stopped(
    raw: Redis, make_queue: MakeQueue, client: RedisQueue
) -> None:
    """The sweeper took a stuck job out of everything, waited for up to five seconds, and put it back: one
    that was stopped meanwhile lost it."""
    dead, sweeper = make_queue(), make_queue()
    for place in PLACES:
        await enqueue(client, "f", key=f"{place}")
        run_out(raw, dead, await claim(dead))
        sweeping = asyncio.create_task(sweeper.sweep())
        await turns(place)
        sweeping.cancel()
        await asyncio.wait([sweeping])
        again = await claim(client)
        assert (again.key, again.attempts) == (f"{place}", 2)
        await again.finish(Status.COMPLETE)


async def test_an_abort_that_is_given_up_at_any_moment_leaves_a_whole_job(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    """An abort took the job out of the queue first and ended it later: given up between the two, the job was
    "aborting" for ever."""
    aborter = make_queue()
    for place in PLACES:
        job = await enqueue(client, "f", key=f"{place}", scheduled=4e9 if place % 2 else 0)
        aborting = asyncio.create_task(aborter.abort(Job("f", key=job.key, queue=aborter), "no"))
        await turns(place)
        aborting.cancel()
        await asyncio.wait([aborting])
        # What was sent before it was given up arrives before this is answered.
        await aborter.count("queued")
        if await status_of(client, job.key) != "aborted":
            assert await status_of(client, job.key) == ("scheduled" if place % 2 else "queued")
            assert await client.abort(job, "no")
        assert await status_of(client, job.key) == "aborted"


async def test_who_applies_a_job_gets_its_result_though_its_worker_was_killed(
    client: RedisQueue, start: Start
) -> None:
    """`apply` gives a job no timeout, and what had none was never taken back: its caller waited for ever."""
    first = start(lease=1)
    applied = asyncio.create_task(client.apply("where", seconds=0.5))
    await active(client)
    first.send(signal.SIGKILL)
    second = start(lease=1)
    assert await applied == second.pid


async def test_an_abort_comes_to_its_end_though_the_worker_is_killed_before_it_hears_of_it(
    client: RedisQueue, start: Start
) -> None:
    """The abort of a running job took it out of all that was looked through, and left the rest to its worker:
    when that died, the job was "aborting" for ever."""
    deaf = start(lease=0.6)
    job = await enqueue(client, "wait", seconds=60, timeout=0, retries=5)
    await active(client)
    deaf.send(signal.SIGSTOP)
    assert await client.abort(job, "enough")
    assert await status_of(client, job.key) == "aborting"
    deaf.send(signal.SIGKILL)
    start(lease=0.6)
    end = await ended(client, job)
    assert (end.status, end.error, end.attempts) == (Status.ABORTED, "enough", 1)


async def test_a_new_job_is_run_though_the_worker_that_waited_for_it_has_vanished(
    server: Server, make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """An idle worker whose machine was gone without a word still waited, as far as Redis knew: new jobs were
    handed to it, one for each of its slots, and failed without having been run."""
    ran = Counter[int]()

    async def note(ctx: Any, *, n: int) -> None:
        ran[n] += 1

    async with proxied(server.port) as proxy:
        vanished = await work({"note": note}, queue=make_queue(proxy.url), lease=0.6)
        await idle(client)
        proxy.freeze()
        handed_over = await enqueue(client, "note", n=0)
        await until(lambda: client.count("active"))
        await work({"note": note}, queue=make_queue(), lease=0.6)
        end = await ended(client, handed_over)
        assert (end.status, end.attempts) == (Status.COMPLETE, 2)
        for n in range(1, 20):
            async with took(at_most=3.0):
                assert (await ended(client, await enqueue(client, "note", n=n))).attempts == 1
        proxy.thaw()
        await vanished.stop()
    assert ran == Counter(range(20)), "and what it hears afterwards it does not run"


async def test_a_cron_entry_goes_on_after_its_worker_was_killed(
    raw: Redis, queue: RedisQueue, client: RedisQueue
) -> None:
    """A job without a timeout stayed active after its worker died, and no later tick of its entry was ever
    enqueued."""

    async def tick(at: int) -> str:
        return await client.tick("entry", at, Job("f", key="cron:f", timeout=0))

    assert [await tick(60), await tick(120)] == ["first", "enqueued"]
    run_out(raw, queue, await claim(queue))
    assert await tick(180) == "running"
    job = await claim(client)
    assert (job.key, job.attempts) == ("cron:f", 2)
    await job.finish(Status.COMPLETE)
    assert await tick(240) == "enqueued"


async def test_a_job_that_cannot_be_read_does_not_keep_others_from_being_taken_back(
    raw: Redis, queue: RedisQueue, client: RedisQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """The sweeper stopped at the first job that it could not decode, each time that it ran, and so did all
    who wanted to see the queue."""
    await client.enqueue_many([Job("f", key="poison"), Job("f", key="well", retries=5)])
    jobs = (await queue.step((), 2)).jobs
    raw.hset(prefix(queue) + b"jobs", "poison", b"1700000000000\n\xff\xfe")
    run_out(raw, queue, *jobs)
    assert sorted(await client.sweep()) == [client.job_id("poison"), client.job_id("well")]
    assert [fields["key"] for fields in (await client.info(jobs=True))["jobs"]] == ["poison", "well"]
    assert {job.key async for job in client.iter_jobs()} == {"poison", "well"}
    claimed: list[Job] = []
    while not claimed:
        claimed = (await client.step((), 1)).jobs
    assert [job.key for job in claimed] == ["well"]
    assert await status_of(client, "poison") == "failed"
    assert "cannot be decoded" in caplog.text


async def test_a_job_that_never_ends_and_never_falls_silent_holds_up_no_other(
    raw: Redis, make_queue: MakeQueue, client: RedisQueue, work: Work
) -> None:
    """The sweeper waited for a stuck job until that had said nothing for five seconds: one that went on
    updating kept it for ever, and nobody else was taken back."""
    inside, on = asyncio.Event(), asyncio.Event()

    async def stubborn(ctx: Any) -> None:
        while not on.is_set():
            try:
                await ctx["job"].update()
                inside.set()
            except asyncio.CancelledError:
                pass

    async def nothing(ctx: Any) -> None:
        pass

    dead = make_queue()
    await enqueue(client, "nothing", key="lost")
    run_out(raw, dead, await claim(dead))
    await work({"stubborn": stubborn, "nothing": nothing}, timers={"sweep": 0.05})
    endless = await enqueue(client, "stubborn", timeout=0.1, retries=2)
    await inside.wait()
    assert (await ended(client, "lost")).status is Status.COMPLETE
    assert await status_of(client, endless.key) == "active"
    on.set()
    await until(lambda: _is_empty(client))


async def _is_empty(client: RedisQueue) -> bool:
    return await client.count("incomplete") == 0
