"""The exact gates: counters against what is on record.

Owns the record and the comparison. Better fails as well, until it is recorded: so the record is always what
is so, and every change of it is a line that somebody reads.
"""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gate import calls
from benchmarks.gate.counters import cost_of
from benchmarks.gate.imports import imports
from benchmarks.gate.scenarios import SCENARIOS, Operation
from benchmarks.progress import Progress
from tests.servers import Server, server_version

RECORD = Path(__file__).parent.parent / "baselines" / "counters.json"
#: What may differ, per operation: numbers that grow a digit on the way, the random heights of a sorted set's
#: nodes, and answers that arrive in two pieces.
TOLERANCE = {"trips": 0.0, "bytes in": 1.0, "bytes out": 1.0, "memory": 8.0, "python calls": 0.2}
#: A sample that is taken each second, once or twice in a run. An operation more per batch is more than that.
TICK = 0.004
#: A worker looks for work once more when an answer was late: there, counts may differ by this share. An extra
#: command for each job is far more.
CHANCE = {"enqueue, work one at a time": 0.05}
#: What depends on the time (a sample each second, a wait that ended early) differs from try to try; what a
#: change has made different is so in each of them.
TRIES = 4
#: Python and the libraries import more or less from version to version; so many more are somebody's import.
MODULES = 15

Row = dict[str, Any]


class Difference(NamedTuple):
    """A counter that is not as it is on record."""

    scenario: str
    what: str
    text: str


def python_version() -> str:
    """The name under which Python calls are on record: another minor version counts differently."""
    return ".".join(platform.python_version_tuple()[:2])


def measure(progress: Progress, names: Collection[str] = SCENARIOS.keys()) -> Row:
    """All counters of these scenarios, in the form of the record."""
    progress.begin([0.3] * len(names) + [0.2 * len(names)])
    rows = {}
    with Server() as server:
        version = server_version(server.binary)
        for name in names:
            progress.show("counting", name, version)
            rows[name] = measure_one(server, SCENARIOS[name])
            progress.done()
        progress.show("counting", "Python calls", "uncompiled")
        counted = calls.count(server, names=names)
    progress.end()
    return {
        "server": version,
        "imports": imports()._asdict(),
        "python calls": {python_version(): counted},
        "scenarios": rows,
    }


def again(found: Row, names: list[str], progress: Progress) -> Row:
    """What was found, with these scenarios measured once more."""
    progress.say(f"counting again: {', '.join(names)}")
    more = measure(progress, names)
    version = python_version()
    return {
        **found,
        "python calls": {version: found["python calls"][version] | more["python calls"][version]},
        "scenarios": found["scenarios"] | more["scenarios"],
    }


def differing(recorded: Row, found: Row) -> list[str]:
    """The scenarios that are not as they are on record."""
    named = {difference.scenario for difference in differences(recorded, found)}
    return [name for name in SCENARIOS if name in named]


def measure_one(server: Server, operation: Operation) -> Row:
    """The counters of one scenario."""
    cost = asyncio.run(cost_of(server, operation))
    return {name.replace("_", " "): value for name, value in cost._asdict().items()}


def differences(recorded: Row, found: Row) -> Iterator[Difference]:
    """What is not as it is on record."""
    yield from import_differences(recorded["imports"], found["imports"])
    yield from _scenarios(recorded["scenarios"], found["scenarios"])
    for version, counted in found["python calls"].items():
        if version in recorded["python calls"]:
            yield from _scenarios(_as_rows(recorded["python calls"][version]), _as_rows(counted))


def row_differences(name: str, recorded: Row, found: Row) -> Iterator[Difference]:
    """What is not as it is on record in one scenario."""
    for what in sorted(recorded.keys() | found.keys()):
        for text in _figures(what, recorded.get(what), found.get(what), CHANCE.get(name, 0.0)):
            yield Difference(name, what, text)


