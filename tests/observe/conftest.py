"""Queues, workers and processes as the tests of the worker have them, and spans that stay in memory."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.commands.conftest import start
from tests.observe.support import Spans
from tests.worker.conftest import client, make_queue, queue, work

__all__ = ["client", "make_queue", "queue", "spans", "start", "work"]


@pytest.fixture
def spans() -> Spans:
    """A provider of tracers, and what their spans were."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, exporter)
