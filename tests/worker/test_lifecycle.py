"""How a worker starts, drains, stops and is killed, in this process and as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from saq import CronJob, Status, Worker
from saq.queue.redis import RedisQueue
from saq.types import Context
from saq.worker.parts import Ending
from saq.worker.process import run_loop
from tests.processes import APP, Command, saq
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, make_worker, running, took, until


async def nothing(ctx: Any) -> None:
    pass


async def forever(ctx: Any) -> None:
    await asyncio.Event().wait()


# Burst -----------------------------------------------------------------------------------------------------


async def test_a_burst_worker_ends_when_the_queue_is_empty(queue: RedisQueue, client: RedisQueue) -> None:
    ran: list[int] = []

    async def note(ctx: Any, *, n: int) -> None:
        await asyncio.sleep(0.01)
        ran.append(n)

    for n in range(30):
        await client.enqueue("note", n=n)
    worker = make_worker(queue, {"note": note}, burst=True, dequeue_timeout=0.1, concurrency=4)
    async with took(at_most=3.0):
        await worker.start()
    assert sorted(ran) == list(range(30))
    assert await client.count("incomplete") == 0


async def test_a_burst_worker_waits_for_the_jobs_that_run_and_what_they_enqueue(
    queue: RedisQueue, client: RedisQueue
) -> None:
    ran: list[int] = []

    async def chain(ctx: Any, *, left: int) -> None:
        await asyncio.sleep(0.15)
        ran.append(left)
        if left:
            await ctx["queue"].enqueue("chain", left=left - 1)

    await client.enqueue("chain", left=3)
    worker = make_worker(queue, {"chain": chain}, burst=True, dequeue_timeout=0.05)
    async with took(at_most=5.0):
        await worker.start()
    assert ran == [3, 2, 1, 0]


@pytest.mark.parametrize(("concurrency", "jobs"), [(10, 5), (2, 5), (10, 3), (1, 1)])
async def test_a_burst_worker_ends_after_max_burst_jobs(
    concurrency: int, jobs: int, queue: RedisQueue, client: RedisQueue
) -> None:
    ran = 0

    async def count(ctx: Any) -> None:
        nonlocal ran
        await asyncio.sleep(0.01)
        ran += 1

    for _ in range(jobs + 7):
        await client.enqueue("count")
    worker = make_worker(
        queue, {"count": count}, burst=True, dequeue_timeout=30, max_burst_jobs=jobs, concurrency=concurrency
    )
    async with took(at_most=3.0):
        await worker.start()
    assert (ran, await client.count("queued")) == (jobs, 7)


# Stop ------------------------------------------------------------------------------------------------------


async def test_an_idle_worker_stops_at_once(queue: RedisQueue, client: RedisQueue) -> None:
    worker = make_worker(queue, {"nothing": nothing}, id="w1")
    task = asyncio.create_task(worker.start())
    await idle(client)
    assert set((await client.info())["workers"]) == {"w1"}
    async with took(at_most=0.5):
        await worker.stop()
        await task
    assert (await client.info())["workers"] == {}


async def test_a_worker_that_retires_ends_after_its_running_jobs_however_long_they_take(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """Unlike one that stops, which has no grace period here."""
    started, on = asyncio.Event(), asyncio.Event()

    async def wait(ctx: Any) -> str:
        started.set()
        await on.wait()
        return "to its end"

    worker = make_worker(queue, {"wait": wait})
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "wait")
    await started.wait()
    worker.retire()
    assert worker.spent
    later = await enqueue(client, "wait")
    await asyncio.sleep(0.1)
    assert not task.done()
    assert (await client.info())["workers"].keys() == {worker.id}
    on.set()
    await task
    assert worker.ending is Ending.RETIRED
    assert (await ended(client, job)).result == "to its end"
    await later.refresh()
    assert (later.status, later.attempts) == (Status.QUEUED, 0)
    assert (await client.info())["workers"] == {}


async def test_a_worker_that_retires_can_be_stopped(queue: RedisQueue, client: RedisQueue) -> None:
    worker = make_worker(queue, {"forever": forever})
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "forever", timeout=0)
    await until(lambda: client.count("active"))
    worker.retire()
    async with took(at_most=3.0):
        await worker.stop()
        await task
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")


async def test_a_worker_that_holds_takes_nothing_whatever_the_queue_says(
    queue: RedisQueue, client: RedisQueue
) -> None:
    worker = make_worker(queue, {"nothing": nothing}, id="w1")
    worker.hold(True)
    async with running(worker):
        await until(lambda: _has_reported(client))
        job = await enqueue(client, "nothing")
        for quiet in (True, False):
            worker._sources[0].on_quiet(quiet)
        await worker.report_now()
        (view,) = (await client.views.workers()).workers
        assert view.about["held"] is True
        assert await client.count("queued") == 1
        worker.hold(False)
        assert (await ended(client, job)).status is Status.COMPLETE
        await worker.report_now()
        (view,) = (await client.views.workers()).workers
        assert "held" not in view.about


async def test_a_quiet_worker_gives_back_what_a_claim_under_way_brings(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """It is sent again when it is told to be quiet, and may claim then."""
    ran = 0

    async def count(ctx: Any) -> None:
        nonlocal ran
        ran += 1

    async with running(make_worker(queue, {"count": count})) as worker:
        await idle(client)
        for _ in range(20):
            worker.hold(True)
            before = ran
            jobs = [await enqueue(client, "count") for _ in range(3)]
            await until(lambda: _all_queued(client, 3))
            assert ran == before
            worker.hold(False)
            for job in jobs:
                assert (await ended(client, job)).attempts == 1


async def _has_reported(client: RedisQueue) -> bool:
    return any(worker.about for worker in (await client.views.workers()).workers)


async def _all_queued(client: RedisQueue, count: int) -> bool:
    return await client.count("queued") == count


async def test_a_stopped_worker_claims_nothing_more(queue: RedisQueue, client: RedisQueue) -> None:
    started, on = asyncio.Event(), asyncio.Event()

    async def wait(ctx: Any) -> None:
        started.set()
        await on.wait()

    worker = make_worker(queue, {"wait": wait}, shutdown_grace_period_s=5)
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "wait")
    await started.wait()
    stop = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    for _ in range(5):
        await client.enqueue("wait")
    on.set()
    await stop
    await task
    assert (await ended(client, job)).status is Status.COMPLETE
    assert (await client.count("queued"), await client.count("active")) == (5, 0)


async def test_jobs_whose_claim_was_under_way_at_the_stop_are_not_stranded(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    ran: list[int] = []

    async def note(ctx: Any, *, n: int) -> None:
        ran.append(n)

    for n in range(40):
        queue = make_queue()
        worker = make_worker(queue, {"note": note})
        task = asyncio.create_task(worker.start())
        await idle(client)
        await client.enqueue("note", n=n)
        # Somewhere between the marker, the claim and the run.
        for _ in range(n % 20):
            await asyncio.sleep(0)
        await worker.stop()
        await task
        assert await client.count("active") == 0
    async with running(make_worker(make_queue(), {"note": note})):
        await until(lambda: _is_empty(client))
    assert sorted(ran) == list(range(40))


async def _is_empty(client: RedisQueue) -> bool:
    return await client.count("incomplete") == 0


async def test_a_running_job_may_end_within_the_grace_period(queue: RedisQueue, client: RedisQueue) -> None:
    started = asyncio.Event()

    async def short(ctx: Any) -> str:
        started.set()
        await asyncio.sleep(0.2)
        return "ended"

    worker = make_worker(queue, {"short": short}, shutdown_grace_period_s=10)
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "short")
    await started.wait()
    async with took(at_least=0.1, at_most=1.0):
        await worker.stop()
        await task
    assert (await ended(client, job)).result == "ended"


@pytest.mark.parametrize("grace", [None, 0.2])
async def test_a_job_that_does_not_end_is_given_back_uncharged_and_runs_again(
    grace: float | None, make_queue: MakeQueue, client: RedisQueue
) -> None:
    attempts: list[int] = []
    started = asyncio.Event()

    async def long_once(ctx: Any) -> str:
        attempts.append(ctx["job"].attempts)
        started.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "second"

    worker = make_worker(make_queue(), {"long_once": long_once}, shutdown_grace_period_s=grace)
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "long_once", timeout=0)
    await started.wait()
    async with took(at_most=1.0):
        await worker.stop()
        await task
    await job.refresh()
    assert (job.status, job.error, job.attempts) == (Status.QUEUED, "cancelled", 1)
    assert job.retryable  # with the one attempt that `retries` says
    async with running(make_worker(make_queue(), {"long_once": long_once})):
        end = await ended(client, job)
    assert (end.status, end.result, end.attempts, attempts) == (Status.COMPLETE, "second", 2, [1, 2])


async def test_a_job_given_back_keeps_its_place_in_the_queue(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    order: list[int] = []
    started, on = asyncio.Event(), asyncio.Event()

    async def note(ctx: Any, *, n: int) -> None:
        started.set()
        await on.wait()
        order.append(n)

    for n in range(5):
        await client.enqueue("note", n=n)
    worker = make_worker(make_queue(), {"note": note}, concurrency=2)
    task = asyncio.create_task(worker.start())
    await started.wait()
    await worker.stop()
    await task
    on.set()
    async with running(make_worker(make_queue(), {"note": note}, concurrency=1)):
        await until(lambda: len(order) == 5)
    assert order == [0, 1, 2, 3, 4]


async def test_a_function_that_swallows_the_cancellation_of_a_stop_is_given_back(
    queue: RedisQueue, client: RedisQueue
) -> None:
    started = asyncio.Event()
    on = asyncio.Event()

    async def stubborn(ctx: Any) -> None:
        started.set()
        while not on.is_set():
            try:
                await on.wait()
            except asyncio.CancelledError:
                pass

    worker = make_worker(queue, {"stubborn": stubborn}, cancellation_hard_deadline_s=0.1)
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "stubborn")
    await started.wait()
    async with took(at_most=1.5):
        await worker.stop()
        await task
    on.set()
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")


async def test_a_thread_that_ends_soon_after_the_stop_completes(
    queue: RedisQueue, client: RedisQueue
) -> None:
    started = threading.Event()

    def short(ctx: Any) -> str:
        started.set()
        started.wait()
        threading.Event().wait(0.2)
        return "ended"

    worker = make_worker(queue, {"short": short}, cancellation_hard_deadline_s=5)
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "short")
    await until(started.is_set)
    await worker.stop()
    await task
    end = await ended(client, job)
    assert (end.status, end.result) == (Status.COMPLETE, "ended")


async def test_stopping_twice_and_at_once_is_harmless(queue: RedisQueue) -> None:
    calls: list[str] = []
    worker = make_worker(queue, {}, shutdown=lambda ctx: calls.append("shutdown"))
    task = asyncio.create_task(worker.start())
    await idle(queue)
    await asyncio.gather(worker.stop(), worker.stop())
    await worker.stop()
    await task
    assert calls == ["shutdown"]


async def test_a_worker_can_be_started_again_after_it_was_stopped(
    queue: RedisQueue, client: RedisQueue
) -> None:
    calls: list[str] = []
    worker = make_worker(
        queue,
        {"nothing": nothing},
        startup=lambda ctx: calls.append("startup"),
        shutdown=lambda ctx: calls.append("shutdown"),
    )
    for _ in range(2):
        task = asyncio.create_task(worker.start())
        await client.apply("nothing")
        await worker.stop()
        await task
    assert calls == ["startup", "shutdown"] * 2


async def test_cancelling_start_stops_the_worker_in_order(queue: RedisQueue, client: RedisQueue) -> None:
    started = asyncio.Event()
    calls: list[str] = []

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = make_worker(queue, {"long": long}, shutdown=lambda ctx: calls.append("shutdown"))
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "long")
    await started.wait()
    task.cancel()
    async with took(at_most=1.0):
        await asyncio.wait({task})
    assert calls == ["shutdown"]
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")
    assert (await client.info())["workers"] == {}


async def test_setting_the_event_stops_the_worker(queue: RedisQueue) -> None:
    worker = make_worker(queue, {})
    task = asyncio.create_task(worker.start())
    await idle(queue)
    worker.event.set()
    async with took(at_most=0.5):
        await task


async def test_a_startup_that_raises_ends_start_and_shutdown_is_called(
    queue: RedisQueue, client: RedisQueue
) -> None:
    calls: list[str] = []

    async def startup(ctx: Any) -> None:
        raise RuntimeError("no database")

    worker = make_worker(queue, {}, startup=startup, shutdown=lambda ctx: calls.append("shutdown"))
    with pytest.raises(RuntimeError, match="no database"):
        await worker.start()
    assert calls == ["shutdown"]
    assert (await client.info())["workers"] == {}


async def test_a_stop_at_any_moment_of_the_start_leaves_nothing_behind(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    for turns in [*range(1, 12), *range(12, 60, 6)]:
        worker = make_worker(make_queue(), {"nothing": nothing}, cron_jobs=[CronJob(nothing, "0 0 1 1 *")])
        task = asyncio.create_task(worker.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        async with took(at_most=1.0):
            await worker.stop()
            await task
        assert (await client.info())["workers"] == {}, turns


async def test_a_stop_ends_a_startup_that_does_not(queue: RedisQueue) -> None:
    entered = asyncio.Event()
    calls: list[str] = []

    async def startup(ctx: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    worker = make_worker(queue, {}, startup=startup, shutdown=lambda ctx: calls.append("shutdown"))
    task = asyncio.create_task(worker.start())
    await entered.wait()
    async with took(at_most=1.0):
        await worker.stop()
        await task
    assert calls == ["shutdown"]


async def test_a_function_may_stop_its_own_worker(queue: RedisQueue, client: RedisQueue) -> None:
    async def last(ctx: Any) -> str:
        ctx["worker"].event.set()
        return "goodbye"

    worker = make_worker(queue, {"last": last}, shutdown_grace_period_s=1)
    job = await enqueue(client, "last")
    async with took(at_most=2.0):
        await worker.start()
    assert (await ended(client, job)).result == "goodbye"


async def test_an_after_process_under_way_may_end_when_the_worker_stops(
    queue: RedisQueue, client: RedisQueue
) -> None:
    entered = asyncio.Event()
    said: list[str] = []

    async def after(ctx: Any) -> None:
        entered.set()
        await asyncio.sleep(0.1)
        said.append(ctx["job"].status.value)

    async def too_long(ctx: Any) -> None:
        await asyncio.Event().wait()

    worker = make_worker(
        queue, {"nothing": nothing}, after_process=[after, too_long], cancellation_hard_deadline_s=0.5
    )
    task = asyncio.create_task(worker.start())
    job = await enqueue(client, "nothing")
    await entered.wait()
    async with took(at_most=2.0):
        await worker.stop()
        await task
    assert said == ["complete"]
    await job.refresh()
    assert (job.status, job.attempts) == (Status.COMPLETE, 1)


async def test_results_of_the_last_moment_are_delivered(queue: RedisQueue, client: RedisQueue) -> None:
    count = 0

    async def tick(ctx: Any) -> int:
        nonlocal count
        count += 1
        if count == 50:
            ctx["worker"].event.set()
        return count

    for _ in range(50):
        await client.enqueue("tick")
    worker = make_worker(queue, {"tick": tick}, concurrency=50, shutdown_grace_period_s=1)
    await worker.start()
    assert (count, await client.count("incomplete")) == (50, 0)


# By hand ---------------------------------------------------------------------------------------------------


async def test_process_runs_one_job_to_its_end(queue: RedisQueue, client: RedisQueue) -> None:
    seen: list[str] = []

    async def double(ctx: Any, *, n: int) -> int:
        return 2 * n

    worker = make_worker(
        queue,
        {"double": double},
        dequeue_timeout=0.1,
        before_process=lambda ctx: seen.append("before"),
        after_process=lambda ctx: seen.append(ctx["job"].status.value),
    )
    job = await enqueue(client, "double", n=4)
    assert await worker.process() is True
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 8)
    assert seen == ["before", "complete"]
    async with took(at_least=0.05, at_most=1.0):
        assert await worker.process() is False
    await worker.stop()


async def test_process_without_a_dequeue_timeout_waits_for_a_job(
    queue: RedisQueue, client: RedisQueue
) -> None:
    worker = make_worker(queue, {"nothing": nothing})
    task = asyncio.create_task(worker.process())
    await idle(client)
    await client.enqueue("nothing")
    assert await task is True
    await worker.stop()


async def test_process_settles_a_failure_and_its_retry(queue: RedisQueue, client: RedisQueue) -> None:
    async def fail(ctx: Any) -> None:
        raise ValueError("no")

    worker = make_worker(queue, {"fail": fail}, dequeue_timeout=1)
    job = await enqueue(client, "fail", retries=2)
    assert await worker.process() is True
    await job.refresh()
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    assert await worker.process() is True
    await job.refresh()
    assert (job.status, job.attempts) == (Status.FAILED, 2)
    await worker.stop()


async def test_several_calls_of_process_side_by_side_do_not_disturb_each_other(
    queue: RedisQueue, client: RedisQueue
) -> None:
    async def pause(ctx: Any, *, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    worker = make_worker(queue, {"pause": pause}, dequeue_timeout=2)
    jobs = [await enqueue(client, "pause", seconds=seconds) for seconds in (0.02, 0.3, 0.1)]
    assert await asyncio.gather(*(worker.process() for _ in jobs)) == [True] * 3
    assert [(await ended(client, job)).result for job in jobs] == [0.02, 0.3, 0.1]
    assert {(await ended(client, job)).attempts for job in jobs} == {1}
    await worker.stop()


async def test_process_that_is_cancelled_gives_its_job_back(queue: RedisQueue, client: RedisQueue) -> None:
    started = asyncio.Event()

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = make_worker(queue, {"long": long})
    task = asyncio.create_task(worker.process())
    job = await enqueue(client, "long")
    await started.wait()
    task.cancel()
    await asyncio.wait({task})
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")
    await worker.stop()


async def test_stop_after_process_takes_the_worker_off_the_queue(
    queue: RedisQueue, client: RedisQueue
) -> None:
    """A worker that is no more must not be asked to abort what another one runs."""
    started = asyncio.Event()

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    first = make_worker(queue, {"nothing": nothing}, id="first")
    await client.enqueue("nothing")
    await first.process()
    await first.stop()
    async with running(make_worker(queue, {"long": long}, id="second")):
        job = await enqueue(client, "long")
        await started.wait()
        await job.refresh()
        assert job.worker_id == "second"
        await job.abort("no")
        async with took(at_most=0.5):
            assert (await ended(client, job)).status is Status.ABORTED


async def test_dequeue_without_a_worker_hands_out_a_job_that_its_caller_finishes(
    queue: RedisQueue, client: RedisQueue
) -> None:
    assert await queue.dequeue(timeout=0.05) is None
    waiting = asyncio.create_task(queue.dequeue(timeout=5))
    await idle(client)
    await client.enqueue("anything", key="k", a=1)
    async with took(at_most=0.5):
        job = await waiting
    assert job is not None
    assert (job.key, job.kwargs, job.status, job.attempts) == ("k", {"a": 1}, Status.ACTIVE, 1)
    await job.finish(Status.COMPLETE, result="by hand")
    end = await ended(client, "k")
    assert (end.status, end.result) == (Status.COMPLETE, "by hand")


def test_a_worker_can_be_built_outside_a_loop_and_started_in_several(redis_url: str) -> None:
    async def double(ctx: Any, *, n: int) -> int:
        return 2 * n

    queue = RedisQueue.from_url(redis_url)
    worker = make_worker(queue, {"double": double})

    async def main() -> int:
        client = RedisQueue.from_url(redis_url)
        async with running(worker):
            result = await client.apply("double", n=21, timeout=5)
        await client.disconnect()
        await queue.disconnect()
        return int(result)

    assert asyncio.run(main()) == 42
    assert asyncio.run(main()) == 42


async def test_the_upkeep_by_hand_registers_sweeps_and_schedules(
    queue: RedisQueue, client: RedisQueue
) -> None:
    worker = make_worker(queue, {}, id="w1", metadata={"version": 3})
    assert await worker.upkeep() == []
    info = (await client.info())["workers"]["w1"]
    assert (info["metadata"], info["queue_key"]) == ({"version": 3}, "default")
    await worker.stop()


# What cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("concurrency", 0, "concurrency must be a whole number of at least 1, got 0"),
        ("concurrency", "10", "concurrency must be a whole number"),
        ("concurrency", 1.5, "concurrency must be a whole number"),
        ("concurrency", True, "concurrency must be a whole number"),
        ("lease", 0, "lease must be a number"),
        ("lease", None, "lease must be a number"),
        ("max_lost", 0, "max_lost must be a whole number of at least 1"),
        ("dequeue_timeout", "1", "dequeue_timeout must be a number"),
        ("dequeue_timeout", -1, "dequeue_timeout must be a number"),
        ("burst", True, "burst needs a dequeue_timeout above 0"),
        ("max_burst_jobs", 0, "max_burst_jobs must be a whole number"),
        ("shutdown_grace_period_s", -1, "shutdown_grace_period_s must be a number"),
        ("shutdown_grace_period_s", "5", "shutdown_grace_period_s must be a number"),
        ("cancellation_hard_deadline_s", -1, "cancellation_hard_deadline_s must be a number"),
        ("timers", {"sweeep": 1}, "timers has no 'sweeep'; it has .*sweep"),
        ("timers", {"sweep": "often"}, "timers\\['sweep'\\] must be a number"),
        ("timers", {"worker_info": 0}, "timers\\['worker_info'\\] must be a number"),
        ("timers", [1], "timers must be a dict"),
        ("functions", ["add"], "functions holds callables and pairs"),
        ("functions", [("name", nothing, 3)], "functions holds callables and pairs"),
        ("functions", [object()], "functions holds callables and pairs"),
        ("functions", None, "functions must be a collection"),
        ("functions", nothing, "functions must be a collection"),
        ("queue", "redis://localhost", "queue must be a Queue"),
        ("startup", 3, "startup must be a callable or several"),
        ("shutdown", ["stop"], "shutdown must be a callable or several"),
        ("before_process", "x", "before_process must be a callable or several"),
        ("after_process", [None], "after_process must be a callable or several"),
        ("cron_jobs", [nothing], "cron_jobs holds CronJob"),
        ("cron_jobs", CronJob(nothing, "* * * * *"), "cron_jobs must be a collection"),
        ("cron_jobs", [CronJob(nothing, "61 * * * *")], "field 1 \\(minute\\)"),
        ("cron_tz", "Europe/Berlin", "cron_tz must be a time zone"),
        ("metadata", ["x"], "metadata must be a dict"),
    ],
)
async def test_a_wrong_setting_is_refused_with_its_name_and_what_was_expected(
    setting: str, value: Any, says: str, queue: RedisQueue
) -> None:
    settings: dict[str, Any] = {"queue": queue, "functions": [nothing], setting: value}
    with pytest.raises(ValueError, match=says):
        Worker(**settings)


async def test_an_unknown_parameter_is_a_type_error_of_python(queue: RedisQueue) -> None:
    with pytest.raises(TypeError, match="concurency"):
        Worker(queue, [], concurency=1)  # type: ignore[call-arg]


async def test_a_callable_without_a_name_must_be_given_one(queue: RedisQueue) -> None:
    import functools

    with pytest.raises(ValueError, match="give it a name"):
        Worker(queue, [functools.partial(nothing)])
    worker: Worker[Context] = Worker(queue, [("named", functools.partial(nothing))])
    assert list(worker.functions) == ["named"]


# As a process ----------------------------------------------------------------------------------------------

Start = Callable[..., Command]


@pytest.fixture
async def start(redis_url: str) -> AsyncIterator[Start]:
    """A worker process with the functions of tests.worker.app: `start("-v", lease=1)`."""
    started: list[Command] = []

    def command(*words: str, url: str = redis_url, **settings: Any) -> Command:
        started.append(saq(*words, APP, url=url, settings=settings))
        return started[-1]

    yield command
    for process in started:
        process.close()


async def active(client: RedisQueue, count: int = 1) -> None:
    await until(lambda: _active(client, count), timeout=15)


async def _active(client: RedisQueue, count: int) -> bool:
    return await client.count("active") == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_a_worker_and_its_job_is_given_back(
    number: signal.Signals, client: RedisQueue, start: Start
) -> None:
    worker = start("-v")
    job = await enqueue(client, "wait", seconds=60, timeout=0)
    await active(client)
    worker.send(number)
    await worker.says(number.name)
    await client.enqueue("add", a=1, b=2)
    async with took(at_most=5.0):
        assert await worker.end() == 0
    await job.refresh()
    assert (job.status, job.error, job.attempts) == (Status.QUEUED, "cancelled", 1)
    assert (await client.count("queued"), await client.count("active")) == (2, 0)
    assert (await client.info())["workers"] == {}


async def test_the_grace_period_lets_a_job_end_and_a_second_signal_skips_it(
    client: RedisQueue, start: Start
) -> None:
    worker = start("-v", shutdown_grace_period_s=30)
    short = await enqueue(client, "wait", seconds=1)
    long = await enqueue(client, "wait", seconds=60, timeout=0)
    await active(client, 2)
    worker.send(signal.SIGTERM)
    await worker.says("no more jobs are taken")
    assert (await ended(client, short)).result == "waited"
    assert worker.running
    worker.send(signal.SIGTERM)
    async with took(at_most=3.0):
        assert await worker.end() == 0
    await long.refresh()
    assert (long.status, long.error) == (Status.QUEUED, "cancelled")


@pytest.mark.parametrize("function", ["block", "stubborn"])
async def test_a_process_ends_though_a_function_does_not(
    function: str, client: RedisQueue, start: Start
) -> None:
    """Neither a thread that runs on nor a function that swallows every cancellation holds it up."""
    worker = start(cancellation_hard_deadline_s=0.2)
    kwargs = {"seconds": 60} if function == "block" else {}
    job = await enqueue(client, function, timeout=0, **kwargs)
    await active(client)
    worker.send(signal.SIGTERM)
    async with took(at_most=5.0):
        assert await worker.end() == 0
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")


async def test_the_jobs_of_a_killed_worker_run_elsewhere_after_the_lease(
    client: RedisQueue, start: Start
) -> None:
    first = start(lease=1)
    job = await enqueue(client, "where", seconds=1.5, timeout=0)
    await active(client)
    second = start(lease=1)
    await until(lambda: _workers(client, 2), timeout=15)
    first.send(signal.SIGKILL)
    async with took(at_most=6.0):
        end = await ended(client, job)
    assert (end.status, end.result, end.attempts) == (Status.COMPLETE, second.pid, 2)


async def _workers(client: RedisQueue, count: int) -> bool:
    return len((await client.info())["workers"]) == count


async def test_a_job_that_killed_its_worker_once_is_not_charged_for_it(
    client: RedisQueue, start: Start
) -> None:
    start(lease=0.6)
    job = await enqueue(client, "crash", times=1)
    await until(lambda: _workers(client, 1), timeout=15)
    start(lease=0.6)
    end = await ended(client, job, timeout=15)
    assert (end.status, end.result) == (Status.COMPLETE, "attempt 2")


async def test_a_job_that_blocks_the_event_loop_past_its_lease_keeps_it(
    client: RedisQueue, start: Start
) -> None:
    start(lease=1)
    job = await enqueue(client, "freeze", seconds=2.5, timeout=20)
    await active(client)
    start(lease=1)
    end = await ended(client, job, timeout=15)
    assert (end.result, end.attempts) == ("blocked the loop", 1)


async def test_a_worker_survives_that_the_server_is_killed_and_delivers_its_results(
    make_server: Any, make_queue: MakeQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(appendonly="yes", appendfsync="always")
    queue, client = make_queue(server.url()), make_queue(server.url())
    on, started = asyncio.Event(), asyncio.Event()
    runs = 0

    async def long(ctx: Any) -> str:
        nonlocal runs
        runs += 1
        started.set()
        await on.wait()
        return "kept"

    await work({"long": long, "nothing": nothing}, queue=queue)
    job = await enqueue(client, "long", timeout=0)
    await started.wait()
    await client.apply("nothing")  # from here on it is subscribed
    waiting = asyncio.create_task(client.wait(job.key))
    await until(lambda: client.redis.hexists("saq:{default}:waiting", job.key))
    server.kill()
    on.set()
    await until(lambda: "saq" in {r.name for r in caplog.records if r.levelno >= logging.WARNING})
    server.start()
    async with took(at_most=10.0):
        end = await waiting
    assert end is not None
    assert (end.status, end.result, end.attempts, runs) == (Status.COMPLETE, "kept", 1, 1)
    await ended(client, await enqueue(client, "nothing"))


async def test_an_idle_worker_works_on_after_the_server_was_away(
    make_server: Any, make_queue: MakeQueue, work: Work
) -> None:
    server = make_server(appendonly="yes", appendfsync="always")
    queue, client = make_queue(server.url()), make_queue(server.url())
    await work({"nothing": nothing}, queue=queue)
    await idle(client)
    server.kill()
    server.start()
    async with took(at_most=8.0):
        await client.apply("nothing")
        await idle(client)
    async with took(at_most=0.2):
        await client.apply("nothing")


async def test_a_stop_while_the_server_is_away_ends_in_bounded_time(
    make_server: Any, make_queue: MakeQueue
) -> None:
    server = make_server()
    queue = make_queue(server.url())
    worker = make_worker(queue, {"nothing": nothing})
    task = asyncio.create_task(worker.start())
    await idle(queue)
    server.kill()
    async with took(at_most=12.0):
        await worker.stop()
        await task


def test_a_process_that_is_told_to_stop_before_its_loop_runs_leaves_nothing_half_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        raise AssertionError("it has begun")

    def interrupted(*_: Any, **__: Any) -> asyncio.Runner:
        raise KeyboardInterrupt  # as a signal does at any moment

    monkeypatch.setattr("asyncio.Runner", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_loop(main())  # a coroutine that was never awaited is an error here