def _as_rows(counted: dict[str, float]) -> dict[str, Row]:
    return {name: {"python calls": count} for name, count in counted.items()}


def import_differences(recorded: Row, found: Row) -> Iterator[Difference]:
    """What `import saq` no longer brings, or brings now."""
    for what, title in (("own", "its module"), ("others", "the module")):
        for name in sorted(set(recorded[what]) ^ set(found[what])):
            does = "imports" if name in found[what] else "no longer imports"
            yield Difference("import saq", what, f"{does} {title} {name}")
    if abs(found["all"] - recorded["all"]) > MODULES:
        yield Difference("import saq", "all", f"{recorded['all']} → {found['all']} modules in all")


def _scenarios(recorded: dict[str, Row], found: dict[str, Row]) -> Iterator[Difference]:
    for name in sorted(recorded.keys() | found.keys()):
        if name not in found:
            yield Difference(name, "", "is on record and was not measured")
        elif name not in recorded:
            yield Difference(name, "", "is not on record")
        else:
            yield from row_differences(name, recorded[name], found[name])


def _figures(what: str, old: Any, new: Any, chance: float) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for command in sorted(old.keys() | new.keys()):
            before, now = old.get(command, 0), new.get(command, 0)
            if abs(before - now) > max(TICK, chance * before):
                yield f"{what} {command.upper()} {before:g} → {now:g} per operation"
    elif isinstance(old, int | float) and isinstance(new, int | float):
        if abs(old - new) > max(TOLERANCE[what], chance * old):
            yield f"{what} {old:g} → {new:g} per operation"
    elif old != new:
        yield f"{what} {old} → {new}"


def check(progress: Progress) -> bool:
    """Whether all counters are as recorded."""
    recorded = json.loads(RECORD.read_text())
    found = measure(progress)
    for _ in range(TRIES - 1):
        if names := differing(recorded, found):
            found = again(found, names, progress)
    wrong = list(differences(recorded, found))
    for difference in wrong:
        print(f"  ✗ {difference.scenario}: {difference.text}")
    if python_version() not in recorded["python calls"]:
        print(f"exact: Python calls are not on record for {python_version()}, and were not compared")
    if not wrong:
        print(f"exact: {len(found['scenarios'])} scenarios and the imports are as recorded")
        return True
    if found["server"] != recorded["server"]:
        print(f"They were recorded with {recorded['server']}; this is {found['server']}.")
    print(
        f"exact: {len(wrong)} counters differ from the record. If that is meant, also for the better: "
        "python -m benchmarks gate --update, and commit the record."
    )
    return False


def update(progress: Progress) -> None:
    """Records the counters as they are."""
    found, names = measure(progress), list(SCENARIOS)
    # What goes on record has been seen twice.
    for _ in range(TRIES):
        last, found = found, again(found, names, progress)
        if not (names := differing(last, found)):
            break
    version, before = python_version(), {}
    if RECORD.exists():
        before = json.loads(RECORD.read_text()).get("python calls", {})
    known = before.pop(version, None)
    if known is None or not any(_scenarios(_as_rows(known), _as_rows(found["python calls"][version]))):
        found["python calls"] |= before
    elif before:
        print(f"Python calls have changed: what is on record for {', '.join(sorted(before))} goes")
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(as_text(found))
    print(f"recorded {len(found['scenarios'])} scenarios in {RECORD.name}")


def as_text(found: Row) -> str:
    """The record with one scenario a line, so that a change reads as one."""

    def lines(rows: Row) -> str:
        inner = ",\n".join(f"    {json.dumps(k)}: {json.dumps(rows[k], sort_keys=True)}" for k in rows)
        return f"{{\n{inner}\n  }}"

    entries = {
        "server": json.dumps(found["server"]),
        "imports": lines(found["imports"]),
        "python calls": lines(dict(sorted(found["python calls"].items()))),
        "scenarios": lines(found["scenarios"]),
    }
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {text}" for name, text in entries.items()) + "\n}\n"
