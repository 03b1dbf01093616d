"""Whether the gates can fail at all.

Owns the verdict on what `planted.py` and `slowed.py` plant: a command, a round trip and a Python call more
per job, and a slowdown little above the limit. A gate that stays green is broken; so is one that goes red
for nothing.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import Environment
from benchmarks.gate import calls, exact, planted, trial
from benchmarks.gate.against import LIMIT
from benchmarks.gate.revisions import ROOT, probe
from benchmarks.gate.scenarios import SCENARIOS
from benchmarks.progress import Progress
from benchmarks.registry import Arm
from tests.servers import Server

SLOWED = Path(__file__).parent / "slowed.py"
DRAIN = trial.PROBES[0]
#: So much of a job's time is planted: not all of it shows, for a worker also waits.
SPIN = 0.4
ROUNDS = 7
#: A slowdown that is not seen, or is seen where there is none, may be chance; twice, it is not.
TRIES = 2


def check(progress: Progress) -> bool:
    """Whether each gate goes red for what is planted, and stays green without."""
    said = [*_counters(progress), *_slowdown(progress)]
    for what, right in said:
        print(f"  {'✓' if right else '✗'} {what}{'' if right else ': NOT SO'}")
    right = all(right for _, right in said)
    print("selftest: the gates can fail" if right else "selftest: a gate is broken")
    return right


def _counters(progress: Progress) -> Iterator[tuple[str, bool]]:
    progress.say("selftest: counters")
    one_by_one, at_once = SCENARIOS["read a job"], SCENARIOS["read ten jobs at once"]
    with Server() as server:
        plain = exact.measure_one(server, SCENARIOS[planted.PLAIN])
        again = exact.measure_one(server, SCENARIOS[planted.PLAIN])
        command = exact.measure_one(server, planted.with_command)
        trips = [exact.measure_one(server, operation) for operation in (at_once, one_by_one)]
        counted = calls.count(server, planted.__name__)
    yield "without a change the counters are the same", not _red(plain, again)
    yield "an extra command is seen", _red(plain, command) == {"calls", "trips", "bytes in", "bytes out"}
    yield "an extra round trip is seen", _red(*trips) == {"trips"}
    rows = ({"python calls": counted[name]} for name in ("plain", "planted"))
    yield "an extra Python call is seen", _red(*rows) == {"python calls"}


def _red(recorded: exact.Row, found: exact.Row) -> set[str]:
    """The counters that differ."""
    return {difference.what for difference in exact.row_differences("", recorded, found)}


def _slowdown(progress: Progress) -> Iterator[tuple[str, bool]]:
    environment = probe("this checkout", ROOT).environment
    spin = SPIN * _seconds_per_job(environment, progress)

    def plant(side: str, arm: Arm) -> Arm:
        if side != "head":
            return arm
        contender = dataclasses.replace(arm.contender, adapter=SLOWED)
        return dataclasses.replace(arm, contender=contender, options=arm.options | {"spin_us": spin * 1e6})

    for _ in range(TRIES):
        progress.say(f"selftest: a slowdown of {spin * 1e6:.0f} µs a job")
        [found] = trial.run(dict.fromkeys(trial.SIDES, environment), ROUNDS, progress, [DRAIN], plant)
        for line in trial.table([found], LIMIT):
            print(line)
        seen = bool(found.rounds) and found.is_slower(LIMIT)
        unplanted = dataclasses.replace(found, rounds=[(base, copy, base) for base, _, copy in found.rounds])
        calm = bool(found.rounds) and not unplanted.is_slower(LIMIT)
        if seen and calm:
            break
    yield "a slowdown is seen", seen
    yield "where there is none, none is seen", calm


def _seconds_per_job(environment: Environment, progress: Progress) -> float:
    """What a job takes here, to plant a part of it."""
    [found] = trial.run(dict.fromkeys(trial.SIDES, environment), 1, progress, [DRAIN])
    return 1 / statistics.median(found.rounds[0])
