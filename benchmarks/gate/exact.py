"""The exact gates: counters against what is on record.

Owns the record and the comparison. Better fails as well, until it is recorded: so the record is always what
is so, and every change of it is a line that somebody reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gate.counters import SCENARIOS, Cost, cost_of, imported_modules
from tests.servers import Server

RECORD = Path(__file__).parent.parent / "baselines" / "counters.json"
#: Bytes per operation may differ by so much: numbers that grow a digit on the way.
BYTES = 1.0


def measure(names: list[str] | None = None) -> dict[str, Any]:
    """All counters, or those of some scenarios, in the form of the record."""
    found: dict[str, Any] = {}
    with Server(save="") as server:
        for name in names or list(SCENARIOS):
            print(f"counting: {name} …", file=sys.stderr, flush=True)
            found[name] = _row(asyncio.run(cost_of(server, SCENARIOS[name])))
    return found


def _row(cost: Cost) -> dict[str, Any]:
    return {
        "calls": cost.calls,
        "inside": cost.inside,
        "bytes in": cost.bytes_in,
        "bytes out": cost.bytes_out,
        "left": cost.left,
    }


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """What is not as it is on record, a line each."""
    for name in sorted(recorded.keys() | found.keys()):
        if name not in found:
            yield f"{name}: is on record and was not measured"
            continue
        if name not in recorded:
            yield f"{name}: is not on record"
            continue
        for what in ("calls", "inside"):
            old, new = recorded[name][what], found[name][what]
            for command in sorted(old.keys() | new.keys()):
                a, b = old.get(command, 0), new.get(command, 0)
                if a != b:
                    yield f"{name}: {what} {command.upper()} {a:g} → {b:g} per operation"
        for what in ("bytes in", "bytes out"):
            a, b = recorded[name][what], found[name][what]
            if abs(a - b) > BYTES:
                yield f"{name}: {what} {a:g} → {b:g} per operation"
        if recorded[name]["left"] != found[name]["left"]:
            yield f"{name}: keys left {recorded[name]['left']} → {found[name]['left']}"


def check(update: bool) -> bool:
    """Whether all counters are as recorded; with ``update`` they are recorded instead."""
    found = measure()
    modules = imported_modules()
    if update:
        RECORD.parent.mkdir(exist_ok=True)
        lines = [f"  {json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in found.items()]
        # One scenario a line, so that a change reads as one.
        text = ",\n".join([f'  "modules": {modules}', *lines])
        RECORD.write_text(f"{{\n{text}\n}}\n")
        print(f"recorded {len(found)} scenarios in {RECORD.name}")
        return True
    recorded = json.loads(RECORD.read_text())
    wrong = list(differences({k: v for k, v in recorded.items() if k != "modules"}, found))
    # Python versions differ in their own modules; a dozen more is somebody's new import.
    if abs(modules - recorded["modules"]) > 12:
        wrong.append(f"import saq brings {modules} modules, on record are {recorded['modules']}")
    for line in wrong:
        print(f"  ✗ {line}")
    if wrong:
        print(
            f"{len(wrong)} counters differ from the record. If that is meant, also for the better: "
            "python -m benchmarks gate --update, and commit the record."
        )
    else:
        print(f"exact gates: {len(found)} scenarios as recorded, {modules} modules imported")
    return not wrong
