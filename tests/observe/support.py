"""Reading back what was exported: spans from memory, metrics through Prometheus' own parsers."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.worker.support import until


class Spans(NamedTuple):
    """Where spans go, and those that have ended."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    def ended(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """In the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if kind in (None, span.kind)]

    async def runs(self, count: int) -> list[ReadableSpan]:
        """So many consumer spans: a job is settled a moment before its span has ended."""
        await until(lambda: len(self.ended(SpanKind.CONSUMER)) >= count)
        found = self.ended(SpanKind.CONSUMER)
        assert len(found) == count
        return found


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    content_type: str
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of that name that has these labels among its own, or None."""
        found = self.values(name, **labels)
        assert len(found) < 2, found
        return next(iter(found.values()), None)

    def values(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """All samples of that name that have these labels, by all of their labels."""
        parse = parse_openmetrics if "openmetrics" in self.content_type else parse_text
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in parse(self.body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }


def fetch(url: str, accept: str = "", timeout: float = 10.0) -> Answer:
    """A GET, from whatever thread."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers["Content-Type"], answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers["Content-Type"], error.read().decode())


async def get(url: str, accept: str = "") -> Answer:
    """A GET that leaves the loop free."""
    return await asyncio.to_thread(fetch, url, accept)
