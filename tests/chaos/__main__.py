"""Runs chaos: `python -m tests.chaos --seed N --seconds S`.

`python -m tests.chaos report FILE …` puts the summaries of runs into the documentation.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from time import monotonic

from tests.chaos import report
from tests.chaos.run import Plan, Run
from tests.chaos.verdict import judge
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
#: Seconds between two lines of progress where nobody watches a terminal.
LINE_EVERY = 15.0


def main() -> int:
    """Breaks, heals, drains, checks. 0 if all that was promised was kept."""
    if sys.argv[1:2] == ["report"]:
        report.write(PAGE, [Path(name) for name in sys.argv[2:]])
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's schedule [random]")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things are broken [60]")
    parser.add_argument("--every", type=float, default=0.6, help="seconds between faults; 0 is none [0.6]")
    parser.add_argument(
        "--fsync",
        choices=("always", "everysec"),
        default="always",
        help="of the server; with everysec it loses its power rather than being killed, and with it up to a "
        "second of what it has acknowledged, which is counted [always]",
    )
    parser.add_argument("--server", default="embedded", help="which server: see tests/servers.py")
    parser.add_argument("--json", type=Path, help="write the summary into this file as well")
    parser.add_argument(
        "--folder", type=Path, help="keep the evidence here [a temporary folder, if all is well]"
    )
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    plan = Plan(seed, options.seconds, options.every, options.fsync, options.server)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="saq-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"chaos: seed {seed}, {plan.seconds:g} s; evidence in {folder}", flush=True)
    # Nothing that it started outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = monotonic()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the proxy breaks connections for a living
    with Server(plan.server, appendonly="yes", appendfsync=plan.fsync, save="") as server:
        run = Run(plan, server, folder, Progress())
        evidence = run.go()
    checks = judge(evidence)
    checks["every fault happened"] = run.missing_faults(evidence)
    summary = report.summarize(run, evidence, checks, monotonic() - began)
    print(f"\n{report.text_of(summary)}\n")
    if options.json is not None:
        options.json.write_bytes(report.dump(summary))
    if not summary["passed"]:
        wrong = [name for name, found in checks.items() if found]
        print(f"chaos: what does not hold: {'; '.join(wrong)}")
        print(f"chaos: repeat it with --seed {seed}; the evidence is in {folder}")
        return 1
    print("chaos: all that was promised was kept")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\033[Kchaos: {text}", end="", flush=True)
        elif monotonic() >= self._next:
            self._next = monotonic() + LINE_EVERY
            print(f"chaos: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
