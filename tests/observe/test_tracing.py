"""Spans where jobs are enqueued and where they run, read back from memory."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from saq import Job, Status
from saq.errors import UsageError
from saq.observe.tracing import META, instrument
from saq.queue import JobError
from saq.queue.redis import RedisQueue
from saq.queue.redis.wire import UnreachableError
from tests.conftest import MakeServer
from tests.observe.support import Spans
from tests.processes import ROOT, Command
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, until


@pytest.fixture
async def traced(queue: RedisQueue, spans: Spans) -> RedisQueue:
    """The queue object of the worker, instrumented."""
    return instrument(queue, tracer_provider=spans.provider)


@pytest.fixture
async def sender(client: RedisQueue, spans: Spans) -> RedisQueue:
    """That of another process, instrumented as well."""
    return instrument(client, tracer_provider=spans.provider)


async def nothing(ctx: Any) -> None:
    pass


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def context_of(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def trace_of(span: ReadableSpan) -> int:
    return context_of(span).trace_id


def origin(span: ReadableSpan) -> int:
    """The span that it links to."""
    (link,) = span.links
    return link.context.span_id


# What there is ----------------------------------------------------------------------------------------------


async def test_an_enqueue_and_its_run_are_two_spans_that_are_linked(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    worker = await work({"nothing": nothing})
    job = await enqueue(sender, "nothing")
    await ended(sender, job)
    (run,) = await spans.runs(1)
    (send,) = spans.ended(SpanKind.PRODUCER)

    assert send.name == "send default"
    assert said(send) == {
        "messaging.system": "saq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "messaging.message.id": job.key,
        "saq.job.function": "nothing",
    }
    assert run.name == "process default"
    assert said(run) == {
        "messaging.system": "saq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": job.key,
        "messaging.client.id": worker.id,
        "saq.job.function": "nothing",
        "saq.job.attempt": 1,
    }
    assert origin(run) == context_of(send).span_id
    assert run.parent is None
    assert trace_of(run) != trace_of(send)
    assert run.status.status_code is send.status.status_code is StatusCode.UNSET


async def test_a_run_can_be_a_child_of_its_enqueue(
    queue: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    instrument(queue, as_child=True, tracer_provider=spans.provider)
    await work({"nothing": nothing})
    await sender.apply("nothing")
    (run,) = await spans.runs(1)
    (send,) = spans.ended(SpanKind.PRODUCER)
    assert run.parent is not None
    assert run.parent.span_id == origin(run) == context_of(send).span_id
    assert trace_of(run) == trace_of(send)


async def test_the_context_travels_in_the_job_and_the_callers_meta_stays_as_it_is(
    sender: RedisQueue, client: RedisQueue, spans: Spans
) -> None:
    shared = {"mine": 1}
    jobs = [Job("nothing", meta=shared), Job("nothing", meta=shared)]
    await sender.enqueue_many(jobs)
    assert shared == {"mine": 1}
    stored = [job for job in await client.jobs([job.key for job in jobs]) if job is not None]
    carried = [job.meta.pop(META)["traceparent"] for job in stored]
    assert [job.meta for job in stored] == [shared, shared]
    made = [context_of(span) for span in spans.ended(SpanKind.PRODUCER)]
    assert carried == [f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" for span in made]
    assert len(set(carried)) == 2


async def test_several_at_once_are_created_one_by_one_and_sent_together(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    await work({"nothing": nothing})
    jobs = [Job("nothing") for _ in range(3)]
    await sender.map("nothing", [{"key": job.key} for job in jobs])
    runs = await spans.runs(3)
    created = {said(span)["messaging.message.id"]: span for span in spans.ended(SpanKind.PRODUCER)}
    assert {span.name for span in created.values()} == {"create default"}
    assert set(created) == {job.key for job in jobs}
    (send,) = spans.ended(SpanKind.CLIENT)
    assert said(send)["messaging.batch.message_count"] == 3
    ids = {key: context_of(span).span_id for key, span in created.items()}
    assert [link.context.span_id for link in send.links] == [ids[job.key] for job in jobs]
    assert {said(run)["messaging.message.id"]: origin(run) for run in runs} == ids


async def test_a_caller_who_traces_is_the_parent_of_an_enqueue(sender: RedisQueue, spans: Spans) -> None:
    tracer = spans.provider.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        await sender.enqueue("nothing")
    (send,) = spans.ended(SpanKind.PRODUCER)
    assert send.parent == request.get_span_context()


async def test_a_job_that_no_instrumented_queue_sent_is_traced_without_a_link(
    traced: RedisQueue, client: RedisQueue, spans: Spans, work: Work
) -> None:
    await work({"nothing": nothing})
    await client.apply("nothing")
    (run,) = await spans.runs(1)
    assert run.links == ()
    assert run.parent is None


@pytest.mark.parametrize(
    "nonsense",
    [None, 7, [], {}, {"traceparent": 5}, {"traceparent": "no"}, {"traceparent": ["00"]}, {"": {}}],
    ids=repr,
)
async def test_what_is_no_context_is_none(
    traced: RedisQueue, client: RedisQueue, spans: Spans, work: Work, nonsense: Any
) -> None:
    await work({"nothing": nothing})
    await client.apply("nothing", meta={META: nonsense})
    (run,) = await spans.runs(1)
    assert run.links == ()
    assert run.status.status_code is StatusCode.UNSET


async def test_a_key_that_cannot_be_sent_is_escaped(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    await work({"nothing": nothing})
    await sender.apply("nothing", key="schlüssel-\ud800")
    (run,) = await spans.runs(1)
    assert said(run)["messaging.message.id"] == "schlüssel-\\ud800"


# The current span -------------------------------------------------------------------------------------------


async def test_the_span_is_current_in_functions_threads_and_hooks(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def note(where: str) -> None:
        seen[where] = trace.get_current_span().get_span_context().span_id, threading.get_ident()

    async def in_loop(ctx: Any) -> None:
        note("loop")

    def in_thread(ctx: Any) -> None:
        note("thread")

    def back_in_loop(ctx: Any) -> Any:
        return in_loop(ctx)

    async def before(ctx: Any) -> None:
        note(f"before {ctx['job'].function}")

    def after(ctx: Any) -> None:
        note(f"after {ctx['job'].function}")

    functions = {"loop": in_loop, "thread": in_thread, "back": back_in_loop}
    await work(functions, before_process=before, after_process=after)
    ids: dict[str, int] = {}
    for name in functions:
        seen.pop("loop", None)
        await sender.apply(name)
        await until(functools.partial(seen.__contains__, f"after {name}"))
        run = (await spans.runs(len(ids) + 1))[-1]
        ids[name] = context_of(run).span_id
        inside = "thread" if name == "thread" else "loop"
        assert seen[inside][0] == seen[f"before {name}"][0] == seen[f"after {name}"][0] == ids[name]
    assert len(set(ids.values())) == 3
    assert seen["thread"][1] != seen["before thread"][1] == threading.get_ident()


async def test_what_a_function_enqueues_belongs_to_its_span(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    async def outer(ctx: Any) -> None:
        await ctx["queue"].apply("nothing")

    await work({"outer": outer, "nothing": nothing}, concurrency=2)
    await sender.apply("outer")
    inner, outer_run = await spans.runs(2)
    first, second = spans.ended(SpanKind.PRODUCER)
    assert second.parent == outer_run.get_span_context()
    assert origin(inner) == context_of(second).span_id
    assert origin(outer_run) == context_of(first).span_id


async def test_jobs_do_not_see_each_others_spans_nor_that_of_whoever_started_the_worker(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    seen: list[tuple[str, int]] = []

    async def look(ctx: Any) -> None:
        await asyncio.sleep(0.01)
        seen.append((ctx["job"].key, trace.get_current_span().get_span_context().span_id))

    tracer = spans.provider.get_tracer("test")
    with tracer.start_as_current_span("start"):
        await work({"look": look}, concurrency=10)
    await sender.map("look", [{} for _ in range(10)])
    runs = await spans.runs(10)
    assert all(run.parent is None for run in runs)
    assert dict(seen) == {said(run)["messaging.message.id"]: context_of(run).span_id for run in runs}
    assert len({trace_of(run) for run in runs}) == 10


@pytest.mark.parametrize("as_child", [False, True])
async def test_baggage_travels_along(
    queue: RedisQueue, sender: RedisQueue, spans: Spans, work: Work, as_child: bool
) -> None:
    async def look(ctx: Any) -> Any:
        return baggage.get_baggage("customer")

    instrument(queue, as_child=as_child, tracer_provider=spans.provider)
    await work({"look": look})
    token = context.attach(baggage.set_baggage("customer", "42"))
    try:
        assert await sender.apply("look") == "42"
    finally:
        context.detach(token)
    await spans.runs(1)


# Errors -----------------------------------------------------------------------------------------------------


class OutOfPaper(Exception):
    pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_each_attempt_is_a_span_and_an_error_is_recorded(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    async def second_time(ctx: Any) -> str:
        if ctx["job"].attempts == 1:
            raise OutOfPaper("tray 2")
        return "printed"

    await work({"second_time": second_time})
    assert await sender.apply("second_time", retries=2) == "printed"
    first, second = await spans.runs(2)
    (event,) = first.events
    assert event.name == "exception"
    attributes = dict(event.attributes or {})
    assert attributes["exception.message"] == "tray 2"
    assert "in second_time" in str(attributes["exception.stacktrace"])
    assert said(first)["error.type"] == "tests.observe.test_tracing.OutOfPaper"
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "OutOfPaper")
    assert "error.type" not in said(second)
    assert (said(first)["saq.job.attempt"], said(second)["saq.job.attempt"]) == (1, 2)
    assert origin(first) == origin(second)
    assert second.status.status_code is StatusCode.UNSET


def raise_in_thread(ctx: Any) -> None:
    raise ZeroDivisionError("in a thread")


async def not_to_be_stored(ctx: Any) -> Any:
    return {1, 2}


async def unspeakable(ctx: Any) -> None:
    raise Unspeakable


async def leave(ctx: Any) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (raise_in_thread, "ZeroDivisionError"),
        (not_to_be_stored, "saq.errors.SerializationError"),
        (unspeakable, "tests.observe.test_tracing.Unspeakable"),
        (leave, "SystemExit"),
    ],
)
async def test_whatever_fails_a_job_is_an_error_of_its_span(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work, function: Any, kind: str
) -> None:
    await work({"function": function})
    with pytest.raises(JobError):
        await sender.apply("function")
    (run,) = await spans.runs(1)
    assert run.status.status_code is StatusCode.ERROR
    assert said(run)["error.type"] == kind
    assert bool(run.events) is (function is not unspeakable)


async def test_a_hook_that_fails_a_job_is_an_error_of_its_span(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    async def before(ctx: Any) -> None:
        raise LookupError("not today")

    await work({"nothing": nothing}, before_process=before)
    with pytest.raises(JobError):
        await sender.apply("nothing")
    (run,) = await spans.runs(1)
    assert said(run)["error.type"] == "LookupError"


async def test_a_timeout_and_an_abort_say_so(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    started = asyncio.Event()

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    await work({"long": long})
    assert (await ended(sender, await enqueue(sender, "long", timeout=0.05))).status is Status.FAILED
    started.clear()
    job = await enqueue(sender, "long")
    await started.wait()
    await job.abort("nobody needs it")
    assert (await ended(sender, job)).status is Status.ABORTED
    timeout, abort = await spans.runs(2)
    assert said(timeout)["error.type"] == "timeout"
    assert "0.05" in (timeout.status.description or "")
    assert said(abort)["error.type"] == "abort"
    assert abort.status.description == "nobody needs it"


async def test_a_job_that_a_stopping_worker_gives_back_is_no_error(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    started, release = asyncio.Event(), threading.Event()

    async def long(ctx: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    def thread(ctx: Any) -> str:
        release.wait(10)
        return "done"

    worker = await work({"long": long, "thread": thread}, cancellation_hard_deadline_s=5)
    given_back = await enqueue(sender, "long")
    done = await enqueue(sender, "thread")
    await started.wait()
    await until(lambda: len(worker.tasks) == 2)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.1, release.set)
    await stopping
    runs = {said(run)["messaging.message.id"]: run for run in await spans.runs(2)}
    assert [event.name for event in runs[given_back.key].events] == ["given back: the worker stops"]
    assert runs[done.key].events == ()
    assert all(run.status.status_code is StatusCode.UNSET for run in runs.values())
    assert (await ended(sender, done)).result == "done"


async def test_an_enqueue_that_does_not_reach_the_server_is_an_error(
    make_queue: MakeQueue, make_server: MakeServer, spans: Spans
) -> None:
    server = make_server()
    queue = instrument(make_queue(server.url()), tracer_provider=spans.provider)
    server.stop()
    with pytest.raises(UnreachableError):
        await queue.enqueue("nothing")
    (send,) = spans.ended()
    assert send.status.status_code is StatusCode.ERROR
    assert said(send)["error.type"] == f"{UnreachableError.__module__}.UnreachableError"
    assert [event.name for event in send.events] == ["exception"]


# What it must not change ------------------------------------------------------------------------------------


async def test_enqueueing_behaves_as_ever(sender: RedisQueue) -> None:
    with pytest.raises(UsageError, match="meta must be a dict"):
        await sender.enqueue(Job("nothing", meta=None))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a job key is text"):
        await sender.enqueue(Job("nothing", key=5))  # type: ignore[arg-type]
    job = await enqueue(sender, "nothing", key="one")
    assert await sender.enqueue("nothing", key="one") is None
    with pytest.raises(LookupError):
        async with sender.batch():
            child = await enqueue(sender, "nothing")
            raise LookupError
    assert (await ended(sender, child)).status is Status.ABORTED
    assert (await sender.count("queued")) == 1
    assert job.status is Status.QUEUED


async def test_twice_is_once(traced: RedisQueue, spans: Spans) -> None:
    assert instrument(traced, tracer_provider=spans.provider) is traced
    await traced.enqueue("nothing")
    assert len(spans.ended()) == 1


def test_only_a_queue_can_be_instrumented() -> None:
    with pytest.raises(UsageError, match=r"instrument takes a Queue.*from_url"):
        instrument("redis://localhost")  # type: ignore[type-var]


async def test_without_an_sdk_nothing_is_drawn_and_all_works(
    queue: RedisQueue, client: RedisQueue, work: Work
) -> None:
    instrument(queue)
    instrument(client)
    await work({"nothing": nothing})
    job = await enqueue(client, "nothing")
    assert (await ended(client, job)).status is Status.COMPLETE


async def test_a_span_lasts_as_long_as_its_job(
    traced: RedisQueue, sender: RedisQueue, spans: Spans, work: Work
) -> None:
    def sleep(ctx: Any) -> None:
        time.sleep(0.1)

    await work({"sleep": sleep})
    await sender.apply("sleep")
    (run,) = await spans.runs(1)
    assert 0.1e9 <= (run.end_time or 0) - (run.start_time or 0) < 5e9


@pytest.mark.parametrize(
    ("module", "missing", "remedy"),
    [
        ("saq.observe.tracing", "opentelemetry", 'pip install "saq[otel]"'),
        ("saq.observe.metrics", "prometheus_client", 'pip install "saq[metrics]"'),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(module: str, missing: str, remedy: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    assert "MissingDependencyError" in done.stderr
    assert remedy in done.stderr


def test_import_saq_and_a_worker_bring_neither_library() -> None:
    code = (
        "import sys, saq, saq.worker, saq.observe, saq.observe.monitor, saq.cli, saq.runner\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(roots & {'prometheus_client', 'opentelemetry'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# A process --------------------------------------------------------------------------------------------------


async def test_a_worker_process_goes_on_with_the_trace_of_whoever_enqueued(
    sender: RedisQueue, spans: Spans, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    env = {"SAQ_TEST_URL": redis_url, "SAQ_TEST_SPANS": str(path)}

    def read() -> list[dict[str, Any]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    with closing(Command("-m", "saq", "tests.observe.app.settings", env=env)):
        assert await sender.apply("in_loop") == "loop"
        with pytest.raises(JobError, match="from a thread"):
            await sender.apply("in_thread")
        found = await until(lambda: len(read()) >= 4 and read())
    inner_loop, in_loop, inner_thread, in_thread = found
    sent = [f"0x{context_of(span).span_id:016x}" for span in spans.ended(SpanKind.PRODUCER)]
    for inner, outer, origin_id in ((inner_loop, in_loop, sent[0]), (inner_thread, in_thread, sent[1])):
        assert inner["name"] == "inner"
        assert outer["name"] == "process default"
        assert outer["kind"] == "SpanKind.CONSUMER"
        assert inner["parent_id"] == outer["context"]["span_id"]
        assert [link["context"]["span_id"] for link in outer["links"]] == [origin_id]
    assert in_loop["status"] == {"status_code": "UNSET"}
    assert in_thread["status"]["status_code"] == "ERROR"
    assert in_thread["attributes"]["error.type"] == "ValueError"
    assert in_thread["events"][0]["attributes"]["exception.message"] == "from a thread"
