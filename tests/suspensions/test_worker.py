"""The life of a worker, with each fault at each suspension of any of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from saq.errors import ServerError
from saq.job import Status
from tests.suspensions.driver import (
    DEADLINE,
    Bench,
    cancel,
    cancel_late,
    client_of,
    enumerate_suspensions,
    gone_from,
)
from tests.suspensions.promises import damage, drain, look_at, summary
from tests.suspensions.stepping import MAIN, Stepper
from tests.suspensions.working import RUNS, Life, enqueue_all


@asynccontextmanager
async def life(at: Bench, url: str) -> AsyncIterator[Life]:
    """A worker with a job of each kind; nothing is left over of it, and nothing of its jobs."""
    await at.reset(enqueue_all)
    queue = client_of(url)
    try:
        yield Life(queue, at.raw)
    finally:
        await queue.disconnect()
    await at.nothing_left_over()
    assert not list(damage(look_at(at.raw)))
    await drain(at.raw, at.healthy)


async def lived(one: Life, stepper: Stepper) -> Any:
    """Lives it; an exception that ends it is returned."""
    task = stepper.start(one.all())
    done, _ = await asyncio.wait({task}, timeout=DEADLINE)
    if not done:
        where = stepper.where
        task.cancel()
        raise AssertionError(f"it hangs: {where}")
    return asyncio.CancelledError() if task.cancelled() else task.exception()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_each_job_runs_as_often_as_without_the_fault(fault: str, at: Bench):
    visited = 0
    for n in enumerate_suspensions():
        async with life(at, at.proxy.url) as one:
            breaks = at.proxy.drop_all if fault == "request lost" else at.proxy.lose_answer
            stepper = Stepper(n, lambda *_, do=breaks: do(), task=None)
            error = await lived(one, stepper)
            at.proxy.loses()
            if error is not None:
                assert isinstance(error, ServerError), f"{fault} at suspension {n}: {error!r}"
                assert not one.ran, "it says that it could not start"
                assert await lived(one, Stepper()) is None
            await at.quiet()
            assert one.ran == RUNS, f"{fault} at suspension {n}"
            ended = await at.healthy.jobs(RUNS)
            assert {job.key: job.status for job in ended if job} == dict.fromkeys(RUNS, Status.COMPLETE) | {
                "endless": Status.QUEUED
            }
        if not stepper.reached:
            break
        visited += 1
    assert visited > 20, "hardly any"


@pytest.mark.timeout(60)
async def test_nothing_is_lost_with_a_worker_that_is_killed(at: Bench):
    killed = 0
    for n in enumerate_suspensions():
        await at.reset(enqueue_all)
        if not at.killer.run("worker", at.server.url(), n):
            break
        killed += 1
        await gone_from(at.raw)
        look = look_at(at.raw)
        assert not list(damage(look)), f"killed at suspension {n}"
        for key, (_, _, _, charged, _, abort) in summary(look)["jobs"].items():
            assert int(charged) <= (key == b"flaky"), "a crash is not the job's fault"
            assert not abort
        await drain(at.raw, at.healthy)
    assert killed > 20, "hardly any"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
@pytest.mark.parametrize("task", [MAIN, "start", *RUNS])
async def test_nothing_is_lost_when_a_coroutine_of_a_worker_is_cancelled(task: str, late: bool, at: Bench):
    """That of `start`, of `stop` (MAIN, in which it is awaited), or of a job."""
    undisturbed = Stepper(task=task)
    async with life(at, at.server.url()) as one:
        assert await lived(one, undisturbed) is None
    assert undisturbed.count > 0
    for n in enumerate_suspensions():
        reached = await cancelled_at(n, task, late, at)
        while not reached and n <= undisturbed.count:  # it went another way
            reached = await cancelled_at(n, task, late, at)
        if not reached:
            break


async def cancelled_at(n: int, task: str, late: bool, at: Bench) -> bool:
    async with life(at, at.server.url()) as one:
        stepper = Stepper(n, cancel_late if late else cancel, task=task)
        error = await lived(one, stepper)
        assert error is None or (task == MAIN and isinstance(error, asyncio.CancelledError)), repr(error)
        if error is not None:
            await one.end()
        await at.quiet()
        for job in await at.healthy.jobs(RUNS):
            assert job is not None
            allowed = {Status.COMPLETE, Status.QUEUED} | ({Status.FAILED} if job.key == task else set())
            assert job.status in allowed, f"cancelled at suspension {n}"
    return stepper.reached
