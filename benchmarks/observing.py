"""What it costs to be watched: metrics and tracing, on against off.

Owns that comparison: `python -m benchmarks.observing`, about a minute. Both sides run in one process, in
turns, on one server. Measured is the processor time of that process, which holds the worker, and not the
server: what else the machine does disturbs it least. The ratio of off to off says how far to trust the
others. That nothing is paid while it is off is counted, not timed: `python -m benchmarks gate`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from saq.job import Job
from saq.observe import metrics
from saq.observe.monitor import Monitor
from saq.observe.tracing import instrument
from saq.queue.redis import RedisQueue
from saq.worker import Worker
from saq.worker.process import run_loop
from tests.servers import Server

CONCURRENCY = 100
#: Seconds between two scrapes, of a worker that is watched: far more often than anybody scrapes.
SCRAPE_EVERY = 1.0

Sample = Callable[[RedisQueue, int], Awaitable[float]]


class Drop(SpanExporter):
    """What becomes of spans is not ours to measure."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def _noop(ctx: dict[str, Any]) -> None:
    """Does nothing."""


def _worker(queue: RedisQueue, jobs: int) -> Worker[Any]:
    worker: Worker[Any] = Worker(
        queue, [("noop", _noop)], concurrency=CONCURRENCY, burst=True, dequeue_timeout=1, max_burst_jobs=jobs
    )
    worker.SIGNALS = []  # type: ignore[misc]
    return worker


async def _drained(queue: RedisQueue, worker: Worker[Any]) -> float:
    """Seconds of the processor until the worker has done all, from its start on."""
    began = time.process_time()
    await worker.start()
    return time.process_time() - began


async def _fill(queue: RedisQueue, jobs: int) -> None:
    await queue.enqueue_many(Job("noop") for _ in range(jobs))


async def drain(queue: RedisQueue, jobs: int) -> float:
    """A worker that nobody watches."""
    await _fill(queue, jobs)
    return await _drained(queue, _worker(queue, jobs))


async def drain_metered(queue: RedisQueue, jobs: int) -> float:
    """One with a monitor, which is scraped."""
    await _fill(queue, jobs)
    worker = _worker(queue, jobs)
    monitor = Monitor(worker)

    async def scrape() -> None:
        while True:
            await asyncio.sleep(SCRAPE_EVERY)
            readings = await metrics.read([queue])
            metrics.render(metrics.of_queues(readings), metrics.of_workers([monitor]))

    scraping = asyncio.create_task(scrape())
    try:
        return await _drained(queue, worker)
    finally:
        scraping.cancel()


async def drain_traced(queue: RedisQueue, jobs: int) -> float:
    """One that draws a span for each job, linked to that of its enqueue."""
    instrument(queue, tracer_provider=_provider())
    await _fill(queue, jobs)
    return await _drained(queue, _worker(queue, jobs))


async def enqueue(queue: RedisQueue, jobs: int) -> float:
    """Jobs that are enqueued one by one, a hundred at once."""
    began = time.process_time()
    for _ in range(0, jobs, CONCURRENCY):
        await asyncio.gather(*(queue.enqueue("noop") for _ in range(CONCURRENCY)))
    return time.process_time() - began


async def enqueue_traced(queue: RedisQueue, jobs: int) -> float:
    """The same, each in a span."""
    return await enqueue(instrument(queue, tracer_provider=_provider()), jobs)


def _provider() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Drop()))
    return provider


PAIRS: dict[str, tuple[Sample, Sample]] = {
    "drain, off and off": (drain, drain),
    "drain, metrics on": (drain, drain_metered),
    "drain, tracing on": (drain, drain_traced),
    "enqueue, tracing on": (enqueue, enqueue_traced),
}


def measure(name: str, jobs: int, pairs: int, server: Server) -> tuple[list[float], float]:
    """Of each pair how much more the second takes than the first; and microseconds a job of the first."""
    off, on = PAIRS[name]
    ratios, first = [], []

    async def sample(what: Sample) -> float:
        queue = RedisQueue.from_url(server.url())
        try:
            return await what(queue, jobs)
        finally:
            await queue.disconnect()

    for number in range(pairs + 1):
        took = {}
        for side in ("off", "on") if number % 2 else ("on", "off"):
            server.flush()
            gc.collect()
            took[side] = run_loop(sample(off if side == "off" else on))
        if number:  # the first warms up
            ratios.append(took["on"] / took["off"])
            first.append(took["off"] / jobs * 1e6)
    return ratios, statistics.median(first)


def main() -> None:
    """Measures all, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observing", description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("saq.checkup").setLevel(logging.ERROR)
    print(f"{'':<22}{'times as much':>14}{'between':>16}{'off':>14}{'more':>14}")
    with Server() as server:
        for name in PAIRS:
            ratios, base = measure(name, options.jobs, options.pairs, server)
            median = statistics.median(ratios)
            spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
            more = (median - 1) * base
            print(f"{name:<22}{median:>14.2f}{spread:>16}{base:>8.1f} µs/job{more:>+8.1f} µs/job", flush=True)


if __name__ == "__main__":
    main()
