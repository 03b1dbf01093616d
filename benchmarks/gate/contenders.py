"""The drain against other job queues, side by side.

Owns the floors. Who the contenders are and how a drain is measured is the rest of `benchmarks`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import plan, registry
from benchmarks.environments import Environment, Unavailable, environment
from benchmarks.measures import Bench
from benchmarks.progress import Progress
from benchmarks.registry import Arm
from benchmarks.server import Target
from saq import _speedups

#: Drains of each, and how long one is (1 being about a second).
ROUNDS, SCALE = 5, 0.4


class Floor(NamedTuple):
    """This project drains at least so many times as fast as a contender with its best settings."""

    contender: str
    workload: str
    concurrency: int
    times: float


#: Some half of what is measured: that noise does not fall below, and half of the speed does.
FLOORS = (
    Floor("saq-upstream", "async_noop", 10, 6.0),
    Floor("arq", "async_noop", 10, 5.5),
    Floor("saq-upstream", "async_noop", 100, 12.0),
    Floor("rq", "sync_noop", 1, 5.0),
)


def check(
    progress: Progress,
    strict: bool,
    wanted: Sequence[Floor] | None = None,
    change: Callable[[Arm], Arm] = lambda ours: ours,
) -> bool:
    """Whether all floors hold. A contender that cannot be had is named, and fails only if ``strict``.

    Args:
        wanted: other floors than all.
        change: what is different about this project: the self-test plants something.
    """
    wanted = FLOORS if wanted is None else wanted
    ours = change(registry.load("saq" if _speedups.COMPILED else "saq-uncompiled").best)
    arms = {"": ours} | {floor.contender: registry.load(floor.contender).best for floor in wanted}
    environments: dict[str, Environment] = {}
    missing = {}
    for name, arm in arms.items():
        try:
            environments[arm.contender.name] = environment(arm.contender, progress.say)
        except Unavailable as reason:
            missing[name] = str(reason)
    if "" in missing:
        print(f"  ✗ contenders: this checkout cannot be measured: {missing['']}")
        return False
    floors = [floor for floor in wanted if floor.contender not in missing]
    with Target("embedded") as target:
        bench = Bench(target, environments, SCALE)
        samples = plan.run(plan.Plan(_cells(floors, arms)), bench, progress)
    held = [judge(floor, ours, arms[floor.contender], samples) for floor in floors]
    for name, why in missing.items():
        print(f"  {'✗' if strict else '-'} {name} is not there: {why}")
    kept, all_there = held.count(True), not missing and None not in held
    print(f"contenders: {kept} of {len(wanted)} floors hold")
    return False not in held and (all_there or not strict)


def _cells(floors: list[Floor], arms: dict[str, Arm]) -> list[plan.Cell]:
    """A cell for each kind of drain, in which this project takes part once for all."""
    kinds: dict[tuple[str, int], list[Arm]] = {}
    for floor in floors:
        kinds.setdefault((floor.workload, floor.concurrency), [arms[""]]).append(arms[floor.contender])
    return [
        plan.Cell("drain", {"workload": workload, "concurrency": concurrency}, tuple(group), ROUNDS)
        for (workload, concurrency), group in kinds.items()
    ]


def judge(floor: Floor, ours: Arm, theirs: Arm, samples: list[dict[str, Any]]) -> bool | None:
    """Whether a floor holds; None if the contender gave no figure to compare with."""
    drain = f"{floor.workload} at {floor.concurrency}"

    def rate(arm: Arm) -> float | None:
        where = (arm.name, floor.workload, floor.concurrency)
        taken = [s for s in samples if (s["arm"], s["workload"], s["concurrency"]) == where]
        rates = [sample["values"]["per_second"] for sample in taken if "values" in sample]
        return statistics.median(rates) if rates else None

    mine, other = rate(ours), rate(theirs)
    if mine is None:
        print(f"  ✗ {drain}: this checkout did not get through it")
        return False
    if other is None:
        print(f"  - {drain}: {floor.contender} did not get through it")
        return None
    held = mine >= floor.times * other
    print(
        f"  {'✓' if held else '✗'} {drain}: {mine / other:.1f} times {theirs.contender.title} "
        f"(floor {floor.times:g}): {mine:,.0f} and {other:,.0f} jobs a second"
    )
    return held
