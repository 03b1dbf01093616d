"""The numbers that this project set out to reach.

Owns which they are, how each is found in a result, and what stands in the way of more. What is compared was
measured in the same run: a ratio is that of two medians, and its spread is that of the ratios round by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.figures import Figures
from benchmarks.stats import Summary, duration, number, size

UPSTREAM = "saq-upstream/tuned"
BULLMQ = "bullmq/default"

_SERVER = (
    "With two steps under way the slower of two cores decides: that of the server, whose script settles and "
    "claims, or that of the worker, which makes a task for each job. Neither waits for the other any more"
)
_ROUND_TRIPS = "At ten slots, how soon the answer to a step is there decides how long a slot stands empty"
_SYNC = "A sync job costs two changes of thread, which the interpreter's lock takes one after the other"
_ENCODING = (
    "The client's core: it makes a job, a key and JSON for each, and waits for the server once a batch"
)
_WAKE = (
    "Between two jobs 20 ms apart the code of all three processes goes cold: a lone job takes ten times the "
    "processor time of one among many, here as there. The way with nothing to do on it is measured by "
    "`python -m benchmarks.micro.hops`"
)
_SCRIPT = "What the scripts do for a job cannot be left out: a hash, two sorted sets, a record that expires"


class Reading(NamedTuple):
    """What a result says of a target.

    Args:
        figure: the number, and its spread.
        ours: what it was made of, in words; empty where the number speaks for itself.
        theirs: the same of the other side.
    """

    figure: Summary
    ours: str = ""
    theirs: str = ""


@dataclass(frozen=True)
class Target:
    """A number to reach.

    Args:
        title: what it is about.
        limit: the number.
        at_least: whether more is better.
        read: how it is found; None if the result does not hold it.
        bound: what is in the way, where it is not reached.
    """

    title: str
    limit: float
    at_least: bool
    read: Callable[[Figures], Reading | None]
    bound: str

    def reached(self, value: float) -> bool:
        """Whether a number is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


def _ratio(
    mine: dict[int, float],
    theirs: dict[int, float],
    text: Callable[[float], str],
    more: tuple[str, str] = ("", ""),
) -> Reading | None:
    if not mine or not theirs:
        return None
    one, other = statistics.median(mine.values()), statistics.median(theirs.values())
    each = [mine[k] / theirs[k] for k in mine.keys() & theirs.keys() if theirs[k]]
    if not each or not other:
        return None
    summary = Summary(one / other, min(each), max(each), len(each))
    return Reading(summary, text(one) + more[0], text(other) + more[1])


def _noop(kind: str, other: str, mine: int, theirs: int) -> Callable[[Figures], Reading | None]:
    """Drains of no-ops: of this kind, or of that which either is made for."""

    def read(figures: Figures) -> Reading | None:
        if other not in figures.arms:
            return None
        sides = []
        for arm, concurrency in ((figures.ours, mine), (other, theirs)):
            params = {"workload": f"{kind or figures.native(arm)}_noop", "concurrency": concurrency}
            jobs = figures.figure("drain", "jobs", arm, **params)
            sides.append((figures.by_round("drain", "per_second", arm, **params), jobs.median if jobs else 0))
        (one, one_jobs), (two, two_jobs) = sides
        return _ratio(one, two, _per_second, (f" ({number(one_jobs)} jobs)", f" ({number(two_jobs)} jobs)"))

    return read


def _per_second(value: float) -> str:
    return f"{number(value)}/s"


def _versus(
    measure: str, value: str, other: str, text: Callable[[float], str]
) -> Callable[[Figures], Reading | None]:
    return lambda figures: _ratio(
        figures.by_round(measure, value, figures.ours), figures.by_round(measure, value, other), text
    )


def _latency(p: int) -> Callable[[Figures], Reading | None]:
    """A percentile of all that was measured; the spread is that of the percentiles round by round."""

    def read(figures: Figures) -> Reading | None:
        rounds = _versus("latency", f"result_p{p}", UPSTREAM, duration)(figures)
        ours, theirs = figures.percentiles("result", figures.ours), figures.percentiles("result", UPSTREAM)
        if rounds is None or ours is None or theirs is None:
            return None
        one, other = ours[p].median, theirs[p].median
        return Reading(rounds.figure._replace(median=one / other), duration(one), duration(other))

    return read


