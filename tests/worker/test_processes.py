"""Functions in processes: what goes in and comes out, and that they are dead when they are said to be."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from saq import Handler, Status, Worker
from saq.errors import ProcessDiedError, UsageError
from saq.queue.redis import RedisQueue
from tests.processes import Command, saq
from tests.worker import computing
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, running, took, until

FUNCTIONS = {
    name: function
    for name, function in vars(computing).items()
    if callable(function) and getattr(function, "__module__", "") == computing.__name__ and name.islower()
}


def make_worker(queue: RedisQueue, **settings: Any) -> Worker[Any]:
    handlers = [Handler(function, process=True) for name, function in FUNCTIONS.items() if name[0] != "_"]
    worker: Worker[Any] = Worker(queue, [*handlers, *settings.pop("functions", ())], **settings)
    worker.SIGNALS = []  # type: ignore[misc]
    return worker


@pytest.fixture
async def worker(queue: RedisQueue) -> AsyncIterator[Worker[Any]]:
    """One that has the functions of `computing` in processes, two at once."""
    async with running(make_worker(queue, processes=2)) as worker:
        yield worker


def children() -> list[psutil.Process]:
    """The living processes of workers in this process."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    ]


async def noted(path: Path) -> int:
    """The process id that a function has written there."""
    return int(await until(lambda: path.exists() and path.read_text(), timeout=20))


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# In and out ------------------------------------------------------------------------------------------------


async def test_a_function_runs_in_another_process_that_is_used_again(
    client: RedisQueue, worker: Worker[Any]
) -> None:
    pids = [await client.apply("pid", timeout=20) for _ in range(5)]
    assert len(set(pids)) == 1
    assert pids[0] != os.getpid()


async def test_it_gets_its_arguments_and_the_fields_of_its_job(
    client: RedisQueue, worker: Worker[Any]
) -> None:
    job = await enqueue(client, "see", n=3, text="ä" * 100_000, meta={"a": 1}, retries=4)
    assert (await ended(client, job, 20)).result == {
        "arguments": [3, "ä" * 100_000],
        "context": ["job"],
        "key": job.key,
        "function": "see",
        "attempts": 1,
        "meta": {"a": 1},
        "status": "active",
        "retries": 4,
        "started": True,
    }


async def test_arguments_and_results_may_be_large(client: RedisQueue, worker: Worker[Any]) -> None:
    assert await client.apply("length", text="x" * 3_000_000, timeout=20) == 3_000_000
    assert len(await client.apply("give", what="3000000", timeout=20)) == 3_000_000


async def test_an_async_function_has_a_loop_there(client: RedisQueue, worker: Worker[Any]) -> None:
    assert await client.apply("coroutine", n=1, timeout=20) == 2


async def test_a_callable_object_may_be_run_there(queue: RedisQueue, client: RedisQueue) -> None:
    functions = [
        Handler(computing.Called(3), name="thrice", process=True),
        Handler(functools.partial(computing.length, text="four"), name="four", process=True),
    ]
    async with running(make_worker(queue, functions=functions)):
        assert await client.apply("thrice", n=4, timeout=20) == 12
        assert await client.apply("four", timeout=20) == 4


async def test_a_function_may_run_in_a_thread_and_under_another_name_in_a_process(
    queue: RedisQueue, client: RedisQueue
) -> None:
    functions = [("here", computing.pid), Handler(computing.pid, "there", process=True)]
    async with running(make_worker(queue, functions=functions)):
        assert await client.apply("here") == os.getpid()
        assert await client.apply("there", timeout=20) != os.getpid()


async def test_the_hooks_run_in_the_worker(queue: RedisQueue, client: RedisQueue) -> None:
    seen: list[Any] = []
    settings = {
        "startup": lambda ctx: ctx.update(mine="of the worker"),
        "before_process": lambda ctx: seen.append((os.getpid(), ctx["mine"])),
        "after_process": lambda ctx: seen.append((os.getpid(), ctx["job"].status, ctx.get("exception"))),
    }
    async with running(make_worker(queue, **settings)):
        await client.apply("pid", timeout=20)
        job = await enqueue(client, "fail", how="value")
        await ended(client, job)
        await until(lambda: len(seen) == 4)
    assert seen[0] == seen[2] == (os.getpid(), "of the worker")
    assert seen[1][1:] == (Status.COMPLETE, None)
    assert isinstance(seen[3][2], ValueError)


