"""What a worker does with one job: the function, its context, the hooks, the result or the error."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import logging
import threading
import time
from typing import Any

import pytest

from saq import Job, Status
from saq.queue import JobError
from saq.queue.redis import RedisQueue
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, make_worker, took, until

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


async def nothing(ctx: Any) -> None:
    pass


# Functions -------------------------------------------------------------------------------------------------


async def test_an_async_function_returns_its_result(client: RedisQueue, work: Work) -> None:
    async def add(ctx: Any, *, a: int, b: int) -> int:
        return a + b

    await work({"add": add})
    assert await client.apply("add", a=1, b=2) == 3


async def test_a_sync_function_runs_in_a_thread_and_returns_its_result(
    client: RedisQueue, work: Work
) -> None:
    def thread_of(ctx: Any, *, n: int) -> list[int]:
        return [n, threading.get_ident()]

    await work({"thread_of": thread_of})
    n, ident = await client.apply("thread_of", n=7)
    assert n == 7
    assert ident != threading.get_ident()


async def test_a_function_given_by_itself_is_known_by_its_qualified_name(queue: RedisQueue) -> None:
    from saq import Worker

    worker: Worker[Any] = Worker(queue, [nothing, ("named", nothing)])
    assert set(worker.functions) == {"nothing", "named"}


async def test_a_callable_object_and_a_partial_and_a_method_can_be_functions(
    client: RedisQueue, work: Work
) -> None:
    class Async:
        async def __call__(self, ctx: Any) -> str:
            return "object"

        async def method(self, ctx: Any) -> str:
            return "method"

    async def say(ctx: Any, *, what: str) -> str:
        return what

    await work({"object": Async(), "method": Async().method, "partial": functools.partial(say, what="p")})
    assert await client.apply("object") == "object"
    assert await client.apply("method") == "method"
    assert await client.apply("partial") == "p"


async def test_what_startup_sets_in_a_context_variable_reaches_threads_set_by_before_process(
    client: RedisQueue, work: Work
) -> None:
    async def before(ctx: Any) -> None:
        where.set(f"job {ctx['job'].key}")

    def look(ctx: Any) -> str:
        return where.get()

    async def look_async(ctx: Any) -> str:
        return where.get()

    await work({"look": look, "look_async": look_async}, before_process=before)
    assert await client.apply("look", key="k1") == "job k1"
    assert await client.apply("look_async", key="k2") == "job k2"
    assert where.get() == "nowhere"


async def test_sync_functions_run_side_by_side_up_to_the_concurrency(client: RedisQueue, work: Work) -> None:
    together = threading.Barrier(12)

    def meet(ctx: Any) -> int:
        return together.wait(5)

    await work({"meet": meet}, concurrency=12)
    assert sorted(await client.map("meet", [{}] * 12)) == list(range(12))


async def test_a_sync_function_that_returns_an_awaitable_has_it_awaited(
    client: RedisQueue, work: Work
) -> None:
    async def inner() -> str:
        return threading.current_thread().name

    await work({"wrapped": lambda ctx: inner()})
    assert await client.apply("wrapped") == threading.main_thread().name


async def test_the_awaitable_of_a_sync_function_can_be_cancelled(client: RedisQueue, work: Work) -> None:
    cancelled = asyncio.Event()

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await work({"wrapped": lambda ctx: inner()})
    job = await enqueue(client, "wrapped", timeout=0.2)
    end = await ended(client, job)
    assert end.status is Status.FAILED
    async with took(at_most=0.5):
        await cancelled.wait()


async def test_the_context_holds_worker_queue_job_and_what_startup_put_in(
    client: RedisQueue, work: Work
) -> None:
    async def startup(ctx: Any) -> None:
        ctx["database"] = "connected"

    async def look(ctx: Any) -> dict[str, Any]:
        assert isinstance(ctx["job"], Job)
        return {
            "worker": ctx["worker"].id,
            "queue": ctx["queue"].name,
            "job": ctx["job"].key,
            "database": ctx["database"],
            "status": ctx["job"].status.value,
            "attempts": ctx["job"].attempts,
        }

    await work({"look": look}, startup=startup, id="w1")
    assert await client.apply("look", key="k") == {
        "worker": "w1",
        "queue": "default",
        "job": "k",
        "database": "connected",
        "status": "active",
        "attempts": 1,
    }


async def test_what_a_job_puts_into_its_context_does_not_reach_another_job(
    client: RedisQueue, work: Work
) -> None:
    async def mark(ctx: Any) -> bool:
        seen = "mark" in ctx
        ctx["mark"] = True
        return seen

    await work({"mark": mark})
    assert await client.map("mark", [{}, {}], timeout=5) == [False, False]


async def test_a_function_may_enqueue_to_its_own_queue_and_wait_for_it(
    client: RedisQueue, work: Work
) -> None:
    async def child(ctx: Any, *, n: int) -> int:
        return n * n

    async def parent(ctx: Any) -> int:
        return sum(await ctx["queue"].map("child", [{"n": n} for n in range(5)]))

    await work({"child": child, "parent": parent})
    assert await client.apply("parent") == 30


async def test_a_finished_job_says_when_and_how_long_and_by_whom(client: RedisQueue, work: Work) -> None:
    async def pause(ctx: Any) -> str:
        await asyncio.sleep(0.05)
        return "done"

    await work({"pause": pause}, id="w1")
    before = int(time.time() * 1000) - 1000
    end = await ended(client, await enqueue(client, "pause"))
    assert (end.status, end.result, end.error) == (Status.COMPLETE, "done", None)
    assert (end.attempts, end.worker_id, end.progress) == (1, "w1", 1.0)
    assert before < end.queued <= end.started <= end.completed < before + 10_000
    assert 45 <= (end.duration("process") or 0) < 2000


async def test_progress_and_meta_that_a_function_sets_are_kept_with_the_result(
    client: RedisQueue, work: Work
) -> None:
    halfway, on = asyncio.Event(), asyncio.Event()

    async def long(ctx: Any) -> None:
        job = ctx["job"]
        job.meta["step"] = 1
        await job.update(progress=0.5)
        halfway.set()
        await on.wait()
        job.meta["step"] = 2

    await work({"long": long})
    job = await enqueue(client, "long", meta={"who": "me"})
    await halfway.wait()
    await job.refresh()
    assert (job.status, job.progress, job.meta) == (Status.ACTIVE, 0.5, {"who": "me", "step": 1})
    on.set()
    end = await ended(client, job)
    assert (end.progress, end.meta) == (1.0, {"who": "me", "step": 2})


async def test_a_function_may_finish_its_own_job_and_what_it_returns_then_changes_nothing(
    client: RedisQueue, work: Work
) -> None:
    async def early(ctx: Any) -> str:
        await ctx["job"].finish(Status.COMPLETE, result="early")
        return "late"

    await work({"early": early})
    assert await client.apply("early") == "early"


# Hooks -----------------------------------------------------------------------------------------------------


async def test_all_hooks_run_in_order_async_and_sync(queue: RedisQueue, client: RedisQueue) -> None:
    said: list[str] = []

    def sync(name: str) -> Any:
        return lambda ctx: said.append(name)

    def asynchronous(name: str) -> Any:
        async def hook(ctx: Any) -> None:
            said.append(name)

        return hook

    async def function(ctx: Any) -> None:
        said.append("function")

    worker = make_worker(
        queue,
        {"function": function},
        startup=[asynchronous("start 1"), sync("start 2")],
        shutdown=[sync("stop 1"), asynchronous("stop 2")],
        before_process=[asynchronous("before 1"), sync("before 2")],
        after_process=sync("after"),
    )
    task = asyncio.create_task(worker.start())
    await client.apply("function")
    await worker.stop()
    await task
    assert said == [
        *("start 1", "start 2", "before 1", "before 2", "function", "after", "stop 1", "stop 2"),
    ]


async def test_hooks_can_be_set_as_attributes_while_the_worker_runs(client: RedisQueue, work: Work) -> None:
    said: list[str] = []
    after = asyncio.Event()

    async def before(ctx: Any) -> None:
        said.append("before")

    loop = asyncio.get_running_loop()
    worker: Any = await work({"nothing": nothing})
    await client.apply("nothing")
    worker.before_process = before
    worker.after_process = [
        lambda ctx: said.append("after"),
        lambda ctx: loop.call_soon_threadsafe(after.set),
    ]
    await client.apply("nothing")
    await after.wait()
    assert said == ["before", "after"]


async def test_a_before_process_that_raises_fails_the_job_and_the_function_does_not_run(
    client: RedisQueue, work: Work
) -> None:
    ran: list[str] = []
    after = asyncio.Event()
    seen: dict[str, Any] = {}

    async def before(ctx: Any) -> None:
        raise PermissionError("not today")

    async def function(ctx: Any) -> None:
        ran.append("function")

    async def after_process(ctx: Any) -> None:
        seen.update(ctx)
        after.set()

    await work({"function": function}, before_process=before, after_process=after_process)
    end = await ended(client, await enqueue(client, "function"))
    assert end.status is Status.FAILED
    assert end.error is not None
    assert "PermissionError: not today" in end.error
    await after.wait()
    assert isinstance(seen["exception"], PermissionError)
    assert not ran


async def test_an_after_process_that_raises_is_logged_and_changes_nothing(
    client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    others: list[str] = []

    def broken(ctx: Any) -> None:
        raise ValueError("the hook is broken")

    await work({"nothing": nothing}, after_process=[broken, lambda ctx: others.append(ctx["job"].key)])
    end = await ended(client, await enqueue(client, "nothing", key="k"))
    assert end.status is Status.COMPLETE
    await until(lambda: others == ["k"])
    assert "the hook is broken" in caplog.text
    assert await client.apply("nothing") is None


@pytest.mark.parametrize("outcome", ["complete", "failed"])
async def test_after_process_runs_when_the_result_is_accepted_and_may_enqueue_the_key_again(
    outcome: str, client: RedisQueue, work: Work
) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def function(ctx: Any) -> str:
        if outcome == "failed":
            raise ValueError("no")
        return "result"

    async def after(ctx: Any) -> None:
        if ctx["job"].meta:
            return
        other = await client.job("k")
        assert other is not None
        again = await ctx["queue"].enqueue("function", key="k", meta={"again": 1})
        await seen.put((other.status.value, other.result, ctx["job"].status.value, again is not None))

    await work({"function": function}, after_process=after)
    await enqueue(client, "function", key="k")
    result = "result" if outcome == "complete" else None
    assert await seen.get() == (outcome, result, outcome, True)
    await until(lambda: _is(client, "k", outcome, {"again": 1}))


async def _is(client: RedisQueue, key: str, status: str, meta: dict[str, Any]) -> bool:
    job = await client.job(key)
    return job is not None and job.status == status and job.meta == meta


async def test_a_worker_with_one_slot_and_an_after_process_goes_on_after_the_first_job(
    client: RedisQueue, work: Work
) -> None:
    count = 0

    async def after(ctx: Any) -> None:
        nonlocal count
        count += 1

    await work({"nothing": nothing}, after_process=after, concurrency=1)
    async with took(at_most=2.0):
        for _ in range(3):
            await client.apply("nothing")
        await client.map("nothing", [{}] * 5)
    await until(lambda: count == 8)


async def test_after_process_sees_the_exception_and_the_job_with_its_error(
    client: RedisQueue, work: Work
) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def fail(ctx: Any) -> None:
        raise KeyError("missing")

    async def after(ctx: Any) -> None:
        await seen.put((type(ctx["exception"]), ctx["job"].status, "KeyError" in ctx["job"].error))

    await work({"fail": fail}, after_process=after)
    await enqueue(client, "fail")
    assert await seen.get() == (KeyError, Status.FAILED, True)


async def test_after_process_of_a_job_that_completes_sees_no_exception(
    client: RedisQueue, work: Work
) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def after(ctx: Any) -> None:
        await seen.put((ctx.get("exception"), ctx["job"].status))

    await work({"nothing": nothing}, after_process=after)
    await enqueue(client, "nothing")
    assert await seen.get() == (None, Status.COMPLETE)


# Failures --------------------------------------------------------------------------------------------------


async def test_the_error_of_a_failed_job_is_the_stack_trace(client: RedisQueue, work: Work) -> None:
    async def inner_place() -> None:
        raise ValueError("what went wrong")

    async def fail(ctx: Any) -> None:
        await inner_place()

    await work({"fail": fail})
    with pytest.raises(JobError, match="what went wrong") as caught:
        await client.apply("fail")
    error = caught.value.job.error
    assert error is not None
    assert error.startswith("Traceback (most recent call last):")
    assert "inner_place" in error
    assert error.rstrip().endswith("ValueError: what went wrong")


async def test_a_failed_job_is_tried_as_often_as_retries_says(client: RedisQueue, work: Work) -> None:
    attempts: list[tuple[int, str | None]] = []

    async def flaky(ctx: Any) -> str:
        attempts.append((ctx["job"].attempts, ctx["job"].error))
        if len(attempts) < 3:
            raise ValueError(f"attempt {len(attempts)}")
        return "at last"

    await work({"flaky": flaky})
    job = await enqueue(client, "flaky", retries=3)
    end = await ended(client, job)
    assert (end.status, end.result, end.attempts, end.error) == (Status.COMPLETE, "at last", 3, None)
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    assert "attempt 1" in (attempts[1][1] or "")
    assert "attempt 2" in (attempts[2][1] or "")


async def test_a_job_fails_when_its_last_attempt_has_failed(client: RedisQueue, work: Work) -> None:
    count = 0

    async def fail(ctx: Any) -> None:
        nonlocal count
        count += 1
        raise ValueError(f"attempt {count}")

    await work({"fail": fail})
    end = await ended(client, await enqueue(client, "fail", retries=2))
    assert (end.status, end.attempts, count) == (Status.FAILED, 2, 2)
    assert "attempt 2" in (end.error or "")


async def test_a_retry_waits_its_delay_and_no_longer(client: RedisQueue, work: Work) -> None:
    starts: list[float] = []

    async def flaky(ctx: Any) -> None:
        starts.append(time.monotonic())
        if len(starts) == 1:
            raise ValueError

    await work({"flaky": flaky})
    end = await ended(client, await enqueue(client, "flaky", retries=2, retry_delay=0.3))
    assert end.status is Status.COMPLETE
    assert 0.29 < starts[1] - starts[0] < 0.6


async def test_backoff_waits_a_random_time_up_to_its_limit(client: RedisQueue, work: Work) -> None:
    starts: list[float] = []

    async def fail(ctx: Any) -> None:
        starts.append(time.monotonic())
        raise ValueError

    await work({"fail": fail})
    # Without the limit, the seventh delay alone could be 64 s.
    job = await enqueue(client, "fail", retries=8, retry_delay=1.0, retry_backoff=0.05)
    async with took(at_most=3.0):
        await ended(client, job)
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert len(gaps) == 7
    assert max(gaps) < 0.3


class CannotSay(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Custom(BaseException):
    pass


def recurse(ctx: Any = None) -> None:
    recurse()


def group() -> BaseException:
    return ExceptionGroup("several", [ValueError("one"), TypeError("two")])


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        StopAsyncIteration(),
        Custom("custom"),
        CannotSay(),
        group(),
        TimeoutError("its own"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_function_raises_fails_its_job_only(
    error: BaseException, kind: str, client: RedisQueue, work: Work
) -> None:
    async def fail(ctx: Any) -> None:
        raise error

    def fail_sync(ctx: Any) -> None:
        raise error

    count = 0

    async def after(ctx: Any) -> None:
        nonlocal count
        count += 1

    await work({"fail": fail if kind == "async" else fail_sync, "nothing": nothing}, concurrency=1)
    end = await ended(client, await enqueue(client, "fail"))
    assert end.status is Status.FAILED
    assert type(error).__name__ in (end.error or "")
    # Its slot is free again.
    async with took(at_most=2.0):
        await client.apply("nothing")


async def test_endless_recursion_fails_its_job_only(client: RedisQueue, work: Work) -> None:
    async def deep(ctx: Any) -> None:
        recurse()

    await work({"deep": deep, "deep_sync": recurse, "nothing": nothing}, concurrency=1)
    for name in ("deep", "deep_sync"):
        end = await ended(client, await enqueue(client, name))
        assert end.status is Status.FAILED
        assert "RecursionError" in (end.error or "")
    await client.apply("nothing")


async def test_the_error_of_an_exception_group_names_all_of_them(client: RedisQueue, work: Work) -> None:
    async def fail(ctx: Any) -> None:
        raise group()

    await work({"fail": fail})
    end = await ended(client, await enqueue(client, "fail"))
    assert "ValueError: one" in (end.error or "")
    assert "TypeError: two" in (end.error or "")


async def test_a_very_long_error_is_kept_in_part(client: RedisQueue, work: Work) -> None:
    async def fail(ctx: Any) -> None:
        raise ValueError("begin" + "x" * 10_000_000 + "end \ud800")

    await work({"fail": fail})
    end = await ended(client, await enqueue(client, "fail"))
    assert end.error is not None
    assert len(end.error) < 100_000
    assert "begin" in end.error
    assert "characters left out" in end.error


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, float("nan"), b"bytes"], ids=["object", "set", "nan", "bytes"]
)
async def test_a_result_that_cannot_be_stored_fails_the_job_with_that_reason_and_is_not_retried(
    value: Any, client: RedisQueue, work: Work
) -> None:
    calls = 0

    async def bad(ctx: Any) -> Any:
        nonlocal calls
        calls += 1
        return {"a": [value]}

    await work({"bad": bad, "nothing": nothing}, concurrency=1)
    end = await ended(client, await enqueue(client, "bad", retries=5))
    assert (end.status, end.attempts, calls) == (Status.FAILED, 1, 1)
    assert "result" in (end.error or "")
    assert "SerializationError" in (end.error or "")
    await client.apply("nothing")


async def test_arguments_that_a_function_cannot_enqueue_are_a_failure_like_any_other(
    client: RedisQueue, work: Work
) -> None:
    calls = 0

    async def bad(ctx: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await ctx["queue"].enqueue("nothing", value=object())
        return "second"

    await work({"bad": bad, "nothing": nothing})
    end = await ended(client, await enqueue(client, "bad", retries=2))
    assert (end.status, end.result) == (Status.COMPLETE, "second")


@pytest.mark.parametrize("raises", [False, True])
async def test_meta_that_cannot_be_stored_fails_the_job_and_frees_its_slot(
    raises: bool, client: RedisQueue, work: Work
) -> None:
    async def bad(ctx: Any) -> None:
        ctx["job"].meta["object"] = object()
        if raises:
            raise ValueError("its own error")

    await work({"bad": bad, "nothing": nothing}, concurrency=1)
    end = await ended(client, await enqueue(client, "bad"))
    assert end.status is Status.FAILED
    assert ("its own error" if raises else "meta") in (end.error or "")
    async with took(at_most=2.0):
        await client.apply("nothing")


async def test_wrong_arguments_fail_the_job_with_the_type_error(client: RedisQueue, work: Work) -> None:
    await work({"nothing": nothing})
    end = await ended(client, await enqueue(client, "nothing", surprise=1))
    assert "unexpected keyword argument 'surprise'" in (end.error or "")


async def test_the_counters_of_a_worker_count_its_jobs(
    queue: RedisQueue, client: RedisQueue, work: Work
) -> None:
    async def fail(ctx: Any) -> None:
        raise ValueError

    worker = await work({"fail": fail, "nothing": nothing})
    await client.apply("nothing")
    await ended(client, await enqueue(client, "fail", retries=3))
    info = await worker.worker_info()
    assert info["stats"] is not None
    stats = info["stats"]
    assert (stats["complete"], stats["failed"], stats["retried"], stats["aborted"]) == (1, 1, 2, 0)


# What the log says -----------------------------------------------------------------------------------------


async def test_the_log_says_what_happened_to_which_job_and_how_long_it_took(
    client: RedisQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saq")

    async def flaky(ctx: Any) -> None:
        if ctx["job"].attempts == 1:
            raise ValueError("once")

    await work({"flaky": flaky})
    await ended(client, await enqueue(client, "flaky", key="the-key", retries=2))
    await until(lambda: "Finished" in caplog.text)
    lines = [r.getMessage() for r in caplog.records if "the-key" in r.getMessage()]
    assert [line.split()[0] for line in lines] == [
        "Processing",
        "Error",
        "Retrying",
        "Processing",
        "Finished",
    ]
    assert "ValueError: once" in lines[1]
    assert lines[-1].startswith("Finished (complete) Job<function: flaky")
    assert lines[-1].endswith(" s")


async def test_two_queues_on_one_server_do_not_see_each_others_jobs(
    make_queue: MakeQueue, work: Work
) -> None:
    one, two = make_queue(name="one"), make_queue(name="two")

    async def name(ctx: Any) -> str:
        return str(ctx["queue"].name)

    await work({"name": name}, queue=one)
    await work({"name": name}, queue=two)
    assert await make_queue(name="one").apply("name", key="k") == "one"
    assert await make_queue(name="two").apply("name", key="k") == "two"
