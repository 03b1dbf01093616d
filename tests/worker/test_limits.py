"""Time limits, heartbeats, aborts and concurrency: what ends a job, and what holds one back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.servers import Server
from tests.worker.conftest import Work
from tests.worker.support import ended, enqueue, idle, took, until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a function in a thread waits for; opened at the end of the test at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


async def nothing(ctx: Any) -> None:
    pass


async def forever(ctx: Any) -> None:
    await asyncio.Event().wait()


# Timeout ---------------------------------------------------------------------------------------------------


async def test_an_async_function_is_cancelled_at_its_timeout_and_fails(
    client: RedisQueue, work: Work
) -> None:
    cancelled = asyncio.Event()

    async def long(ctx: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await work({"long": long})
    job = await enqueue(client, "long", timeout=0.2)
    async with took(at_least=0.15, at_most=1.0):
        end = await ended(client, job)
    assert end.status is Status.FAILED
    assert "timed out" in (end.error or "")
    assert "0.2 s" in (end.error or "")
    assert cancelled.is_set()


async def test_a_timeout_is_a_failed_attempt_that_is_retried(client: RedisQueue, work: Work) -> None:
    async def slow_once(ctx: Any) -> str:
        if ctx["job"].attempts == 1:
            await asyncio.Event().wait()
        return "quick"

    await work({"slow_once": slow_once})
    end = await ended(client, await enqueue(client, "slow_once", timeout=0.1, retries=2))
    assert (end.status, end.result, end.attempts) == (Status.COMPLETE, "quick", 2)


@pytest.mark.parametrize("timeout", [0, None])
async def test_a_job_without_timeout_runs_as_long_as_it_likes(
    timeout: float | None, client: RedisQueue, work: Work
) -> None:
    on = asyncio.Event()

    async def wait(ctx: Any) -> str:
        await on.wait()
        return "ended by itself"

    worker = await work({"wait": wait, "nothing": nothing})
    job = await enqueue(client, "wait", timeout=timeout)
    # A neighbour with a limit: the timer that watches it looks at this one, too.
    await ended(client, await enqueue(client, "wait", timeout=0.1))
    assert len(worker.tasks) == 1
    on.set()
    assert (await ended(client, job)).result == "ended by itself"


async def test_time_that_a_job_waits_in_the_queue_does_not_count(client: RedisQueue, work: Work) -> None:
    async def short(ctx: Any) -> None:
        await asyncio.sleep(0.1)

    await work({"short": short}, concurrency=1)
    jobs = [await enqueue(client, "short", timeout=0.3) for _ in range(5)]
    assert {(await ended(client, job)).status for job in jobs} == {Status.COMPLETE}


async def test_a_function_that_swallows_its_timeout_and_returns_has_failed(
    client: RedisQueue, work: Work
) -> None:
    async def stubborn(ctx: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "too late"

    await work({"stubborn": stubborn})
    end = await ended(client, await enqueue(client, "stubborn", timeout=0.1))
    assert (end.status, end.result) == (Status.FAILED, None)


async def test_a_function_that_does_not_end_after_its_timeout_is_settled_and_keeps_its_slot(
    client: RedisQueue, work: Work
) -> None:
    on = asyncio.Event()

    async def stubborn(ctx: Any) -> None:
        while not on.is_set():
            try:
                await on.wait()
            except asyncio.CancelledError:
                pass

    worker = await work(
        {"stubborn": stubborn, "nothing": nothing}, concurrency=1, cancellation_hard_deadline_s=0.1
    )
    end = await ended(client, await enqueue(client, "stubborn", timeout=0.1))
    assert end.status is Status.FAILED
    assert "timed out" in (end.error or "")
    assert len(worker.tasks) == 1
    waits = await enqueue(client, "nothing")
    await client.info()
    assert (await client.count("queued"), await client.count("active")) == (1, 0)
    on.set()
    assert (await ended(client, waits)).status is Status.COMPLETE


async def test_a_thread_that_does_not_end_fails_at_its_timeout_and_keeps_its_slot(
    client: RedisQueue, work: Work, gate: threading.Event
) -> None:
    def stuck(ctx: Any) -> str:
        gate.wait(20)
        return "too late"

    await work({"stuck": stuck, "nothing": nothing}, concurrency=1)
    job = await enqueue(client, "stuck", timeout=0.2)
    async with took(at_most=1.0):
        end = await ended(client, job)
    assert (end.status, end.result) == (Status.FAILED, None)
    assert "timed out" in (end.error or "")
    waits = await enqueue(client, "nothing")
    assert (await client.count("queued"), await client.count("active")) == (1, 0)
    gate.set()
    assert (await ended(client, waits)).status is Status.COMPLETE
    again = await client.job(job.key)
    assert again is not None
    assert (again.status, again.result) == (Status.FAILED, None)


async def test_a_thread_past_its_timeout_is_retried_only_after_it_ended(
    client: RedisQueue, work: Work, gate: threading.Event
) -> None:
    inside, most, calls = 0, 0, 0

    def stuck_once(ctx: Any) -> str:
        nonlocal inside, most, calls
        inside, calls = inside + 1, calls + 1
        most = max(most, inside)
        try:
            if calls == 1:
                gate.wait(20)
            return f"call {calls}"
        finally:
            inside -= 1

    await work({"stuck_once": stuck_once}, concurrency=4)
    job = await enqueue(client, "stuck_once", timeout=0.1, retries=2)
    await until(lambda: calls == 1)
    with pytest.raises(TimeoutError):
        await client.wait(job.key, 0.5)
    assert (calls, await client.count("active")) == (1, 1)
    gate.set()
    end = await ended(client, job)
    assert (end.status, end.result, end.attempts, most) == (Status.COMPLETE, "call 2", 2, 1)


async def test_a_thread_that_ends_before_its_timeout_completes(client: RedisQueue, work: Work) -> None:
    def short(ctx: Any) -> str:
        time.sleep(0.1)
        return "in time"

    await work({"short": short})
    assert (await ended(client, await enqueue(client, "short", timeout=1))).result == "in time"


# Heartbeat -------------------------------------------------------------------------------------------------


async def test_a_job_without_heartbeat_fails_after_that_time(client: RedisQueue, work: Work) -> None:
    await work({"forever": forever})
    job = await enqueue(client, "forever", timeout=10, heartbeat=0.2)
    async with took(at_least=0.15, at_most=1.0):
        end = await ended(client, job)
    assert end.status is Status.FAILED
    assert "heartbeat" in (end.error or "")


async def test_updates_keep_a_job_with_heartbeat_alive(client: RedisQueue, work: Work) -> None:
    async def beats(ctx: Any) -> str:
        for _ in range(8):
            await asyncio.sleep(0.1)
            await ctx["job"].update()
        return "alive"

    await work({"beats": beats})
    assert (await ended(client, await enqueue(client, "beats", heartbeat=0.4))).result == "alive"


async def test_a_job_is_not_to_blame_for_one_that_blocks_the_loop(client: RedisQueue, work: Work) -> None:
    """While the loop is blocked nobody can give a heartbeat, nor come to an end."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def beats(ctx: Any) -> str:
        waiting.set()
        await go_on.wait()
        await ctx["job"].update(progress=0.5)
        return "alive"

    async def ends(ctx: Any) -> str:
        await go_on.wait()
        return "in time"

    async def blocks(ctx: Any) -> None:
        await waiting.wait()
        time.sleep(1)  # noqa: ASYNC251 - what should not be done
        go_on.set()

    await work({"beats": beats, "ends": ends, "blocks": blocks})
    innocent = [await enqueue(client, "beats", heartbeat=0.5), await enqueue(client, "ends", timeout=0.5)]
    await enqueue(client, "blocks")
    assert [(await ended(client, job)).result for job in innocent] == ["alive", "in time"]


