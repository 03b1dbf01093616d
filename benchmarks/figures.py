"""Figures made of a result: what the raw samples amount to.

Owns reading a result file, and medians and spreads of any value in it. Everything that is shown, on the
terminal and in the documentation, comes from here, and from the file alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.stats import Summary, percentile, summary

SCHEMA = 1
#: This project, compiled; or uncompiled, where there is no compiler.
OURS = ("saq/default", "saq-uncompiled/default")

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

    def of(self, measure: str, arm: str, **params: Any) -> list[Sample]:
        """The samples of one arm that came to an end."""
        params = {"network_ms": 0} | params
        return [
            sample
            for sample in self.samples
            if sample["measure"] == measure
            and sample["arm"] == arm
            and "values" in sample
            and all(
                sample.get(name, 0 if name == "network_ms" else None) == wanted
                for name, wanted in params.items()
            )
        ]

    def taken(self, measure: str, arm: str, **params: Any) -> list[dict[str, Any]]:
        """The values of these samples."""
        return [sample["values"] for sample in self.of(measure, arm, **params)]

    def by_round(self, measure: str, value: str, arm: str, **params: Any) -> dict[int, float]:
        """One of the values, by the round in which it was taken."""
        found = {s["round"]: s["values"].get(value) for s in self.of(measure, arm, **params)}
        return {number: one for number, one in found.items() if one is not None}

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