@pytest.mark.parametrize("what", ["queue", "worker", "mine"])
async def test_what_is_not_there_is_said(what: str, client: RedisQueue, worker: Worker[Any]) -> None:
    end = await ended(client, await enqueue(client, "use", what=what), 20)
    assert end.status is Status.FAILED
    assert f"'{what}': in a process, the context holds 'job' alone" in (end.error or "")


async def test_a_job_in_a_process_has_no_queue_and_says_so(client: RedisQueue, worker: Worker[Any]) -> None:
    end = await ended(client, await enqueue(client, "ask_queue"), 20)
    assert "no connection to its queue" in (end.error or "")


# Meta and progress -----------------------------------------------------------------------------------------


async def test_what_it_puts_into_meta_is_kept(client: RedisQueue, worker: Worker[Any]) -> None:
    end = await ended(client, await enqueue(client, "remember", meta={"a": 1}), 20)
    assert end.meta == {"a": 1, "seen": 1}


async def test_update_says_how_far_it_is_and_is_a_heartbeat(client: RedisQueue, worker: Worker[Any]) -> None:
    job = await enqueue(client, "progress", steps=4, seconds=0.2, heartbeat=0.5, timeout=30)
    async with took(at_most=20):
        while True:
            await job.refresh()
            if job.progress == 0.5:
                break
            await asyncio.sleep(0.01)
    assert job.meta == {"step": 2}
    assert (await ended(client, job)).result == "done"
    assert await client.apply("progress_async", timeout=20) == 0.5


async def test_a_function_that_gives_no_heartbeat_is_killed(client: RedisQueue, worker: Worker[Any]) -> None:
    await client.apply("pid", timeout=20)
    end = await ended(client, await enqueue(client, "spin", heartbeat=0.3, timeout=30))
    assert end.status is Status.FAILED
    assert "gave no heartbeat" in (end.error or "")


