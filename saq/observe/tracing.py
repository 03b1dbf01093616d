"""Traces: a span where a job is enqueued, and one where it is run, that knows of the first.

Owns these spans, by OpenTelemetry's conventions for messaging, and the way of their context through the job.
Must not choose what becomes of spans: that is the application's SDK. It needs opentelemetry-api.

    send      PRODUCER  around the call that enqueues one job; its context travels in the job
    create    PRODUCER  one for each of several jobs that are enqueued at once, and
    send      CLIENT    around the calls that enqueue them, linked to those
    process   CONSUMER  around each attempt, with its hooks; linked to the span that the job comes from

The context lies in ``job.meta["otel"]``, as the configured propagator writes it (W3C: ``traceparent``). So a
job that is tried again, or that another service runs, knows where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from saq.errors import MissingDependencyError, UsageError
from saq.job import Job
from saq.queue.base import Queue
from saq.version import __version__
from saq.worker.run import Run, Whole, Why

try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer, TracerProvider
except ImportError as error:
    raise MissingDependencyError('tracing needs opentelemetry-api: pip install "saq[otel]"') from error

#: Where the context lies in a job's ``meta``.
META = "otel"

Q = TypeVar("Q", bound=Queue)
R = TypeVar("R")


def instrument(queue: Q, *, as_child: bool = False, tracer_provider: TracerProvider | None = None) -> Q:
    """Has a queue object draw spans: where it enqueues jobs, and, in a worker of it, around what it runs.

        queue = instrument(Queue.from_url("redis://localhost"))

    Args:
        queue: before a worker of it starts. It is returned; doing it twice is doing it once.
        as_child: makes the span of a run a child of that of its enqueue, in the same trace. By default it
            begins a trace of its own and links to the other, as OpenTelemetry recommends: a run may come much
            later, and several times.
        tracer_provider: the global one by default, even if it is set later.

    Raises:
        MissingDependencyError: on import of this module, without opentelemetry-api.
    """
    if not isinstance(queue, Queue):
        raise UsageError(f"instrument takes a Queue, got {queue!r}; see Queue.from_url")
    if queue.around_run is None:
        spans = _Spans(queue, as_child, trace.get_tracer("saq", __version__, tracer_provider))
        queue.around_run = spans.around_run
        # Everything that enqueues goes through one of these two.
        queue._send = spans.around_send(queue._send)  # type: ignore[method-assign,assignment]
        queue._send_and_wait = spans.around_send(queue._send_and_wait)  # type: ignore[method-assign,assignment]
    return queue


class _Spans:
    """The spans of one queue object."""

    def __init__(self, queue: Queue, as_child: bool, tracer: Tracer) -> None:
        self._as_child = as_child
        self._tracer = tracer
        self._names = {kind: f"{kind} {queue.name}" for kind in ("send", "create", "process")}
        self._attributes = {
            kind: {
                "messaging.system": "saq",
                "messaging.operation.name": kind,
                "messaging.operation.type": kind,
                "messaging.destination.name": queue.name,
            }
            for kind in self._names
        }

    # Enqueue ------------------------------------------------------------------------------------------------

    def around_send(
        self, send: Callable[[Sequence[Job]], Coroutine[Any, Any, R]]
    ) -> Callable[[Sequence[Job]], Coroutine[Any, Any, R]]:
        """What enqueues jobs, in spans."""

        async def one(job: Job) -> R:
            with self._span("send", SpanKind.PRODUCER, _of(job)) as inside:
                _carry(job, inside)
                return await send((job,))

        async def several(jobs: Sequence[Job]) -> R:
            links = []
            for job in jobs:
                with self._span("create", SpanKind.PRODUCER, _of(job)) as inside:
                    _carry(job, inside)
                    links.append(Link(trace.get_current_span(inside).get_span_context()))
            with self._span("send", SpanKind.CLIENT, {"messaging.batch.message_count": len(jobs)}, links):
                return await send(jobs)

        async def traced(jobs: Sequence[Job]) -> R:
            return await (one(jobs[0]) if len(jobs) == 1 else several(jobs))

        return traced

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, attributes: dict[str, Any], links: Sequence[Link] = ()
    ) -> Iterator[Context]:
        """A span that is the current one inside; what is raised there makes it an error."""
        span = self._tracer.start_span(
            self._names[name],
            kind=kind,
            attributes={**self._attributes[name], **attributes},
            links=links,
        )
        inside = trace.set_span_in_context(span)
        token = contexts.attach(inside)
        try:
            yield inside
        except Exception as error:
            _fail(span, error, _name(error), type(error).__name__)
            raise
        finally:
            contexts.detach(token)
            span.end()

    # Run ----------------------------------------------------------------------------------------------------

    def around_run(self, whole: Whole) -> Whole:
        """What runs a job, in a span that is the current one of its hooks and of its function."""

        async def traced(run: Run) -> None:
            job = run.job
            origin = _origin(job)
            comes_from = trace.get_current_span(origin).get_span_context()
            span = self._tracer.start_span(
                self._names["process"],
                # Without the span of the enqueue, but with all else that travelled along (baggage).
                context=origin if self._as_child else trace.set_span_in_context(trace.INVALID_SPAN, origin),
                kind=SpanKind.CONSUMER,
                attributes={
                    **self._attributes["process"],
                    **_of(job),
                    "messaging.client.id": job.worker_id or "",
                    "saq.job.attempt": job.attempts,
                },
                links=[Link(comes_from)] if comes_from.is_valid else (),
            )
            # The task is the run's own and ends with it: its context need not be put back.
            contexts.attach(trace.set_span_in_context(span, origin))
            try:
                await whole(run)
            finally:
                _conclude(span, run)
                span.end()

        return traced


def _of(job: Job) -> dict[str, Any]:
    return {"messaging.message.id": _text(job.key), "saq.job.function": _text(job.function)}


def _text(value: object) -> str:
    """What an exporter can send: any text is a key, lone surrogates included. The rest is refused later."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _carry(job: Job, context: Context) -> None:
    if type(job.meta) is not dict:
        return  # it is refused in a moment, by whoever checks it
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    # A new dict: the one that is there may be the caller's own, and shared by other jobs.
    job.meta = {**job.meta, META: carrier}


def _origin(job: Job) -> Context:
    stored = job.meta.get(META)
    carrier = stored if isinstance(stored, dict) else {}
    carrier = {name: value for name, value in carrier.items() if type(name) is type(value) is str}
    # Not the current context: what was current where the worker was started has nothing to do with this job.
    return propagate.extract(carrier, Context())


def _conclude(span: Span, run: Run) -> None:
    """Says on the span of a run how it went, if it did not go well."""
    error = getattr(run, "raised", None)
    if error is not None:
        del run.raised  # it leads back to the run through its stack
    why = run.why
    if why is Why.STOP and run.thread and not run.abandoned:
        why = None  # a thread that comes to its end meanwhile ends as any other
    if why is Why.STOP:
        span.add_event("given back: the worker stops")
    elif why is not None:
        _fail(span, error if isinstance(error, Exception) else None, why.name.lower(), run.error or why.value)
    elif error is not None:
        _fail(span, error, _name(error), type(error).__name__)


def _fail(span: Span, error: BaseException | None, kind: str, description: str) -> None:
    span.set_attribute("error.type", kind)
    if error is not None:
        try:
            span.record_exception(error)
        except Exception:
            description = f"{description}, which cannot be printed"
    span.set_status(StatusCode.ERROR, description)


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
