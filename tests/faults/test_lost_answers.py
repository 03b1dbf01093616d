"""Connections cut before, inside and after every command: each takes effect once, and its caller knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from tests.faults.proxy import Cut, Proxy
from tests.servers import Server

Action = Callable[[RedisQueue], Awaitable[Any]]


async def enqueue(queue: RedisQueue) -> Any:
    job = await queue.enqueue("f", key="new", a=1)
    assert job is not None, "the caller is told that its own job was there already"
    return job.key


async def enqueue_many(queue: RedisQueue) -> Any:
    jobs = await queue.enqueue_many(Job("f", key=f"new-{i}") for i in range(20))
    assert None not in jobs
    return len(jobs)


async def claim(queue: RedisQueue) -> Any:
    jobs = (await queue.step((), 2)).jobs
    assert [job.key for job in jobs] == ["a", "b"], "a claim that was lost has leased other jobs"
    return [job.attempts for job in jobs]


async def settle(queue: RedisQueue) -> Any:
    job = (await queue.step((), 1)).jobs[0]
    step = await queue.step([queue.settle(job, Status.COMPLETE, result=7)], 1)
    assert step.verdicts == [Status.COMPLETE]
    return [job.key for job in step.jobs]


async def retry(queue: RedisQueue) -> Any:
    job = (await queue.step((), 1)).jobs[0]
    await queue.retry(job, "again")
    found = await queue.job(job.key)
    assert found is not None
    return found.status, found._charged


async def abort(queue: RedisQueue) -> Any:
    return await queue.abort(Job("f", key="a", queue=queue), "no more")


async def requeue(queue: RedisQueue) -> Any:
    return await queue.requeue("done")


async def run_now(queue: RedisQueue) -> Any:
    return await queue.run_now("later")


async def delete(queue: RedisQueue) -> Any:
    return await queue.delete("a")


async def update(queue: RedisQueue) -> Any:
    job = (await queue.step((), 1)).jobs[0]
    await queue.update(job, progress=0.5, meta={"x": 1})
    found = await queue.job(job.key)
    assert found is not None
    return found.progress, found.meta


async def finish(queue: RedisQueue) -> Any:
    return await queue.finish(Job("f", key="a", queue=queue), Status.FAILED, error="by hand")


async def tick(queue: RedisQueue) -> Any:
    return await queue.tick("entry", 1_700_000_060, Job("f", key="cron"))


ACTIONS: list[Action] = [
    enqueue,
    enqueue_many,
    claim,
    settle,
    retry,
    abort,
    requeue,
    run_now,
    delete,
    update,
    finish,
    tick,
]


async def prepared(server: Server) -> None:
    """A queue with a job in each state."""
    server.flush()
    queue = RedisQueue.from_url(server.url())
    await queue.enqueue("f", key="done")
    job = (await queue.step((), 1)).jobs[0]
    await queue.finish(job, Status.COMPLETE, result=1)
    await queue.enqueue_many([Job("f", key="a"), Job("f", key="b"), Job("f", key="c")])
    await queue.enqueue("f", key="later", scheduled=4_000_000_000)
    await queue.tick("entry", 1_700_000_000, Job("f", key="cron"))
    await queue.disconnect()


async def state(server: Server) -> dict[str, Any]:
    """Where every job is, how often it was tried, and the counters."""
    queue = RedisQueue.from_url(server.url())
    jobs = [
        (job.key, job.status.value, job.attempts, job._charged, bool(job.scheduled), job.error)
        async for job in queue.iter_jobs()
    ]
    counters = server.client().hgetall(f"{queue._prefix}stats")
    await queue.disconnect()
    return {"jobs": sorted(jobs, key=str), "counters": counters}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize(
    ("where", "at"),
    [("request", 0), ("request", 1), ("request", 70), ("answer", 0), ("answer", 1), ("answer", 5)],
    ids=lambda value: str(value),
)
async def test_a_cut_connection_changes_nothing_about_what_happens(
    server: Server, proxy: Proxy, action: Action, where: str, at: int
) -> None:
    expected, undisturbed = await outcome(server, proxy, action)
    calls = proxy.commands.count(b"EVALSHA")
    assert calls
    for nth in range(1, calls + 1):
        before = proxy.faults
        assert await outcome(server, proxy, action, Cut(where, nth, at)) == (expected, undisturbed)
        assert proxy.faults == before + 1, "the fault never happened"


async def outcome(server: Server, proxy: Proxy, action: Action, cut: Cut | None = None) -> Any:
    """What an action returns and what it leaves behind, with a fault on the way."""
    await prepared(server)
    queue = RedisQueue.from_url(proxy.url)
    try:
        await queue.connect()
        proxy.commands.clear()
        if cut is not None:
            proxy.cut(cut)
        answer = await action(queue)
    finally:
        await queue.disconnect()
    return answer, await state(server)