async def test_a_job_that_was_lost_before_it_began_is_not_begun(
    redis_url: str, client: RedisQueue, work: Work
) -> None:
    """It was claimed together with one that blocked the loop, and given to somebody else meanwhile."""
    raw: Any = Redis.from_url(redis_url)
    begun: list[int] = []

    async def blocks(ctx: Any) -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - what should not be done
        other = next(m for m in raw.zrange("saq:{default}:active", 0, -1) if m.endswith(b":other"))
        raw.zrem("saq:{default}:active", other)
        raw.zadd("saq:{default}:queued", {"other": 1})

    async def begins(ctx: Any) -> None:
        begun.append(ctx["job"].attempts)

    await client.enqueue_many([Job("blocks"), Job("begins", key="other")])
    await work({"blocks": blocks, "begins": begins}, concurrency=4)
    assert (await ended(client, "other")).status is Status.COMPLETE
    assert len(begun) == 1
    assert begun[0] > 1, "not the attempt that was lost"
    raw.close()


async def test_heartbeats_do_not_extend_the_timeout(client: RedisQueue, work: Work) -> None:
    async def beats(ctx: Any) -> None:
        while True:
            await asyncio.sleep(0.05)
            await ctx["job"].update()

    await work({"beats": beats})
    job = await enqueue(client, "beats", heartbeat=0.3, timeout=0.5)
    async with took(at_least=0.4, at_most=1.5):
        end = await ended(client, job)
    assert "timed out" in (end.error or "")


