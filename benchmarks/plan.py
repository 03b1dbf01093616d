"""What is measured, how often and in which order.

Owns the list of cells, the rotation of the arms, and the loop that takes the samples. A cell is one measure
with its parameters; each of its rounds takes one sample of every arm, beginning with another arm each time,
so that what drifts drifts for all. Must not know how a sample is taken, nor what a report makes of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import measures
from benchmarks.progress import Progress
from benchmarks.registry import OURS, Arm, Contender
from benchmarks.workloads import CONCURRENCY, SHORT, WORKLOADS

#: The measures, as they are named on the command line.
MEASURES = ("drain", "enqueue", "latency", "cost", "footprint", "network", "backlog")
#: Milliseconds that the slower network adds to a round trip.
NETWORK_MS = 1.0
#: What others than this project need for these hardly varies, and takes long: so many samples at the most.
AT_MOST = {"footprint": 1, "backlog": 2}
#: After so many failures in a row an arm is left out of the rest of a cell.
GIVE_UP = 2
#: Seconds that a process takes to start, be asked and be ended.
STARTING = 0.45


@dataclass(frozen=True)
class Cell:
    """One measure with its parameters, for some arms."""

    measure: str
    params: dict[str, Any]
    arms: tuple[Arm, ...]
    rounds: int

    def seconds(self, arm: Arm, scale: float, backlog: int) -> float:
        """About how long a sample of it takes."""
        return STARTING + _seconds(self.measure, self.params, arm, scale, backlog)

    @property
    def title(self) -> str:
        words = [self.measure]
        if "workload" in self.params:
            words.append(f"{self.params['workload']} ×{self.params['concurrency']}")
        if self.params.get("network_ms"):
            words.append(f"+{self.params['network_ms']:g} ms")
        return " ".join(words)

    def order(self, round: int) -> Iterator[Arm]:
        """The arms in the order of a round."""
        first = round % len(self.arms)
        return iter(self.arms[first:] + self.arms[:first])


@dataclass
class Wanted:
    """What the command line asks for."""

    measures: Sequence[str] = MEASURES
    workloads: Sequence[str] = tuple(WORKLOADS)
    concurrency: Sequence[int] = CONCURRENCY
    samples: int = 5
    defaults: bool = True


@dataclass
class Plan:
    """The cells, and what is not done with the reason."""

    cells: list[Cell] = field(default_factory=list)
    absent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(cell.rounds * len(cell.arms) for cell in self.cells)

    def seconds(self, scale: float, backlog: int) -> float:
        """About how long it takes."""
        return sum(
            cell.rounds * cell.seconds(arm, scale, backlog) for cell in self.cells for arm in cell.arms
        )


def _seconds(measure: str, params: dict[str, Any], arm: Arm, scale: float, backlog: int) -> float:
    """What a sample takes beside its first process."""
    contender = arm.contender
    usual = measures.drain_rate(arm, f"{contender.native}_noop", contender.usual)
    if measure == "drain":
        where = {"network_ms": 0.0, **params}
        rate = measures.drain_rate(arm, **where)
        jobs = measures.drain_jobs(arm, **where, rate=rate, scale=scale)
        return jobs / arm.enqueue + jobs / rate
    if measure == "enqueue":
        short = SHORT if "network_ms" in params else 1
        return 3 * measures.ENQUEUING * scale * short + 800 / arm.enqueue
    if measure == "latency":
        return (
            max(20, measures.ARRIVALS * scale) / measures.RATE
            + 0.4
            + (200 / min(usual, arm.enqueue) if contender.native == "async" else 0)
        )
    if measure == "cost":
        some = min(10_000, usual) * min(1.0, max(0.1, scale)) + 330
        return 2 * STARTING + some / usual + some / arm.enqueue
    if measure == "footprint":
        return STARTING + 13.5 * scale
    if backlog / arm.enqueue > measures.FILL_AT_MOST:
        return -STARTING
    return STARTING + (backlog + 3 * measures.SMALL_BACKLOG) / arm.enqueue


def make(contenders: Sequence[Contender], wanted: Wanted) -> Plan:
    """All cells. The best arm of a contender does everything; its others the no-op of their kind at a
    concurrency of 10, enqueues and latency."""
    plan = Plan()
    usual = 10 if 10 in wanted.concurrency else wanted.concurrency[0]
    every = [arm for contender in contenders for arm in contender.arms if arm.best or wanted.defaults]

    def best(measure: str) -> list[Arm]:
        for contender in contenders:
            if measure in contender.leaves_out and measure in wanted.measures:
                plan.absent.append(
                    {"arm": contender.best.name, "measure": measure, "reason": contender.beyond}
                )
        return [contender.best for contender in contenders if measure not in contender.leaves_out]

    def add(measure: str, arms: Sequence[Arm], **params: Any) -> None:
        """A cell; or two, where this project is measured more often than others."""
        mine = tuple(arm for arm in arms if measure in AT_MOST and arm.contender.name in OURS)
        others = tuple(arm for arm in arms if arm not in mine)
        for some, rounds in ((mine, wanted.samples), (others, AT_MOST.get(measure, wanted.samples))):
            if some:
                plan.cells.append(Cell(measure, params, some, min(wanted.samples, rounds)))

    def add_drain(workload: str, concurrency: int, **params: Any) -> None:
        fit = []
        for arm in every:
            contender = arm.contender
            own = workload == f"{contender.native}_noop"
            reason = None
            if workload not in contender.workloads:
                reason = contender.beyond or f"it has no {workload.partition('_')[0]} functions"
            elif concurrency not in arm.concurrency:
                reason = contender.why_not.get(concurrency, f"not at concurrency {concurrency}")
            if not arm.best and (reason or not own or params or concurrency != usual):
                continue
            if reason is None:
                fit.append(arm)
            else:
                said = {"measure": "drain", "workload": workload, "concurrency": concurrency, **params}
                plan.absent.append({"arm": arm.name, "reason": reason, **said})
        add("drain", fit, workload=workload, concurrency=concurrency, **params)

    if "drain" in wanted.measures:
        for workload in wanted.workloads:
            for concurrency in wanted.concurrency:
                add_drain(workload, concurrency)
    if "enqueue" in wanted.measures:
        add("enqueue", every)
    if "latency" in wanted.measures:
        add("latency", every)
    if "cost" in wanted.measures:
        add("cost", best("cost"))
    if "footprint" in wanted.measures:
        add("footprint", best("footprint"))
    if "network" in wanted.measures:
        far = best("network")
        noops = [name for name in ("async_noop", "sync_noop") if name in wanted.workloads]
        for concurrency in [c for c in wanted.concurrency if c > 1]:
            for noop in noops:
                fit = [arm for arm in far if noop == f"{arm.contender.native}_noop"]
                fit = [arm for arm in fit if concurrency in arm.concurrency]
                add("drain", fit, workload=noop, concurrency=concurrency, network_ms=NETWORK_MS)
        add("enqueue", far, network_ms=NETWORK_MS)
    if "backlog" in wanted.measures:
        add("backlog", best("backlog"))
    return plan


def run(plan: Plan, bench: measures.Bench, progress: Progress) -> list[dict[str, Any]]:
    """Takes all samples. One that fails is a sample too: it says why."""
    samples: list[dict[str, Any]] = []
    progress.begin(
        [
            cell.seconds(arm, bench.scale, bench.backlog)
            for cell in plan.cells
            for number in range(cell.rounds)
            for arm in cell.order(number)
        ]
    )
    for cell in plan.cells:
        failures: Counter[str] = Counter()
        for number in range(cell.rounds):
            for arm in cell.order(number):
                if failures[arm.name] >= GIVE_UP:
                    progress.skip()
                    continue
                progress.show(cell.title, arm.name, f"round {number + 1}/{cell.rounds}")
                sample: dict[str, Any] = {
                    "measure": cell.measure,
                    "arm": arm.name,
                    "round": number,
                    **cell.params,
                }
                begin = time.monotonic()
                try:
                    sample["values"] = measures.MEASURES[cell.measure](bench, arm, **cell.params)
                    failures[arm.name] = 0
                except measures.NotMeasured as reason:
                    plan.absent.append(
                        {"arm": arm.name, "measure": cell.measure, "reason": str(reason), **cell.params}
                    )
                    failures[arm.name] = GIVE_UP
                    progress.done()
                    continue
                except Exception as error:
                    sample["failed"] = f"{type(error).__name__}: {error}"
                    failures[arm.name] += 1
                    progress.say(f"{cell.title}, {arm.name}: {sample['failed']}")
                sample["took"] = round(time.monotonic() - begin, 2)
                samples.append(sample)
                progress.done()
    progress.end()
    return samples