async def test_an_update_that_cannot_be_is_logged_and_the_job_goes_on(
    client: RedisQueue, worker: Worker[Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert await client.apply("update_wrongly", timeout=20) == "done"
    assert "update cannot change status" in caplog.text


# Errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("value", "ValueError: no such value"),
        ("odd", "Odd: 1 and 2"),
        ("chain", "RuntimeError: outer"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("cancelled", "CancelledError"),
        ("stop", "StopIteration: 1"),
    ],
)
async def test_an_exception_comes_back_with_its_trace(
    how: str, says: str, client: RedisQueue, worker: Worker[Any]
) -> None:
    end = await ended(client, await enqueue(client, "fail", how=how), 20)
    error = end.error or ""
    assert end.status is Status.FAILED
    assert says in error
    assert 'computing.py", line' in error
    assert ("KeyError: 'inner'" in error) == (how == "chain")
    assert "saq/worker" not in error, "the frames of SAQ are of no interest"
    # The process is none the worse for it.
    pids = {await client.apply("pid", timeout=20) for _ in range(2)}
    assert len(pids) == 1
    assert len(children()) == 1


async def test_a_wrong_argument_is_an_error_of_the_job(client: RedisQueue, worker: Worker[Any]) -> None:
    end = await ended(client, await enqueue(client, "length", txt="x"), 20)
    assert "unexpected keyword argument 'txt'" in (end.error or "")


async def test_a_result_that_cannot_be_handed_over_fails_and_is_not_tried_again(
    client: RedisQueue, worker: Worker[Any]
) -> None:
    for what, says in (("lambda", "the result of give cannot be handed over"), ("set", "set")):
        end = await ended(client, await enqueue(client, "give", what=what, retries=3), 20)
        assert (end.status, end.attempts) == (Status.FAILED, 1)
        assert says in (end.error or "")


async def test_an_argument_that_cannot_be_handed_over_is_named(make_queue: MakeQueue) -> None:
    """Such arguments come from a queue with a serializer of its own."""
    fields: dict[str, Any] = {}

    def dump(job: Any) -> bytes:
        return pickle.dumps({**job, "kwargs": None} if "kwargs" in job else job)

    def load(data: bytes) -> Any:
        found = pickle.loads(data)
        if isinstance(found, dict) and "function" in found:
            found["kwargs"] = {"n": 1, **fields}
        return found

    queue = make_queue(dump=dump, load=load)
    async with running(make_worker(queue)):
        fields["text"] = lambda: 1
        end = await ended(queue, await enqueue(queue, "see", retries=3), 20)
        assert (end.status, end.attempts) == (Status.FAILED, 1)
        assert "the argument 'text' of see cannot be handed to a process" in (end.error or "")
        fields["text"] = computing.Grumpy()
        end = await ended(queue, await enqueue(queue, "see", retries=3), 20)
        assert (end.status, end.attempts) == (Status.FAILED, 1)
        assert "the arguments of see cannot be read in its process: not here" in (end.error or "")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("exit", "ended by itself with exit code 7"),
        ("nothing", "ended by itself with exit code 0"),
        ("segfault", "was killed by SIGSEGV"),
        ("SIGKILL", "was killed by SIGKILL; perhaps for want of memory"),
    ],
)
async def test_a_process_that_dies_fails_its_job_alone(
    how: str, says: str, client: RedisQueue, worker: Worker[Any]
) -> None:
    beside = await enqueue(client, "nap", seconds=0.5, timeout=30)
    end = await ended(client, await enqueue(client, "die", how=how), 20)
    assert end.status is Status.FAILED
    assert f"the process that ran die {says}" in (end.error or "")
    assert (await ended(client, beside, 20)).status is Status.COMPLETE
    again = await ended(client, await enqueue(client, "die", how=how, retries=2), 20)
    assert (again.status, again.result) == (Status.COMPLETE, 2)


async def test_a_process_that_died_while_it_was_idle_harms_nobody(
    client: RedisQueue, worker: Worker[Any]
) -> None:
    pid = await client.apply("pid", timeout=20)
    assert worker._parts is not None
    assert worker._parts.processes is not None
    (idle,) = worker._parts.processes._idle
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not idle.alive)
    assert await client.apply("pid", timeout=20) != pid


# The end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["spin", "deaf", "hold_the_interpreter"])
async def test_at_its_timeout_the_process_is_killed_whatever_it_does(
    function: str, client: RedisQueue, worker: Worker[Any], tmp_path: Path
) -> None:
    await client.apply("pid", timeout=20)
    job = await enqueue(client, function, note=str(tmp_path / "pid"), timeout=0.5)
    async with took(at_most=3.0):
        end = await ended(client, job)
    assert end.status is Status.FAILED
    assert f"timed out: no end within 0.5 s of {function}; its process was killed" in (end.error or "")
    assert gone(int((tmp_path / "pid").read_text())), "dead before the job was settled"
    assert await client.apply("pid", timeout=20)


async def test_what_the_process_has_started_is_killed_with_it(
    client: RedisQueue, worker: Worker[Any], tmp_path: Path
) -> None:
    await client.apply("pid", timeout=20)
    job = await enqueue(client, "with_a_child", note=str(tmp_path / "pid"), timeout=1.0)
    pid = await noted(tmp_path / "pid")
    await ended(client, job)
    await until(lambda: gone(pid))


async def test_the_retry_of_a_killed_one_runs_at_once(client: RedisQueue, worker: Worker[Any]) -> None:
    await client.apply("pid", timeout=20)
    async with took(at_most=5.0):  # not after the lease, which is 30 seconds
        end = await ended(client, await enqueue(client, "spin_once", timeout=0.5, retries=2))
    assert (end.status, end.result) == (Status.COMPLETE, 2)


