"""This project's adapter with a slowdown planted in it: each job spins for `spin_us` before it is counted.

Owns the spinning. A contender's process runs it: nothing of `benchmarks` can be imported here but its agent.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import bench_agent  # type: ignore[import-not-found]

ADAPTER = Path(__file__).parent.parent / "contenders" / "saq" / "adapter.py"
SPIN_NS = int(json.loads(sys.argv[2])["options"]["spin_us"] * 1000)

_hit = bench_agent.Tally.hit


def _slow_hit(tally: Any, number: int) -> None:
    until = time.perf_counter_ns() + SPIN_NS
    while time.perf_counter_ns() < until:
        pass
    _hit(tally, number)


bench_agent.Tally.hit = _slow_hit
runpy.run_path(str(ADAPTER), run_name="__main__")
