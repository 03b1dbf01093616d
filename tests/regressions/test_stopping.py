"""Workers that stopped, and servers that were away or of another kind."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest

from saq import CronJob, Job, Status
from saq.errors import ServerError
from saq.queue.redis import RedisQueue, checkup
from tests.conformance.helpers import all_keys, listening, turns
from tests.conftest import SERVER_KIND, MakeServer
from tests.faults.proxy import Cut, proxied
from tests.ports import free_port
from tests.redis.helpers import prefix
from tests.servers import Server
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, make_worker, running, took, until


async def test_a_job_whose_hooks_run_when_the_worker_stops_is_run_by_the_next(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    """A job that was claimed and had not begun was left behind: it was swept a minute later, or failed."""
    hook, ran = asyncio.Event(), 0

    async def wait(ctx: Any) -> None:
        hook.set()
        await asyncio.Event().wait()

    async def count(ctx: Any) -> int:
        nonlocal ran
        ran += 1
        return ran

    async with running(make_worker(make_queue(), {"count": count}, before_process=wait)):
        job = await enqueue(client, "count")
        await hook.wait()
    await job.refresh()
    assert (job.status, job.error, ran) == (Status.QUEUED, "cancelled", 0)
    async with running(make_worker(make_queue(), {"count": count})), took(at_most=2.0):
        assert (await ended(client, job)).result == 1


async def test_a_job_whose_claim_was_under_way_as_the_worker_stopped_is_run_by_the_next(
    server: Server, make_queue: MakeQueue, client: RedisQueue
) -> None:
    """What a stopping worker was just about to get was its own, and nobody ran it."""
    ran = Counter[str]()

    async def note(ctx: Any) -> None:
        ran[ctx["worker"].id] += 1

    async with (
        proxied(server.port) as proxy,
        running(make_worker(make_queue(proxy.url), {"note": note}, id="stopped")),
    ):
        await idle(client)
        proxy.silence("saq-marker")
        job = await enqueue(client, "note")
        await until(lambda: client.count("active"))
    assert (await client.count("active"), await client.count("queued")) == (0, 1)
    async with running(make_worker(make_queue(), {"note": note}, id="next")), took(at_most=3.0):
        assert (await ended(client, job)).status is Status.COMPLETE
    assert ran == {"next": 1}


async def test_a_result_that_had_not_arrived_as_the_worker_stopped_is_not_lost(
    server: Server, make_queue: MakeQueue, client: RedisQueue
) -> None:
    """A stop cancelled what was about to write down a result: the job was run again, or failed, although it
    had been done."""
    ran = 0

    async with proxied(server.port) as proxy:

        async def last(ctx: Any) -> str:
            nonlocal ran
            ran += 1
            proxy.cut(Cut("request"))
            proxy.refusing = True
            ctx["worker"].event.set()
            return "done"

        worker = make_worker(make_queue(proxy.url), {"last": last})
        job = await enqueue(client, "last")
        task = asyncio.create_task(worker.start())
        await until(lambda: proxy.faults)
        await turns(20)
        assert await client.count("active") == 1, "nothing has arrived"
        asyncio.get_running_loop().call_later(0.3, setattr, proxy, "refusing", False)
        await task
        await worker.stop()
    end = await client.job(job.key)
    assert end is not None
    assert (end.status, end.result, ran) == (Status.COMPLETE, "done", 1)


async def test_a_worker_stops_as_soon_as_nothing_runs_however_long_its_grace_period(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    """All that waited for jobs, or for its next turn, counted as work that was still under way: each stop
    took the whole grace period."""
    inside, on = asyncio.Event(), asyncio.Event()

    async def hold(ctx: Any) -> str:
        inside.set()
        await on.wait()
        return "in peace"

    settings: Any = {"shutdown_grace_period_s": 60, "cron_jobs": [CronJob(hold, "0 0 1 1 *")]}
    async with running(make_worker(make_queue(), {"hold": hold}, **settings)) as worker:
        await idle(client)
        async with took(at_most=3.0):
            await worker.stop()
    async with running(make_worker(make_queue(), {"hold": hold}, **settings)) as worker:
        job = await enqueue(client, "hold")
        await inside.wait()
        stopping = asyncio.create_task(worker.stop())
        asyncio.get_running_loop().call_later(0.3, on.set)
        async with took(at_most=3.3, at_least=0.25):
            await stopping
    assert (await ended(client, job)).result == "in peace"


async def test_a_server_that_is_away_is_asked_calmly_and_that_is_said_once(
    make_server: MakeServer, make_queue: MakeQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Each slot of a worker asked again at once, as often as it could, and said nothing at all."""
    server = make_server()
    queue, client = make_queue(server.url()), make_queue(server.url())
    tries = 0

    def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.transport.abort()

    async def nothing(ctx: Any) -> str:
        return "well"

    await work({"nothing": nothing}, queue=queue, concurrency=50)
    await idle(client)
    caplog.set_level(logging.INFO, "saq")
    caplog.clear()
    server.kill()
    async with await asyncio.start_server(refuse, "127.0.0.1", server.port):
        await asyncio.sleep(2.0)  # time itself is the subject
    assert 4 <= tries <= 60
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(said) <= 6, said
    server.start()
    assert await client.apply("nothing", timeout=10) == "well"


