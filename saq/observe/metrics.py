"""Metrics as Prometheus reads them.

Owns the way from what was measured to the text of /metrics. Must not measure anything, and is imported only
where metrics were asked for: it needs prometheus-client.

The values are not kept in the objects of that library: what a job costs is a few additions of plain numbers
(`meter.py`), and everything else is done when somebody asks.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from saq import _speedups
from saq.errors import MissingDependencyError
from saq.observe.figures import OF_QUEUES, OF_WORKERS, Figure
from saq.observe.health import AWAY, PATIENCE
from saq.observe.meter import BOUNDS, Histogram
from saq.observe.monitor import Monitor
from saq.queue.base import Queue
from saq.queue.views import Counts
from saq.version import __version__

try:
    from prometheus_client import REGISTRY, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.openmetrics import exposition as openmetrics
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingDependencyError('metrics need prometheus-client: pip install "saq[metrics]"') from error

#: Of each queue what its server said, or None if it did not answer.
Readings = Mapping[str, Counts | None]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_UPPER = (*map(str, BOUNDS), "+Inf")
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class _Sheet:
    """Metrics that are filled in by name, in the order of their table."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._families: dict[str, Any] = {
            figure.name: _FAMILIES[figure.kind](figure.name, figure.help, labels=figure.labels)
            for figure in figures
        }

    def put(self, name: str, value: float, *labels: str) -> None:
        self._families[name].add_metric(list(map(_text, labels)), value)

    def put_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        buckets = list(zip(_UPPER, accumulate(list(histogram.counts)), strict=True))
        self._families[name].add_metric(list(map(_text, labels)), buckets, histogram.seconds)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


def _text(label: str) -> str:
    """Any text is a name, lone surrogates included; not everything can be sent."""
    return label.encode("utf-8", "backslashreplace").decode()


async def read(queues: Iterable[Queue]) -> dict[str, Counts | None]:
    """What the servers say of these queues at this moment: a call for each, whatever they hold."""
    asked = list(queues)

    async def counts(queue: Queue) -> Counts | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await queue.views.counts()
        except AWAY:
            return None

    found = await asyncio.gather(*map(counts, asked))
    return dict(zip((queue.name for queue in asked), found, strict=True))


def of_queues(readings: Readings) -> Iterable[Metric]:
    """The metrics of queues as a whole. Of one whose server is away, only that."""
    sheet = _Sheet(OF_QUEUES)
    for name, counts in readings.items():
        sheet.put("saq_queue_up", counts is not None, name)
        if counts is None:
            continue
        for state in ("queued", "scheduled", "active"):
            sheet.put("saq_queue_jobs", getattr(counts, state), name, state)
        for state in ("finished", "failed"):
            sheet.put("saq_queue_kept_jobs", getattr(counts, state), name, state)
        waits = max(0, counts.now - counts.oldest) / 1000 if counts.oldest else 0.0
        sheet.put("saq_queue_oldest_job_age_seconds", waits, name)
        sheet.put("saq_queue_workers", counts.workers, name)
        sheet.put("saq_queue_paused", counts.paused > 0, name)
        for counter, count in counts.stats.items():
            counter = "completed" if counter == "complete" else counter
            sheet.put(f"saq_queue_jobs_{counter}_total", count, name)
    return sheet


def of_workers(monitors: Iterable[Monitor]) -> Iterable[Metric]:
    """The metrics of workers of this process."""
    sheet = _Sheet(OF_WORKERS)
    for monitor in monitors:
        own = monitor.queues[0].name
        for watch in monitor.watches:
            queue, meter = watch.queue, watch.meter
            for function, cell in meter.cells.items():
                sheet.put("saq_jobs_started_total", cell.started, queue.name, function)
                sheet.put_histogram("saq_job_wait_seconds", cell.waits, queue.name, function)
                for outcome, ending in cell.endings():
                    sheet.put("saq_jobs_ended_total", ending.count, queue.name, function, outcome)
                    if ending.count:
                        sheet.put_histogram("saq_job_run_seconds", ending.runs, queue.name, function, outcome)
            sheet.put("saq_worker_leases_lost_total", meter.lost, queue.name)
            sheet.put("saq_worker_last_claim_timestamp_seconds", watch.claimed_at, queue.name)
            for kind, errors in queue.server_errors.items():
                sheet.put("saq_worker_redis_errors_total", errors, queue.name, kind)
        sheet.put("saq_worker_slots", monitor.worker.concurrency, own)
        sheet.put("saq_worker_slots_busy", monitor.busy, own)
        sheet.put("saq_worker_event_loop_lag_seconds", monitor.worst_lag, own)
    kernels = "compiled" if _speedups.COMPILED else "uncompiled"
    sheet.put("saq_build_info", 1, __version__, platform.python_version(), kernels)
    return sheet


class _Together(Collector):
    def __init__(self, parts: Iterable[Iterable[Metric]]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        for part in self._parts:
            yield from part


def render(*parts: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """Metrics as text, and its content type: that of OpenMetrics if it is asked for."""
    if "application/openmetrics-text" in accept:
        text: bytes = openmetrics.generate_latest(_Together(parts))  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(_Together(parts)), TEXT


def of_process() -> Iterable[Metric]:
    """What else this process counts: its memory, processor time and files, and metrics of the user's own."""
    return REGISTRY.collect()