async def test_an_abort_kills_the_process(client: RedisQueue, worker: Worker[Any], tmp_path: Path) -> None:
    job = await enqueue(client, "spin", note=str(tmp_path / "pid"), timeout=0)
    pid = await noted(tmp_path / "pid")
    await job.abort("not wanted")
    async with took(at_most=2.0):
        end = await ended(client, job)
    assert (end.status, end.error) == (Status.ABORTED, "not wanted")
    await until(lambda: gone(pid))


async def test_a_job_that_waits_for_a_process_can_be_aborted(
    queue: RedisQueue, client: RedisQueue, tmp_path: Path
) -> None:
    async with running(make_worker(queue, processes=1)):
        first = await enqueue(client, "spin", note=str(tmp_path / "pid"), timeout=0)
        await noted(tmp_path / "pid")
        second = await enqueue(client, "pid", timeout=0)
        await until(lambda: _active(client, 2))
        await second.abort("not wanted")
        async with took(at_most=2.0):
            assert (await ended(client, second)).status is Status.ABORTED
        await first.abort("nor this")
        await ended(client, first)
        assert await client.apply("pid", timeout=20), "the process of the first one is replaced"


async def _active(client: RedisQueue, count: int) -> bool:
    return await client.count("active") == count


async def test_a_lost_lease_kills_the_process(
    client: RedisQueue, worker: Worker[Any], tmp_path: Path
) -> None:
    await enqueue(client, "spin", note=str(tmp_path / "pid"), timeout=0)
    pid = await noted(tmp_path / "pid")
    (source,) = worker._sources
    (run,) = source.runs
    source.on_lost(run.job)
    await until(lambda: gone(pid))


async def test_a_stop_kills_what_runs_and_gives_it_back(
    queue: RedisQueue, client: RedisQueue, tmp_path: Path
) -> None:
    async with running(make_worker(queue)) as worker:
        await client.apply("pid", timeout=20)
        job = await enqueue(client, "spin", note=str(tmp_path / "pid"), timeout=0)
        pid = await noted(tmp_path / "pid")
        async with took(at_most=3.0):
            await worker.stop()
    assert gone(pid)
    assert children() == []
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")
    assert job.retryable


async def test_a_stop_while_a_process_starts_leaves_none_behind(
    queue: RedisQueue, client: RedisQueue
) -> None:
    async with running(make_worker(queue)) as worker:
        await enqueue(client, "pid")
        await until(children)
        async with took(at_most=3.0):
            await worker.stop()
    assert children() == []


async def test_it_may_end_within_the_grace_period(queue: RedisQueue, client: RedisQueue) -> None:
    async with running(make_worker(queue, shutdown_grace_period_s=20)) as worker:
        await client.apply("pid", timeout=20)
        job = await enqueue(client, "nap", seconds=0.5)
        await until(lambda: _active(client, 1))
        await worker.stop()
    assert (await ended(client, job)).status is Status.COMPLETE


# How many --------------------------------------------------------------------------------------------------


async def test_no_more_processes_than_are_needed_and_never_more_than_allowed(
    queue: RedisQueue, client: RedisQueue
) -> None:
    async with running(make_worker(queue, processes=2, concurrency=8)):
        await client.apply("pid", timeout=20)
        assert len(children()) == 1
        # Waiting for a process is not running: the time limit does not begin before.
        jobs = [await enqueue(client, "nap", seconds=0.3, timeout=0.9) for _ in range(8)]
        ends = [await ended(client, job, 20) for job in jobs]
        assert {end.status for end in ends} == {Status.COMPLETE}, [end.error for end in ends]
        assert len({end.result for end in ends}) == 2
        assert len(children()) == 2
    assert children() == []


async def test_a_worker_without_such_functions_starts_none(client: RedisQueue, work: Work) -> None:
    def plain(ctx: Any) -> int:
        return os.getpid()

    await work({"plain": plain})
    assert await client.apply("plain") == os.getpid()
    assert children() == []