@pytest.mark.skipif(SERVER_KIND == "redis62", reason="it cannot be told its port within a cluster")
async def test_a_queue_needs_no_more_than_one_slot_of_a_cluster(
    make_server: MakeServer, make_queue: MakeQueue, work: Work
) -> None:
    """The keys of a queue lay in many slots, and some were named to no script: no node of a Cluster could run
    it. This one has the slot of the queue and no other."""
    options = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no", "cluster-port": free_port()}
    server = make_server(**options)
    raw, client, other = server.client(), make_queue(server.url()), make_queue(server.url())
    slot = raw.execute_command("CLUSTER", "KEYSLOT", prefix(client))
    raw.execute_command("CLUSTER", "ADDSLOTS", slot)
    await until(lambda: b"cluster_state:ok" in raw.execute_command("CLUSTER", "INFO"))
    tries = 0

    async def flaky(ctx: Any) -> str:
        nonlocal tries
        tries += 1
        await ctx["job"].update(progress=0.5, meta={"try": tries})
        if tries == 1:
            raise ValueError("at first")
        return "x" * 20_000

    async def endless(ctx: Any) -> None:
        await asyncio.Event().wait()

    worker = await work(
        {"flaky": flaky, "endless": endless},
        queue=make_queue(server.url()),
        cron_jobs=[CronJob(flaky, "* * * * * *")],
        timers={"sweep": 0.05},
    )
    assert len(await client.apply("flaky", retries=2, retry_delay=0.01, timeout=10)) == 20_000
    job = await enqueue(client, "endless", key="endless", timeout=0)
    await until(lambda: client.count("active"))
    await job.abort("enough")
    assert (await ended(client, job)).status is Status.ABORTED
    await until(lambda: client.job("cron:flaky:* * * * * *"))
    await client.pause()
    async with listening(other, "later") as heard:
        await client.enqueue_many([Job("flaky", key="later", scheduled=4e9), Job("flaky", key="gone")])
        assert await client.run_now("later")
        assert await client.delete("gone")
        assert (await heard.get())[1] is Status.QUEUED
    await client.resume()
    assert (await ended(client, "later")).status is Status.COMPLETE
    assert await client.requeue("endless")
    assert (await client.info())["workers"].keys() == {worker.id}
    assert "endless" in await all_keys(client)
    assert [finding async for finding in client.repair(dry_run=True) if hasattr(finding, "kind")] == []


@pytest.mark.parametrize("version", ["7.4.0-rc1", "255.255.255", "8", "unstable", ""])
async def test_a_server_whose_version_is_no_row_of_three_numbers_is_good_enough(
    version: str, redis_url: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part of it was taken for a number: with a release candidate, nothing could be asked."""
    queue, real = make_queue(redis_url), checkup._info

    async def info(wire: Any) -> dict[str, str]:
        return {**await real(wire), "redis_version": version}

    monkeypatch.setattr(checkup, "_info", info)
    assert all("appendonly" in sentence for sentence in await queue.check())
    if version:
        monkeypatch.setattr(checkup, "OLDEST", (999, 0))
        if "." in version:
            with pytest.raises(ServerError, match=version):
                await queue.check()
