"""What a client can do, each as a coroutine that can be stepped.

Owns the operations and what each needs before it. Every one finds the same queue: a job that is complete, one
that failed, some that are queued, one that is scheduled, and an entry of cron. Must not know what is done to
it at its suspensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from saq import CronJob, Worker
from saq.errors import RunningError, ServerError, StaleError, UsageError
from saq.job import Job, Status
from saq.queue.base import JobError
from saq.queue.redis import RedisQueue
from saq.types import Context
from tests.conformance.helpers import FAR, Recorder
from tests.suspensions.promises import PREFIX, end_leases
from tests.worker.support import idle, make_worker, until

#: What the owner of a job may be told when it does again what it has done already.
DONE_ALREADY = (StaleError, RunningError, UsageError)


@dataclass
class Scene:
    """One client, somebody else, and the server between them."""

    queue: RedisQueue
    other: RedisQueue
    raw: Redis
    #: The job that the client has claimed.
    mine: Job = field(default_factory=lambda: Job("f"))
    recorder: Recorder = field(default_factory=lambda: Recorder("worker"))
    worker: Worker[Any] = field(init=False)


Act = Callable[[Scene], Awaitable[Any]]


@dataclass
class Operation:
    """Something to be done.

    Args:
        act: does it, and returns what can be compared.
        setup: what the client has done before.
        beside: what somebody else does meanwhile, until it is cancelled.
        atomic: it has happened, or it has not.
        owner: nobody else can do it, for it needs what this client has set up.
        connects: it needs another connection, and may hear that there is none.
        check: what else must hold when that has come of it, unless the client was killed or disconnected.
    """

    name: str
    act: Act
    setup: Act | None = None
    beside: Act | None = None
    atomic: bool = True
    owner: bool = False
    connects: bool = False
    check: Callable[[Scene, Any], Awaitable[None]] | None = None


OPERATIONS: dict[str, Operation] = {}


def operation(**options: Any) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        name = act.__name__
        OPERATIONS[name] = Operation(name, act, **options)
        return act

    return add


async def prepare(other: RedisQueue) -> None:
    """The queue as every operation finds it."""
    for key, status in (("done", Status.COMPLETE), ("bad", Status.FAILED)):
        await other.enqueue("f", key=key)
        (job,) = (await other.step((), 1)).jobs
        await other.finish(job, status, result=1, error="as told" if status is Status.FAILED else None)
    await other.enqueue_many([Job("f", key="mine", retries=3), Job("f", key="a"), Job("f", key="b")])
    await other.enqueue("f", key="later", scheduled=FAR)
    await other.tick("entry", 1_700_000_000, Job("f", key="cron"))


async def claim_mine(scene: Scene) -> None:
    """A job that the client has claimed itself."""
    (scene.mine,) = (await scene.queue.step((), 1)).jobs


async def serve_who_waits(scene: Scene) -> None:
    """Runs what is queued, as soon as somebody waits for any of it."""
    await until(lambda: scene.raw.exists(f"{PREFIX}waiting"))
    while True:
        job = await scene.other.dequeue()
        assert job is not None
        await scene.other.finish(job, Status.COMPLETE, result=f"of {job.key}")


# -- enqueueing ---------------------------------------------------------------------------------------------


async def with_hook(scene: Scene) -> None:
    async def hook(job: Job) -> None:
        await asyncio.sleep(0)

    scene.queue.register_before_enqueue(hook)


@operation(setup=with_hook)
async def enqueue(scene: Scene) -> Any:
    return await scene.queue.enqueue("f", key="new", a=1) is not None


async def with_scripts_forgotten(scene: Scene) -> None:
    scene.raw.script_flush()


@operation(setup=with_scripts_forgotten)
async def enqueue_with_scripts_forgotten(scene: Scene) -> Any:
    return await scene.queue.enqueue("f", key="new") is not None


@operation(setup=with_hook)
async def enqueue_a_job_object(scene: Scene) -> Any:
    job = Job("f", key="a")  # incomplete already: it becomes that one
    await job.enqueue(scene.queue)
    return job.status


@operation(atomic=False)
async def enqueue_many(scene: Scene) -> Any:
    sent = await scene.queue.enqueue_many(Job("f", key=f"{n}") for n in range(420))
    return len(sent) - sent.count(None)


async def nothing_of_the_batch(scene: Scene, result: Any) -> None:
    left = [key for key in (b"first", b"second") if scene.raw.hexists(f"{PREFIX}jobs", key)]
    assert not left, "the batch was left by an exception, and its jobs are not aborted"


@operation(atomic=False, check=nothing_of_the_batch)
async def batch(scene: Scene) -> Any:
    try:
        async with scene.queue.batch():
            await scene.queue.enqueue("f", key="first")
            await scene.queue.enqueue("f", key="second")
            raise RuntimeError("no more")
    except RuntimeError as error:
        return str(error)


async def fail_first(scene: Scene) -> None:
    job = Job("f", key="first", queue=scene.other)
    while True:
        await scene.other.finish(job, Status.FAILED, error="by hand")


@operation(beside=fail_first, atomic=False, connects=True, check=nothing_of_the_batch)
async def apply_in_a_batch(scene: Scene) -> Any:
    try:
        async with scene.queue.batch():
            await scene.queue.enqueue("f", key="second")
            await scene.queue.apply("f", key="first")
    except JobError as error:
        return error.job.status


# -- waiting ------------------------------------------------------------------------------------------------


@operation(setup=with_hook, beside=serve_who_waits, atomic=False, connects=True)
async def apply(scene: Scene) -> Any:
    return await scene.queue.apply("f", key="new")


@operation(beside=serve_who_waits, atomic=False, connects=True)
async def map_with_exceptions(scene: Scene) -> Any:
    items = [{"key": "new"}, {"key": "newer"}]
    results = await scene.queue.map("f", items, return_exceptions=True)
    for result in results:
        if isinstance(result, ServerError):
            raise result
    return results


@operation(beside=serve_who_waits, atomic=False, connects=True)
async def wait(scene: Scene) -> Any:
    job = await scene.queue.wait("a")
    return job and job.result


@operation(beside=serve_who_waits, atomic=False, connects=True)
async def refresh_until_complete(scene: Scene) -> Any:
    job = Job("f", key="a", queue=scene.queue)
    await job.refresh(0)
    return job.result


async def notify_again_and_again(scene: Scene) -> None:
    await until(lambda: scene.raw.exists(f"{PREFIX}watching"))
    while True:  # the subscription may be lost
        await scene.other.notify(Job("f", key="a", queue=scene.other, status=Status.ACTIVE))


@operation(beside=notify_again_and_again, connects=True)
async def listen(scene: Scene) -> Any:
    async def take(key: str, status: Status) -> bool:
        await asyncio.sleep(0)
        return True

    await scene.queue.listen(["a", "b"], take, timeout=None)


# -- claiming -----------------------------------------------------------------------------------------------


@operation(atomic=False)
async def dequeue(scene: Scene) -> Any:
    job = await scene.queue.dequeue(timeout=5)
    return job and job.function


async def nothing_to_do(scene: Scene) -> None:
    await scene.other.abort(Job("f", key="a", queue=scene.other), "out of the way")
    await scene.other.abort(Job("f", key="b", queue=scene.other), "out of the way")
    await claim_mine(scene)
    scene.raw.delete(f"{PREFIX}wake")


async def enqueue_when_it_waits(scene: Scene) -> None:
    await idle(scene.other)
    await scene.other.enqueue("f")


@operation(setup=nothing_to_do, beside=enqueue_when_it_waits, atomic=False)
async def dequeue_what_comes_later(scene: Scene) -> Any:
    job = await scene.queue.dequeue(timeout=5)
    return job and job.function


@operation(setup=claim_mine, atomic=False, owner=True)
async def step(scene: Scene) -> Any:
    done = [scene.queue.settle(scene.mine, Status.COMPLETE, result=7)] if scene.mine._member else []
    answer = await scene.queue.step(done, 1)
    return answer.verdicts, [job.key for job in answer.jobs]


async def with_marker(scene: Scene) -> None:
    scene.raw.zadd(f"{PREFIX}wake", {"work": 0})


async def marker_is_handed_on(scene: Scene, result: Any) -> None:
    if isinstance(result, asyncio.CancelledError):
        await until(lambda: scene.raw.exists(f"{PREFIX}wake"))


@operation(setup=with_marker, connects=True, check=marker_is_handed_on)
async def wait_for_work(scene: Scene) -> Any:
    await scene.queue.wait_for_work(0.1)


@operation(setup=with_marker, atomic=False)
async def claim_when_woken(scene: Scene) -> Any:
    return len((await scene.queue.claim_when_woken(1, 0.1)).jobs)


# -- changing -----------------------------------------------------------------------------------------------


@operation(setup=claim_mine, owner=True)
async def update(scene: Scene) -> Any:
    await scene.mine.update(progress=0.5, meta={"x": 1})


@operation()
async def update_as_guest(scene: Scene) -> Any:
    await scene.queue.update(Job("f", key="a", queue=scene.queue), meta={"x": 1}, retries=5)


@operation(setup=claim_mine, owner=True)
async def finish(scene: Scene) -> Any:
    await scene.mine.finish(Status.COMPLETE, result=7)


@operation()
async def finish_as_guest(scene: Scene) -> Any:
    return await scene.queue.finish(Job("f", key="a", queue=scene.queue), Status.FAILED, error="by hand")


@operation(setup=claim_mine, owner=True)
async def retry(scene: Scene) -> Any:
    await scene.mine.retry("again")


@operation()
async def retry_as_guest(scene: Scene) -> Any:
    return await scene.queue.retry(Job("f", key="bad", queue=scene.queue), None)


@operation()
async def abort(scene: Scene) -> Any:
    await Job("f", key="a", queue=scene.queue).abort("no more")


@operation(setup=claim_mine, owner=True)
async def abort_what_runs(scene: Scene) -> Any:
    return await scene.queue.abort(scene.mine, "no more")


@operation()
async def delete(scene: Scene) -> Any:
    return await scene.queue.delete("a")


@operation()
async def requeue(scene: Scene) -> Any:
    return await scene.queue.requeue("done")


@operation()
async def run_now(scene: Scene) -> Any:
    return await scene.queue.run_now("later")


@operation()
async def pause(scene: Scene) -> Any:
    await scene.queue.pause()


async def paused(scene: Scene) -> None:
    await scene.other.pause()


@operation(setup=paused)
async def resume(scene: Scene) -> Any:
    await scene.queue.resume()


@operation()
async def notify(scene: Scene) -> Any:
    await scene.queue.notify(Job("f", key="a", status=Status.ACTIVE))


@operation()
async def tick(scene: Scene) -> Any:
    return await scene.queue.tick("entry", 1_700_000_060, Job("f", key="cron"))


async def come_due(scene: Scene) -> None:
    scene.raw.zadd(f"{PREFIX}scheduled", {"later": 1}, xx=True)


@operation(setup=come_due)
async def schedule(scene: Scene) -> Any:
    await scene.queue.schedule()


async def lose_mine(scene: Scene) -> None:
    await claim_mine(scene)
    end_leases(scene.raw)


@operation(setup=lose_mine)
async def sweep(scene: Scene) -> Any:
    await scene.queue.sweep()


# -- reading ------------------------------------------------------------------------------------------------


@operation()
async def job(scene: Scene) -> Any:
    found = await scene.queue.job("done")
    return found and found.result


@operation()
async def jobs(scene: Scene) -> Any:
    wanted = ["done", "a", *map(str, range(300))]
    return [found and found.status for found in await scene.queue.jobs(wanted)]


@operation()
async def refresh(scene: Scene) -> Any:
    found = Job("f", key="bad", queue=scene.queue)
    await found.refresh()
    return found.error


@operation()
async def info(scene: Scene) -> Any:
    found = await scene.queue.info(jobs=True)
    return found["queued"], [fields["key"] for fields in found["jobs"]]


@operation()
async def count(scene: Scene) -> Any:
    return await scene.queue.count("incomplete"), await scene.queue.count("queued")


@operation()
async def iter_jobs(scene: Scene) -> Any:
    return sorted([found.key async for found in scene.queue.iter_jobs()])


@operation()
async def server_time(scene: Scene) -> Any:
    return await scene.queue.server_time() > time.time() - 3600


# -- a worker by hand ---------------------------------------------------------------------------------------


async def with_worker(scene: Scene) -> None:
    async def hook(ctx: Context) -> None:
        await asyncio.sleep(0)

    async def run(ctx: Context) -> str:
        await asyncio.sleep(0)
        return "done"

    entries = [CronJob(run, "0 0 1 1 *")]
    scene.worker = make_worker(
        scene.queue,
        {"f": run},
        id="by hand",
        cron_jobs=entries,
        before_process=hook,
        after_process=hook,
        dequeue_timeout=5,
    )


@operation(setup=with_worker, atomic=False, owner=True, connects=True)
async def process(scene: Scene) -> Any:
    return await scene.worker.process()


@operation(setup=with_worker, atomic=False, owner=True)
async def upkeep(scene: Scene) -> Any:
    """The schedule, the sweep and the registration."""
    return await scene.worker.upkeep()


# -- coming and going ---------------------------------------------------------------------------------------


@operation(connects=True)
async def connect(scene: Scene) -> Any:
    """Anew, and so by far the longest way."""
    scene.queue._session.wire.abort()
    await scene.queue.connect()


@operation(connects=True)
async def attach(scene: Scene) -> Any:
    await scene.queue.attach(scene.recorder, 30.0, 3)


async def attached(scene: Scene) -> None:
    await scene.queue.attach(scene.recorder, 30.0, 3)
    await scene.queue.worker_info("worker", ttl=30)


@operation(setup=attached)
async def detach(scene: Scene) -> Any:
    await scene.queue.detach(scene.recorder)


@operation()
async def register(scene: Scene) -> Any:
    found = await scene.queue.worker_info("worker", ttl=30, functions=["f", "g"])
    return found["metadata"]


async def all_open(scene: Scene) -> None:
    """All four connections."""
    await attached(scene)
    await claim_mine(scene)
    scene.raw.delete(f"{PREFIX}wake")
    await scene.queue.wait_for_work(0.01)


@operation(setup=all_open)
async def disconnect(scene: Scene) -> Any:
    await scene.queue.disconnect()