async def test_the_event_loop_goes_on_while_processes_start_and_compute(
    client: RedisQueue, worker: Worker[Any]
) -> None:
    longest, last, on = 0.0, time.monotonic(), True

    async def beat() -> None:
        nonlocal longest, last
        while on:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    beating = asyncio.create_task(beat())
    jobs = [await enqueue(client, "nap", seconds=0.5, timeout=30) for _ in range(2)]
    jobs += [await enqueue(client, "spin", timeout=0.5) for _ in range(2)]
    for job in jobs:
        await ended(client, job, 20)
    on = False
    await beating
    assert longest < 0.25


# What cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lambda ctx: None, computing.make_inner()])
def test_what_no_process_can_import_is_refused(function: Any, redis_url: str) -> None:
    queue = RedisQueue.from_url(redis_url)
    with pytest.raises(ValueError, match="process=True needs a function that another process can import"):
        Worker(queue, [Handler(function, name="f", process=True)])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"process": 1}, "process must be True or False, got 1"),
        ({"name": ""}, "name must be the name of"),
        ({"name": 3}, "name must be the name of"),
        ({"function": "f"}, "function must be a callable, got 'f'"),
    ],
)
def test_a_wrong_handler_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Handler(**{"function": computing.pid, **settings})


@pytest.mark.parametrize("processes", [0, -1, "2", 1.5, True])
def test_a_wrong_number_of_processes_is_refused(processes: Any, redis_url: str) -> None:
    with pytest.raises(UsageError, match="processes must be a whole number of at least 1"):
        Worker(RedisQueue.from_url(redis_url), [], processes=processes)


async def test_a_process_that_cannot_start_fails_the_job_and_says_why(
    queue: RedisQueue, client: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(queue, processes=1)
    monkeypatch.setattr("saq.worker.processes.START_PATIENCE", 0.001)
    async with running(worker):
        end = await ended(client, await enqueue(client, "pid"), 20)
    assert end.status is Status.FAILED
    assert ProcessDiedError.__name__ in (end.error or "")
    assert "was not ready within" in (end.error or "")


# A worker that is killed -----------------------------------------------------------------------------------


Start = Callable[..., Command]


@pytest.fixture
async def start(redis_url: str) -> AsyncIterator[Start]:
    started: list[Command] = []

    def command(*words: str) -> Command:
        started.append(saq(*words, "tests.worker.app.computing", url=redis_url))
        return started[-1]

    yield command
    for process in started:
        process.close()


@pytest.mark.parametrize("function", ["spin", "hold_the_interpreter"])
async def test_a_worker_that_is_killed_leaves_no_process_behind(
    function: str, client: RedisQueue, start: Start, tmp_path: Path
) -> None:
    worker = start()
    await client.apply("pid", timeout=30)
    await enqueue(client, function, note=str(tmp_path / "pid"), timeout=0)
    pid = await noted(tmp_path / "pid")
    family = worker.children()
    assert family
    worker.send(signal.SIGKILL)
    await until(lambda: gone(pid))
    await until(lambda: not any(process.is_running() for process in family))


async def test_a_signal_to_all_processes_of_a_service_is_for_the_worker_alone(
    client: RedisQueue, start: Start
) -> None:
    worker = start()
    await client.apply("pid", timeout=30)
    job = await enqueue(client, "nap", seconds=1.0, timeout=30)
    await until(lambda: _active(client, 1))
    for child in worker.children():
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
    worker.send(signal.SIGTERM)
    assert await worker.end() == 0, worker.text()
    assert (await ended(client, job)).status is Status.COMPLETE


async def test_several_worker_processes_have_processes_of_their_own(client: RedisQueue, start: Start) -> None:
    worker = start("--workers", "2")
    jobs = [await enqueue(client, "nap", seconds=0.2, timeout=30) for _ in range(20)]
    assert {(await ended(client, job, 30)).status for job in jobs} == {Status.COMPLETE}
    family = [child for parent in worker.children() for child in parent.children(recursive=True)]
    worker.send(signal.SIGTERM)
    assert await worker.end() == 0, worker.text()
    await until(lambda: not any(process.is_running() for process in family))
