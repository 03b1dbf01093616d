"""Figures made of a result: what the raw samples amount to.

Owns reading a result file, medians and spreads of any value in it, and the numbers this project set out to
reach. Everything that is shown, on the terminal and in the documentation, comes from here, and from the file
alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stats import Summary, percentile, summary

SCHEMA = 1
#: This project, compiled; or uncompiled, where there is no compiler.
OURS = ("saq/default", "saq-uncompiled/default")
UPSTREAM = "saq-upstream/tuned"
BULLMQ = "bullmq/default"

Sample = dict[str, Any]


class Figures:
    """A result, and the questions that can be asked of it."""

    def __init__(self, result: dict[str, Any]) -> None:
        if result.get("schema") != SCHEMA:
            raise ValueError(f"a result of schema {SCHEMA} is needed, this one has {result.get('schema')!r}")
        self.result = result
        self.samples: list[Sample] = result["samples"]
        self.arms: dict[str, dict[str, Any]] = result["arms"]
        self.ours = next((arm for arm in OURS if arm in self.arms), OURS[0])

    @classmethod
    def read(cls, path: Path) -> Figures:
        return cls(json.loads(path.read_text()))

    def native(self, arm: str) -> str:
        """async or sync: what kind of function a contender is made for."""
        return str(self.arms[arm]["native"])

    def title(self, arm: str) -> str:
        """An arm as it is called in tables: without its variant where there is one only."""
        contender, _, variant = arm.partition("/")
        several = sum(other.startswith(f"{contender}/") for other in self.arms) > 1
        return f"{contender} ({variant})" if several else contender

    def taken(self, measure: str, arm: str, **params: Any) -> list[dict[str, Any]]:
        """The values of the samples of one arm."""
        params = {"network_ms": 0} | params
        return [
            sample["values"]
            for sample in self.samples
            if sample["measure"] == measure
            and sample["arm"] == arm
            and "values" in sample
            and all(
                sample.get(name, 0 if name == "network_ms" else None) == wanted
                for name, wanted in params.items()
            )
        ]

    def figure(self, measure: str, value: str, arm: str, **params: Any) -> Summary | None:
        """A value, as its median and its spread."""
        found = [values[value] for values in self.taken(measure, arm, **params)]
        return summary([one for one in found if one is not None])

    def percentiles(self, value: str, arm: str) -> dict[int, Summary] | None:
        """Percentiles of a latency: of all samples together; the spread is that of each sample's own."""
        taken = [values for values in self.taken("latency", arm) if values.get(value)]
        pooled = [one for values in taken for one in values[value]]
        if not pooled:
            return None
        found = {}
        for p in (50, 95, 99):
            each = [values[f"{value}_p{p}"] for values in taken]
            found[p] = Summary(percentile(pooled, p), min(each), max(each), len(pooled))
        return found

    def noop(self, arm: str, concurrency: int, network_ms: float = 0) -> Summary | None:
        """Jobs a second of the no-op that the contender is made for."""
        workload = f"{self.native(arm)}_noop"
        return self.figure(
            "drain", "per_second", arm, workload=workload, concurrency=concurrency, network_ms=network_ms
        )

    def failures(self) -> list[Sample]:
        return [sample for sample in self.samples if "failed" in sample]

    def median(self, measure: str, value: str, arm: str, **params: Any) -> float | None:
        found = self.figure(measure, value, arm, **params)
        return found.median if found else None


@dataclass(frozen=True)
class Target:
    """A number to reach.

    Args:
        title: what it is about.
        limit: the number.
        at_least: whether more is better.
        value: how it is found; None if the result does not hold it.
    """

    title: str
    limit: float
    at_least: bool
    value: Callable[[Figures], float | None]

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _drain(other: str, workload: str, mine: int, theirs: int) -> Callable[[Figures], float | None]:
    def value(figures: Figures) -> float | None:
        if other not in figures.arms:
            return None
        native = figures.native(other) if workload == "noop" else workload.partition("_")[0]
        ours = figures.median(
            "drain", "per_second", figures.ours, workload=_of(workload, "async"), concurrency=mine
        )
        name = _of(workload, native)
        return _ratio(ours, figures.median("drain", "per_second", other, workload=name, concurrency=theirs))

    return value


def _of(workload: str, native: str) -> str:
    return f"{native}_noop" if workload == "noop" else workload


def _of_measure(
    measure: str, value: str, other: str, theirs: str | None = None
) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        return _ratio(
            figures.median(measure, value, figures.ours), figures.median(measure, theirs or value, other)
        )

    return find


def _latency(p: int) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        ours, theirs = figures.percentiles("result", figures.ours), figures.percentiles("result", UPSTREAM)
        return ours[p].median / theirs[p].median if ours and theirs else None

    return find


def _own(measure: str, value: str, **params: Any) -> Callable[[Figures], float | None]:
    return lambda figures: figures.median(measure, value, figures.ours, **params)


def _ideal(concurrency: int) -> Callable[[Figures], float | None]:
    return _own("drain", "over_ideal", workload="async_sleep", concurrency=concurrency)


TARGETS = (
    Target("no-op drain at 10, against SAQ 0.26.4", 10, True, _drain(UPSTREAM, "noop", 10, 10)),
    Target("no-op drain at 100, against SAQ 0.26.4", 16, True, _drain(UPSTREAM, "noop", 100, 100)),
    Target("no-op drain at 10, against BullMQ", 1.3, True, _drain(BULLMQ, "noop", 10, 10)),
    Target("no-op drain at 100, against BullMQ", 1.8, True, _drain(BULLMQ, "noop", 100, 100)),
    Target("no-op drain at 10, against arq with a 10 ms poll", 15, True, _drain("arq/tuned", "noop", 10, 10)),
    Target("no-op drain at 10, against one SimpleWorker of RQ", 60, True, _drain("rq/simple", "noop", 10, 1)),
    Target("sync no-op at 10, against SAQ 0.26.4", 7, True, _drain(UPSTREAM, "sync_noop", 10, 10)),
    Target("sync no-op at 100, against SAQ 0.26.4", 9, True, _drain(UPSTREAM, "sync_noop", 100, 100)),
    Target(
        "enqueue concurrently, against SAQ 0.26.4", 4, True, _of_measure("enqueue", "concurrent", UPSTREAM)
    ),
    Target("enqueue in bulk, against BullMQ", 1.8, True, _of_measure("enqueue", "bulk", BULLMQ)),
    Target("enqueue-to-result p50, against SAQ 0.26.4", 0.5, False, _latency(50)),
    Target("enqueue-to-result p99, against SAQ 0.26.4", 0.6, False, _latency(99)),
    Target("map of 1,000 no-ops, against SAQ 0.26.4", 0.1, False, _of_measure("latency", "map", UPSTREAM)),
    Target("Redis CPU per job, against SAQ 0.26.4", 0.25, False, _of_measure("cost", "cpu_us", UPSTREAM)),
    Target(
        "memory per queued job, against SAQ 0.26.4",
        0.65,
        False,
        _of_measure("cost", "memory_queued", UPSTREAM),
    ),
    Target("connections of a worker at 100", 4, False, _own("footprint", "connections")),
    Target("requests a second of an idle worker", 0.7, False, _own("footprint", "idle_requests_per_second")),
    Target("Redis CPU per job, large backlog against small", 1.1, False, _own("backlog", "cpu_ratio")),
    Target("async sleeping at 10, against its ideal", 1.05, False, _ideal(10)),
    Target("async sleeping at 100, against its ideal", 1.05, False, _ideal(100)),
)
