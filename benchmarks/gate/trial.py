"""Two versions of this project in turns, and one of them beside itself.

Owns the order of the samples and what is concluded from them. Must not know where the versions come from
(`revisions.py`), nor how a sample is taken (`benchmarks/measures.py`).

Each round measures the base, the head and a second copy of the base, the control. Every other round is the
mirror image of the one before (ABBA), so that what drifts cancels out. The head is compared with both copies
of the base; what the two differ by is what this machine calls a difference where there is none.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks import measures, registry
from benchmarks.environments import Environment
from benchmarks.progress import Progress
from benchmarks.registry import Arm
from benchmarks.server import Target

#: The length of a sample, 1 being about a second.
SCALE = 0.5
#: Who takes part, in the order in which they are named everywhere here.
SIDES = ("base", "head", "copy")


class Probe(NamedTuple):
    """A measure, and which of its values are compared: value → title. Values are rates unless ``seconds``."""

    measure: Callable[..., measures.Values]
    params: dict[str, Any]
    values: dict[str, str]
    seconds: bool = False


PROBES = (
    Probe(measures.drain, {"workload": "async_noop", "concurrency": 10}, {"per_second": "no-op drain at 10"}),
    Probe(
        measures.drain, {"workload": "async_noop", "concurrency": 100}, {"per_second": "no-op drain at 100"}
    ),
    Probe(measures.enqueue, {}, {"bulk": "enqueue in bulk", "concurrent": "enqueue concurrently"}),
    Probe(measures.latency, {}, {"result_p50": "enqueue to result"}, seconds=True),
)


class Ratio(NamedTuple):
    """The median of some ratios, and between what it lies in nine of ten cases, however they are spread."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        ordered = sorted(ratios)
        n = len(ordered)
        outside = max(0, math.floor((n - 1.645 * math.sqrt(n)) / 2))
        return cls(statistics.median(ordered), ordered[outside], ordered[n - 1 - outside])


@dataclass
class Trial:
    """What came of one figure.

    Args:
        title: what was measured.
        seconds: whether its values are seconds; else they are rates.
        rounds: values of base, head and copy.
        absent: why the base has none, if so.
        failures: what the head did not get through.
    """

    title: str
    seconds: bool
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    absent: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def slower(self) -> Ratio:
        """How much of the base's time the head takes."""
        return Ratio.of([self._times(head, math.sqrt(base * copy)) for base, head, copy in self.rounds])

    @property
    def control(self) -> Ratio:
        """The same of the base and its copy."""
        return Ratio.of([self._times(copy, base) for base, _, copy in self.rounds])

    def _times(self, one: float, other: float) -> float:
        return one / other if self.seconds else other / one

    def is_slower(self, limit: float) -> bool:
        """Whether the head takes longer by more than ``limit`` (0.25 is a quarter), and not by chance."""
        slower = self.slower.median - 1
        return slower > limit and slower > self.control.high - 1


class _Bench(measures.Bench):
    """All sides get samples of one size: what the first of them found fit."""

    def rate(self, arm: Arm, key: tuple[Any, ...], guess: float) -> float:
        return self._rates.get(key, guess)

    def learn(self, arm: Arm, key: tuple[Any, ...], rate: float) -> None:
        self._rates.setdefault(key, rate)


def order(round: int) -> tuple[str, ...]:
    """Who comes when: all orders within six rounds, each followed by its mirror image."""
    first = round // 2 % len(SIDES)
    turned = SIDES[first:] + SIDES[:first]
    return turned if round % 2 == 0 else turned[::-1]


def run(
    environments: dict[str, Environment],
    samples: int,
    progress: Progress,
    probes: Sequence[Probe] = PROBES,
    change: Callable[[str, Arm], Arm] = lambda side, arm: arm,
) -> list[Trial]:
    """Measures all sides with the harness that runs.

    Args:
        environments: of each side.
        samples: of each figure and side, after one that does not count.
        change: what is different for a side beside its environment.
    """
    arms = {side: change(side, _arm(side)) for side in SIDES}
    trials = [[Trial(title, probe.seconds) for title in probe.values.values()] for probe in probes]
    progress.begin([2.0] * (len(probes) * (samples + 1) * len(SIDES)))
    with Target("embedded") as target:
        bench = _Bench(target, environments, SCALE)
        for round in range(-1, samples):
            for probe, found in zip(probes, trials, strict=True):
                taken = {}
                for side in order(round):
                    if found[0].absent or found[0].failures:
                        progress.skip()
                        continue
                    said = f"round {round + 1}/{samples}" if round >= 0 else "warm-up"
                    progress.show(_kind(probe), side, said)
                    try:
                        taken[side] = probe.measure(bench, arms[side], **probe.params)
                    except Exception as error:
                        _lost(found, side, _brief(error), round < 0)
                    progress.done()
                if round >= 0:
                    _keep(probe, found, taken)
    progress.end()
    return [trial for found in trials for trial in found]


def _arm(side: str) -> Arm:
    """This project's arm, as a side of the trial."""
    contender = registry.load("saq")
    return dataclasses.replace(contender.best, contender=dataclasses.replace(contender, name=side), env={})


def _kind(probe: Probe) -> str:
    return " and ".join(probe.values.values())


def _brief(error: Exception) -> str:
    """An error in a line: a process that failed tells its whole story, and the point of it comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' … '.join(dict.fromkeys([*lines[:1], *lines[-1:]]))}"


def _lost(found: list[Trial], side: str, reason: str, at_first: bool) -> None:
    """A sample failed. The head must not; what a base cannot do, it cannot do from the first sample on."""
    for trial in found:
        if side == "head":
            trial.failures.append(reason)
        elif at_first:
            trial.absent = reason


def _keep(probe: Probe, found: list[Trial], taken: dict[str, measures.Values]) -> None:
    """Keeps a round that is whole."""
    if taken.keys() == set(SIDES):
        for trial, value in zip(found, probe.values, strict=True):
            base, head, copy = (taken[side][value] for side in SIDES)
            trial.rounds.append((base, head, copy))


def table(trials: Sequence[Trial], limit: float) -> Iterator[str]:
    """The result in lines."""
    yield (
        f"{'':<22}{'base':>12}{'head':>12}{'slower by':>11}  {'between':<16}{'control':>9}  {'between':<16}"
    )
    for trial in trials:
        if trial.failures:
            yield f"{trial.title:<22}  ✗ the head does not get through it: {trial.failures[0]}"
        elif trial.absent or not trial.rounds:
            reason = trial.absent or "none of its rounds was whole"
            yield f"{trial.title:<22}  - not compared, the base does not get through it: {reason}"
        else:
            yield _line(trial, limit)


def _line(trial: Trial, limit: float) -> str:
    base, head = (statistics.median(values[i] for values in trial.rounds) for i in (0, 1))
    slower, control = trial.slower, trial.control
    verdict = ""
    if trial.is_slower(limit):
        verdict = "✗ slower"
    elif slower.median - 1 > limit:
        verdict = "? so is the control: take more --samples"
    return (
        f"{trial.title:<22}{_value(trial, base):>12}{_value(trial, head):>12}"
        f"{_percent(slower.median):>11}  {_span(slower):<16}"
        f"{_percent(control.median):>9}  {_span(control):<16}{verdict}"
    ).rstrip()


def _value(trial: Trial, value: float) -> str:
    return f"{value * 1e3:.3f} ms" if trial.seconds else f"{value:,.0f} /s"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f} %"


def _span(ratio: Ratio) -> str:
    return f"{(ratio.low - 1) * 100:+.1f} … {(ratio.high - 1) * 100:+.1f}"
