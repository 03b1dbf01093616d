"""The working tree against another revision of this project.

Owns the gate: what is compared, its limit and what is said of it. Copies are made by `revisions.py`, measured
by `trial.py`: the harness of the working tree drives both, so that a change of the harness counts for none.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.gate import trial
from benchmarks.gate.revisions import NoCopy, copies
from benchmarks.progress import Progress

#: Rounds, and by how much slower is too slow.
SAMPLES, LIMIT = 13, 0.25


def check(revision: str, samples: int, limit: float, progress: Progress) -> int:
    """The exit code: 0 if nothing is slower, 1 if something is, 2 if it cannot be told."""
    with tempfile.TemporaryDirectory(prefix="saq-against-") as folder:
        try:
            progress.say(f"building {revision} and the working tree")
            made = copies(revision, Path(folder))
        except NoCopy as reason:
            print(f"  ✗ against: {reason}")
            return 2
        base, head, _ = made
        for side, copy in (("base", base), ("head", head)):
            print(f"{side}: {copy.title}{'' if copy.compiled else ', uncompiled'}")
        environments = {side: copy.environment for side, copy in zip(trial.SIDES, made, strict=True)}
        trials = trial.run(environments, samples, progress)
    for line in trial.table(trials, limit):
        print(line)
    failed = [one for one in trials if one.failures]
    compared = [one for one in trials if one.rounds and not one.failures]
    slower = [one for one in compared if one.is_slower(limit)]
    if failed or slower:
        print(f"  ✗ against {revision}: {', '.join(one.title for one in [*failed, *slower])}")
        return 1
    if not compared:
        print(f"  ✗ against {revision}: nothing could be compared")
        return 2
    print(f"against {revision}: nothing is slower by more than {limit * 100:g} %")
    return 0