def _own(measure: str, value: str, **params: Any) -> Callable[[Figures], Reading | None]:
    def read(figures: Figures) -> Reading | None:
        found = figures.figure(measure, value, figures.ours, **params)
        return Reading(found) if found else None

    return read


def _ideal(concurrency: int) -> Callable[[Figures], Reading | None]:
    def read(figures: Figures) -> Reading | None:
        params = {"workload": "async_sleep", "concurrency": concurrency}
        found = figures.figure("drain", "over_ideal", figures.ours, **params)
        jobs = figures.figure("drain", "jobs", figures.ours, **params)
        return Reading(found, f"{number(jobs.median)} jobs" if jobs else "") if found else None

    return read


TARGETS = (
    Target("no-op drain at 10, against SAQ 0.26.4", 10, True, _noop("async", UPSTREAM, 10, 10), _ROUND_TRIPS),
    Target("no-op drain at 100, against SAQ 0.26.4", 16, True, _noop("async", UPSTREAM, 100, 100), _SERVER),
    Target("no-op drain at 10, against BullMQ", 1.3, True, _noop("", BULLMQ, 10, 10), _ROUND_TRIPS),
    Target("no-op drain at 100, against BullMQ", 1.8, True, _noop("", BULLMQ, 100, 100), _SERVER),
    Target(
        "no-op drain at 10, against arq with a 10 ms poll",
        15,
        True,
        _noop("", "arq/tuned", 10, 10),
        _ROUND_TRIPS,
    ),
    Target(
        "no-op drain at 10, against RQ's SimpleWorker", 60, True, _noop("", "rq/simple", 10, 1), _ROUND_TRIPS
    ),
    Target("sync no-op drain at 10, against SAQ 0.26.4", 7, True, _noop("sync", UPSTREAM, 10, 10), _SYNC),
    Target("sync no-op drain at 100, against SAQ 0.26.4", 9, True, _noop("sync", UPSTREAM, 100, 100), _SYNC),
    Target(
        "enqueue concurrently, against SAQ 0.26.4",
        4,
        True,
        _versus("enqueue", "concurrent", UPSTREAM, _per_second),
        _ENCODING,
    ),
    Target(
        "enqueue in bulk, against BullMQ",
        1.8,
        True,
        _versus("enqueue", "bulk", BULLMQ, _per_second),
        _ENCODING,
    ),
    Target("enqueue to result p50, against SAQ 0.26.4", 0.5, False, _latency(50), _WAKE),
    Target("enqueue to result p99, against SAQ 0.26.4", 0.6, False, _latency(99), _WAKE),
    Target(
        "map of 1,000 no-ops, against SAQ 0.26.4",
        0.1,
        False,
        _versus("latency", "map", UPSTREAM, duration),
        "A map is an enqueue in bulk, a drain and a message for each result, which hardly overlap",
    ),
    Target(
        "Redis CPU per job, against SAQ 0.26.4",
        0.25,
        False,
        _versus("cost", "cpu_us", UPSTREAM, lambda value: f"{number(value)} µs"),
        _SCRIPT,
    ),
    Target(
        "memory per queued job, against SAQ 0.26.4",
        0.65,
        False,
        _versus("cost", "memory_queued", UPSTREAM, size),
        "A queued job is an entry of a hash and one of a sorted set, and both hold its key",
    ),
    Target(
        "connections of a worker at 100",
        4,
        False,
        _own("footprint", "connections"),
        "Commands, the marker, the subscription and the leases have one each",
    ),
    Target(
        "requests a second of an idle worker",
        0.7,
        False,
        _own("footprint", "idle_requests_per_second"),
        "A blocked call lasts five seconds, for a dead peer has to be noticed, and a step follows it; beside "
        "it a worker registers and sweeps",
    ),
    Target(
        "Redis CPU per job, large backlog against small",
        1.1,
        False,
        _own("backlog", "cpu_ratio"),
        "What the server frees lies scattered, and the allocator of glibc, with which the embedded server is "
        "built, pays for that with cache misses. With jemalloc there is no such growth: see “What a million "
        "queued jobs cost” in [internals.md](internals.md)",
    ),
    Target(
        "async sleeping at 10, against its ideal",
        1.05,
        False,
        _ideal(10),
        "A timer of the loop is late by up to a millisecond, and the last jobs end alone",
    ),
    Target(
        "async sleeping at 100, against its ideal",
        1.05,
        False,
        _ideal(100),
        "A timer of the loop is late by up to a millisecond, and the last jobs end alone",
    ),
)
