"""Whether each kernel earns its place: compiled against uncompiled, in turns, in one process.

    python -m benchmarks.micro.ratio [--rounds 200] [--ceiling 0.8]

Ends with 1 when a compiled kernel takes more than the ceiling of what its uncompiled self takes. A kernel
that serializes does it with the serializer's kernel of its own kind, as a worker does.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.micro.inputs import CASES, selves

#: A kernel above this share of its uncompiled self goes away.
CEILING = 0.8
#: Seconds that one sample takes, about.
SAMPLE = 0.001


def measure(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Seconds per call of both: the least of ``rounds`` samples, taken in turns, as noise only ever adds."""
    calls = 1
    while (took := _sample(other, calls)) < SAMPLE:
        calls = max(calls * 2, int(calls * SAMPLE / max(took, 1e-9)))
    best = [float("inf"), float("inf")]
    for turn in range(rounds):
        # Who goes first takes turns as well.
        for which in (0, 1) if turn % 2 else (1, 0):
            best[which] = min(best[which], _sample((one, other)[which], calls))
    return best[0] / calls, best[1] / calls


def _sample(function: Callable[[], Any], calls: int) -> float:
    again = range(calls)
    began = time.perf_counter()
    for _ in again:
        function()
    return time.perf_counter() - began


def main() -> int:
    """Prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro.ratio", description="Compiled kernels.")
    parser.add_argument("--rounds", type=int, default=200, help="samples of each [200]")
    parser.add_argument("--ceiling", type=float, default=CEILING, help=f"the highest ratio [{CEILING}]")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    above = []
    print(f"{'kernel':<34}{'compiled':>10}{'pure':>10}{'ratio':>8}   (ns per call)")
    gc.disable()  # it would strike whoever allocates next
    for name, kernel, arguments in CASES:
        if options.only not in name:
            continue
        compiled, pure = measure(*selves(kernel, arguments), options.rounds)
        ratio = compiled / pure
        mark = "" if ratio <= options.ceiling else "  above"
        above += [name] if mark else []
        print(f"{name:<34}{compiled * 1e9:>10.0f}{pure * 1e9:>10.0f}{ratio:>8.2f}{mark}", flush=True)
        gc.collect()
    if above:
        print(f"above {options.ceiling:g}: {', '.join(above)}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
