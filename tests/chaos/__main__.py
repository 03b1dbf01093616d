"""Runs chaos: `python -m tests.chaos --seed N --seconds S`."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from saq.queue.redis import RedisQueue
from tests.chaos.nemesis import Nemesis, Process
from tests.chaos.verdict import Evidence, faults
from tests.servers import Server

WORKERS, PRODUCERS = 3, 2
#: Seconds that everything has to end once nothing is broken any more.
DRAIN = 60.0


def main() -> int:
    """Breaks, heals, drains, checks. 0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's schedule [random]")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things are broken [60]")
    parser.add_argument("--every", type=float, default=0.6, help="seconds between faults [0.6]")
    parser.add_argument(
        "--fsync",
        choices=("always", "everysec"),
        default="always",
        help="of the server; with everysec Redis itself may lose what it acknowledged, so that then the "
        "server is not killed [always]",
    )
    parser.add_argument("--server", default="embedded", help="which server: see tests/servers.py")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="saq-chaos-"))
    print(f"chaos: seed {seed}, {options.seconds:g} s, {WORKERS} workers, {PRODUCERS} producers", flush=True)
    with Server(options.server, appendonly="yes", appendfsync=options.fsync, save="") as server:
        wrong, summary = _run(server, folder, seed, options)
    print(summary)
    for line in wrong[:50]:
        print(f"  ✗ {line}")
    if wrong:
        print(f"chaos: {len(wrong)} things do not fit. Repeat with --seed {seed}; the logs are in {folder}")
        return 1
    print("chaos: nothing was lost")
    shutil.rmtree(folder)
    return 0


def _run(server: Server, folder: Path, seed: int, options: argparse.Namespace) -> tuple[list[str], str]:
    url = server.url()
    workers = [
        Process(folder, f"worker-{i}", "tests.chaos.worker", url, str(folder), str(i)) for i in range(WORKERS)
    ]
    producers = [
        Process(folder, f"producer-{i}", "tests.chaos.producer", url, str(folder), f"p{i}", f"{seed}-{i}")
        for i in range(PRODUCERS)
    ]
    nemesis = Nemesis(server, workers, seed, hard=options.fsync == "always")
    wrong: list[str] = []
    began = time.monotonic()
    try:
        for process in [*workers, *producers]:
            process.start()
        nemesis.run(options.seconds, options.every)
        nemesis.heal()
        for producer in producers:
            producer.send(signal.SIGTERM)
        drained = _drain(server, workers, producers)
        if drained is not None:
            wrong.append(drained)
        for process in [*producers, *workers]:
            code = process.end(signal.SIGTERM, 30)
            if code != 0:
                wrong.append(f"exit: {process.name} ended with {code}")
    finally:
        for process in [*workers, *producers]:
            process.end(signal.SIGKILL, 5)
    evidence = Evidence(folder, RedisQueue.from_url(url))
    wrong += faults(evidence, nemesis.happened)
    if options.seconds >= 30 and len(nemesis.happened) < 5:
        wrong.append(f"void: hardly anything was broken: {dict(nemesis.happened)}")
    broken = ", ".join(f"{count} x {name}" for name, count in nemesis.happened.most_common())
    acknowledged = len(evidence.produced["acknowledged"] | evidence.told.keys())
    summary = (
        f"chaos: {time.monotonic() - began:.0f} s in all; {acknowledged} jobs acknowledged, "
        f"{len(evidence.produced['unknown'])} unknown, {len(evidence.produced['waits'])} waited for, "
        f"{sum(evidence.starts.values())} runs; {evidence.stats.get('lost', 0)} leases lost; {broken}"
    )
    return wrong, summary


def _drain(server: Server, workers: list[Process], producers: list[Process]) -> str | None:
    """Waits until nothing is incomplete and all waiters are told."""
    client = server.client()
    deadline = time.monotonic() + DRAIN
    left = -1
    while time.monotonic() < deadline:
        for worker in workers:
            worker.start()  # some jobs kill them
        left = client.hlen("saq:{default}:jobs")
        if not left and all(p.popen is not None and p.popen.poll() is not None for p in producers):
            return None
        time.sleep(0.1)
    return f"drain: {left} jobs are incomplete {DRAIN:g} s after everything was healed"


if __name__ == "__main__":
    sys.exit(main())
