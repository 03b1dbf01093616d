"""Everything that a queue can be asked to do, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from saq import CronJob, Job, Status
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue
from tests.worker.support import ended, make_worker, until

FAR = 4_000_000_000  # some day in 2096


async def double(ctx: dict[str, Any], *, n: int) -> int:
    await ctx["job"].update(progress=0.5, meta={"n": n})
    return 2 * n


async def fail(ctx: dict[str, Any]) -> None:
    raise RuntimeError("as it was told")


async def stay(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


async def work_and_wait(make: Callable[[], RedisQueue]) -> None:
    """What a worker does, and those who wait for it."""
    queue, client = make(), make()
    cron = CronJob(double, cron="* * * * * *", kwargs={"n": 1})
    functions: dict[str, Callable[..., Any]] = {"double": double, "fail": fail, "stay": stay}
    worker = make_worker(queue, functions, cron_jobs=[cron], lease=1.5, concurrency=3)
    working = asyncio.create_task(worker.start(), name="worker")
    await until(lambda: working.done() or is_there(client))
    if working.done():
        await working  # it could not start, and says why
    try:
        assert await asyncio.wait_for(client.apply("double", n=2), 10) == 4
        assert await client.map("double", [{"n": n} for n in range(9)]) == [2 * n for n in range(9)]
        big = "x" * 50_000  # larger than what a message holds
        job = await client.enqueue("double", n=1, meta={"big": big})
        assert job is not None
        assert (await ended(client, job)).result == 2
        failed = await client.enqueue("fail", key="failed", retries=2, retry_delay=0.1)
        assert failed is not None
        assert (await ended(client, failed)).status is Status.FAILED
        running = await client.enqueue("stay", key="running", timeout=0)
        assert running is not None
        await until(lambda: worker.queue.count("active"))
        heard: list[str] = []

        def hear(key: str, status: Status) -> bool:
            heard.append(status)
            return status is Status.ABORTED

        listening = asyncio.create_task(client.listen([running.key], hear))
        while not heard:
            await client.notify(Job("stay", key="running", status=Status.ACTIVE))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)  # its lease is renewed
        assert (await client.info(jobs=True))["workers"]
        assert await client.abort(running, "enough")
        assert (await ended(client, running)).status is Status.ABORTED
        await listening
        await until(lambda: found(client, "cron:double", Status.COMPLETE))
        assert (await client.views.workers()).workers
        assert await client.views.functions()
        await client.views.schedule()
        assert await client.views.quiet(worker.id, 5) is not None
        await client.views.quiet(worker.id, 0)
    finally:
        await worker.stop()
        await working


async def is_there(queue: Queue) -> bool:
    return bool((await queue.info())["workers"])


async def found(queue: Queue, key: str, status: Status) -> bool:
    return any([job.key.startswith(key) async for job in queue.iter_jobs([status])])


async def use_by_hand(make: Callable[[], RedisQueue]) -> None:
    """What is done without a worker."""
    queue, other = make(), make()
    assert await other.dequeue(0.1) is None  # and its blocked connection is called back
    assert await queue.enqueue("f", key="k", retries=3)
    assert await other.enqueue("f", key="k") is None
    job = await queue.dequeue(5)
    assert job is not None
    await job.update(progress=0.5)
    await job.retry("again")
    assert await other.enqueue("f", key="later", scheduled=FAR)
    assert await other.run_now("later")
    first, second = (await queue.step((), 2)).jobs
    await first.finish(Status.COMPLETE, result=1)
    await queue.step([queue.settle(second, Status.FAILED, error="no")], 0)
    assert await other.requeue("later")
    assert await other.delete("later")
    assert await other.enqueue("f", key="aborted")
    waiter = asyncio.create_task(other.wait("aborted", 10))
    guest = await queue.job("aborted")
    assert guest is not None
    await guest.abort("no")
    assert (await waiter or guest).status is Status.ABORTED
    await queue.enqueue("f", key="ended by a guest")
    guest = await other.job("ended by a guest")
    assert guest is not None
    await guest.finish(Status.COMPLETE, result=1)
    await other.pause()
    await other.resume()
    await other.enqueue_many(Job("f", key=f"{n}") for n in range(600))
    assert await other.count("queued") == 600
    assert await other.count("incomplete") == 600
    assert len([job async for job in other.iter_jobs()]) >= 602
    await queue.sweep()
    await queue.schedule()
    assert await queue.server_time()
    for state in ("active", "queued", "scheduled", "finished", "failed"):
        await other.views.browse(state, None, look=10, find=10)
    await other.views.counts()
    await other.views.history([0])
    async for _ in other.repair():
        pass
    await other.check()
    for key in [f"{n}" for n in range(600)]:
        await other.delete(key)