# Abort -----------------------------------------------------------------------------------------------------


async def test_a_running_job_is_aborted_at_once_with_the_reason_given(client: RedisQueue, work: Work) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def long(ctx: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await work({"long": long})
    job = await enqueue(client, "long", timeout=0)
    await started.wait()
    async with took(at_most=0.3):
        await job.abort("changed my mind")
        end = await ended(client, job)
    assert (end.status, end.error) == (Status.ABORTED, "changed my mind")
    assert cancelled.is_set()


async def test_a_job_that_was_just_claimed_can_be_aborted(client: RedisQueue, work: Work) -> None:
    """Aborted as soon as it is enqueued, it is somewhere between the queue and its first line."""
    await work({"forever": forever})
    for _ in range(50):
        job = await enqueue(client, "forever", timeout=0)
        await job.abort("at once")
        async with took(at_most=0.5):
            assert (await ended(client, job)).status is Status.ABORTED


async def test_an_abort_that_arrives_before_the_claim_it_is_for_is_not_lost(
    redis_url: str, client: RedisQueue, work: Work, server: Server
) -> None:
    """Both are under way to the worker, on two connections, while its loop is held up."""
    await work({"forever": forever})
    await idle(client)
    active = server.client()

    def abort(key: str) -> None:
        async def main() -> None:
            queue = RedisQueue.from_url(redis_url)
            job = await queue.job(key)
            assert job is not None
            await job.abort("overtaken")
            await queue.disconnect()

        asyncio.run(main())

    for _ in range(5):
        job = await enqueue(client, "forever", timeout=0)
        while not active.zcard("saq:{default}:active"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        thread = threading.Thread(target=abort, args=(job.key,))
        thread.start()
        thread.join()
        async with took(at_most=0.5):
            end = await ended(client, job)
        assert (end.status, end.error) == (Status.ABORTED, "overtaken")


async def test_a_queued_or_scheduled_job_is_aborted_without_a_worker(client: RedisQueue) -> None:
    for scheduled in (0, time.time() + 3600):
        job = await enqueue(client, "any", scheduled=scheduled)
        async with took(at_most=0.3):
            await job.abort("not needed")
            end = await ended(client, job)
        assert (end.status, end.error, end.attempts) == (Status.ABORTED, "not needed", 0)
    assert await client.count("incomplete") == 0


async def test_an_aborted_job_is_not_retried(client: RedisQueue, work: Work) -> None:
    starts = 0
    started = asyncio.Event()

    async def long(ctx: Any) -> None:
        nonlocal starts
        starts += 1
        started.set()
        await asyncio.Event().wait()

    await work({"long": long})
    job = await enqueue(client, "long", retries=5)
    await started.wait()
    await job.abort("no")
    assert (await ended(client, job)).status is Status.ABORTED
    assert starts == 1


async def test_an_abort_that_the_function_swallows_still_ends_as_aborted(
    client: RedisQueue, work: Work
) -> None:
    started = asyncio.Event()

    async def stubborn(ctx: Any) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "result"

    await work({"stubborn": stubborn})
    job = await enqueue(client, "stubborn")
    await started.wait()
    await job.abort("stop it")
    end = await ended(client, job)
    assert (end.status, end.error, end.result) == (Status.ABORTED, "stop it", None)


async def test_an_abort_keeps_its_reason_when_the_function_raises_something_else(
    client: RedisQueue, work: Work
) -> None:
    started = asyncio.Event()

    async def replaces(ctx: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("the clean-up failed") from None

    await work({"replaces": replaces})
    job = await enqueue(client, "replaces", retries=3)
    await started.wait()
    await job.abort("the reason")
    end = await ended(client, job)
    assert (end.status, end.error) == (Status.ABORTED, "the reason")


async def test_an_aborted_thread_is_settled_at_once_and_keeps_its_slot(
    client: RedisQueue, work: Work, gate: threading.Event
) -> None:
    started = threading.Event()

    def stuck(ctx: Any) -> None:
        started.set()
        gate.wait(20)

    worker = await work({"stuck": stuck, "nothing": nothing}, concurrency=1)
    job = await enqueue(client, "stuck", timeout=0)
    await until(started.is_set)
    async with took(at_most=0.5):
        await job.abort("enough")
        end = await ended(client, job)
    assert (end.status, end.error) == (Status.ABORTED, "enough")
    assert len(worker.tasks) == 1
    gate.set()
    await ended(client, await enqueue(client, "nothing"))


async def test_the_key_of_an_aborted_job_can_be_enqueued_again_at_once(
    client: RedisQueue, work: Work
) -> None:
    started = asyncio.Event()

    async def first_waits(ctx: Any, *, wait: bool) -> str:
        started.set()
        if wait:
            await asyncio.Event().wait()
        return "second"

    await work({"first_waits": first_waits})
    job = await enqueue(client, "first_waits", key="k", wait=True)
    await started.wait()
    await job.abort("again")
    await ended(client, job)
    assert await client.apply("first_waits", key="k", wait=False) == "second"


async def test_after_process_runs_for_an_aborted_job(client: RedisQueue, work: Work) -> None:
    seen: asyncio.Queue[Status] = asyncio.Queue()
    started = asyncio.Event()

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async def after(ctx: Any) -> None:
        await seen.put(ctx["job"].status)

    await work({"long": long}, after_process=after)
    job = await enqueue(client, "long")
    await started.wait()
    await job.abort("no")
    assert await seen.get() is Status.ABORTED


async def test_an_abort_that_comes_while_after_process_runs_changes_nothing(
    client: RedisQueue, work: Work
) -> None:
    entered, on, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def after(ctx: Any) -> None:
        entered.set()
        await on.wait()
        left.set()

    await work({"nothing": nothing}, after_process=after)
    job = await enqueue(client, "nothing")
    await entered.wait()
    await job.abort("too late")
    on.set()
    async with took(at_most=1.0):
        await left.wait()
    assert (await ended(client, job)).status is Status.COMPLETE


async def test_aborts_reach_the_right_one_of_two_workers_of_a_queue_object(
    queue: RedisQueue, client: RedisQueue, work: Work
) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()

    def function(name: str) -> Any:
        async def run(ctx: Any) -> None:
            await started.put(ctx["worker"].id)
            await asyncio.Event().wait()

        return run

    await work({"f": function("one")}, id="one", concurrency=1)
    await idle(queue, 1)
    await work({"f": function("two")}, id="two", concurrency=1)
    jobs = [await enqueue(client, "f", timeout=0) for _ in range(2)]
    assert {await started.get(), await started.get()} == {"one", "two"}
    for job in jobs:
        async with took(at_most=0.5):
            await job.abort("both")
            assert (await ended(client, job)).status is Status.ABORTED


# Concurrency -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 7])
async def test_no_more_jobs_run_at_once_than_the_concurrency(
    concurrency: int, client: RedisQueue, work: Work
) -> None:
    inside = most = 0

    async def count(ctx: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        inside -= 1

    async def fail(ctx: Any) -> None:
        await count(ctx)
        raise ValueError

    await work({"count": count, "fail": fail}, concurrency=concurrency)
    names = ["count", "fail"] * 60
    jobs = await client.enqueue_many([_job(name) for name in names])
    for job in jobs:
        assert job is not None
        await ended(client, job)
    assert most == concurrency


def _job(name: str) -> Any:
    from saq import Job

    return Job(name, retries=2)


async def test_sync_and_async_functions_share_the_concurrency(client: RedisQueue, work: Work) -> None:
    lock = threading.Lock()
    inside = most = 0

    def enter(by: int) -> None:
        nonlocal inside, most
        with lock:
            inside += by
            most = max(most, inside)

    async def asynchronous(ctx: Any) -> None:
        enter(1)
        await asyncio.sleep(0.005)
        enter(-1)

    def sync(ctx: Any) -> None:
        enter(1)
        time.sleep(0.005)
        enter(-1)

    await work({"asynchronous": asynchronous, "sync": sync}, concurrency=3)
    await asyncio.gather(client.map("asynchronous", [{}] * 20), client.map("sync", [{}] * 20))
    assert most == 3
