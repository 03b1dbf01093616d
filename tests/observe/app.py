"""Settings of a worker process that traces: its spans go into the file SAQ_TEST_SPANS, a line each."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from prometheus_client import Counter

from saq import Queue
from saq.observe.tracing import instrument
from saq.types import SettingsDict

letters = Counter("app_letters", "A metric of the application's own.")


def _line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


async def in_loop(ctx: Any) -> str:
    letters.inc(3)
    with trace.get_tracer("app").start_as_current_span("inner"):
        return "loop"


def in_thread(ctx: Any) -> str:
    with trace.get_tracer("app").start_as_current_span("inner"):
        raise ValueError("from a thread")


def settings() -> SettingsDict:
    provider = TracerProvider(resource=Resource.create({"service.name": "worker"}))
    out = open(os.environ["SAQ_TEST_SPANS"], "a", buffering=1)  # noqa: SIM115 - until the process ends
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=_line)))
    trace.set_tracer_provider(provider)
    queue = instrument(Queue.from_url(os.environ["SAQ_TEST_URL"]))
    return SettingsDict(queue=queue, functions=[in_loop, in_thread])
