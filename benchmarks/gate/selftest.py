"""Whether the gates can fail at all.

Owns the verdict on what is planted (`planted.py`, `slowed.py`): a command, a round trip, a key, an operation
in a script, an import and a Python call more, kernels that gain nothing, and slowdowns. A gate that stays
green is broken; so is one that goes red for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import registry
from benchmarks.environments import Environment, Unavailable
from benchmarks.environments import environment as environment_of
from benchmarks.gate import calls, contenders, exact, kernels, pipeline, planted, trial
from benchmarks.gate.against import LIMIT
from benchmarks.gate.imports import imports
from benchmarks.gate.revisions import ROOT, probe
from benchmarks.gate.scenarios import SCENARIOS
from benchmarks.micro.inputs import selves
from benchmarks.progress import Progress
from benchmarks.registry import Arm
from saq import _speedups
from tests.servers import Server

SLOWED = Path(__file__).parent / "slowed.py"
DRAIN = trial.PROBES[0]
#: So much of a job's time is planted: not all of it shows, for a worker also waits. And so many times of it
#: where the bound is half of what is measured.
SPIN, HEAVY = 0.4, 4.0
ROUNDS = 7
#: A slowdown that is not seen, or is seen where there is none, may be chance; twice, it is not.
TRIES = 2

Said = Iterator[tuple[str, bool]]


def check(progress: Progress) -> bool:
    """Whether each gate goes red for what is planted, and stays green without."""
    environment = probe("this checkout", ROOT).environment
    said = list(_counters(progress))
    job = _seconds_per_job(environment, progress)
    said += [*_ratios(progress, job), *_slowdown(progress, environment, SPIN * job)]
    for what, right in said:
        print(f"  {'✓' if right else '✗'} {what}{'' if right else ': NOT SO'}")
    right = all(right for _, right in said)
    print("selftest: the gates can fail" if right else "selftest: a gate is broken")
    return right


def _counters(progress: Progress) -> Said:
    progress.say("selftest: counters")
    one_by_one, at_once = SCENARIOS["read a job"], SCENARIOS["read ten jobs at once"]
    with Server() as server:
        plain = exact.measure_one(server, SCENARIOS[planted.PLAIN])
        again = exact.measure_one(server, SCENARIOS[planted.PLAIN])
        command, key, operation = (
            exact.measure_one(server, operation)
            for operation in (planted.with_command, planted.with_key, planted.with_operation)
        )
        trips = [exact.measure_one(server, operation) for operation in (at_once, one_by_one)]
        counted = calls.count(server, planted.__name__)
    yield "without a change the counters are the same", not _red(plain, again)
    yield "an extra command is seen", _red(plain, command) == {"calls", "trips", "bytes in", "bytes out"}
    yield "an extra round trip is seen", _red(*trips) == {"trips"}
    yield "a key that stays is seen", "left" in _red(plain, key)
    yield "an extra operation in a script is seen", "inside" in _red(plain, operation)
    rows = ({"python calls": counted[name]} for name in ("plain", "planted"))
    yield "an extra Python call is seen", _red(*rows) == {"python calls"}
    yield "an extra import is seen", _import_is_seen()


def _red(recorded: exact.Row, found: exact.Row) -> set[str]:
    """The counters that differ."""
    return {difference.what for difference in exact.row_differences("", recorded, found)}


def _import_is_seen() -> bool:
    """Whether a copy of the package that imports one module more is told from this one."""
    with tempfile.TemporaryDirectory(prefix="saq-selftest-") as folder:
        copy = Path(folder) / "saq"
        shutil.copytree(ROOT / "saq", copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        before = imports(Path(folder))
        with (copy / "__init__.py").open("a") as door:
            door.write("\nimport fractions\n")
        after = imports(Path(folder))
    texts = [difference.text for difference in exact.import_differences(before._asdict(), after._asdict())]
    return before == imports() and texts == ["imports the module fractions"]


def _ratios(progress: Progress, job: float) -> Said:
    progress.say("selftest: ratios")
    if _speedups.COMPILED:

        def twice_pure(
            kernel: str, arguments: tuple[Any, ...]
        ) -> tuple[Callable[[], Any], Callable[[], Any]]:
            pure = selves(kernel, arguments)[1]
            return pure, pure

        yield "kernels that gain nothing are seen", not _held(kernels.check, progress, True, twice_pure)
    slow = pipeline.spinning(HEAVY * job)
    yield "a worker slower than a bare pipeline is seen", not _held(pipeline.check, progress, slow, 5_000)
    floor = contenders.FLOORS[0]
    try:
        environment_of(registry.load(floor.contender), progress.say)
    except Unavailable as reason:
        progress.say(f"selftest: {floor.contender} is not there, its floor was not tried: {reason}")
        return
    heavy = lambda ours: _slowed(ours, HEAVY * job)  # noqa: E731
    yield (
        f"a worker that loses its lead over {floor.contender} is seen",
        not _held(contenders.check, progress, False, [floor], heavy),
    )


def _held(gate: Callable[..., bool], *arguments: Any) -> bool:
    """Whether a gate holds; what it says is no matter here."""
    with contextlib.redirect_stdout(io.StringIO()):
        return gate(*arguments)


def _slowed(arm: Arm, seconds: float) -> Arm:
    """This project with so much more time for each job."""
    contender = dataclasses.replace(arm.contender, adapter=SLOWED)
    return dataclasses.replace(arm, contender=contender, options=arm.options | {"spin_us": seconds * 1e6})


def _slowdown(progress: Progress, environment: Environment, spin: float) -> Said:
    def plant(side: str, arm: Arm) -> Arm:
        return _slowed(arm, spin) if side == "head" else arm

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
    yield "a slowdown against a revision is seen", seen
    yield "where there is none, none is seen", calm


def _seconds_per_job(environment: Environment, progress: Progress) -> float:
    """What a job takes here, to plant a part of it."""
    [found] = trial.run(dict.fromkeys(trial.SIDES, environment), 1, progress, [DRAIN])
    return 1 / statistics.median(found.rounds[0])
