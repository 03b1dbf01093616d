"""How many Python functions an operation calls, counted rather than timed.

Owns the counting, in a process of its own with uncompiled kernels: what is compiled cannot be seen. Must not
judge: that is `exact.py`.

    python -m benchmarks.gate.calls URL MODULE [SCENARIO...]

runs the scenarios of a module on the server of that URL and says their counts as JSON. Counted is each call
of a Python function that the code of `saq` makes or receives, and each time a coroutine of it goes on. What
the event loop and redis-py do among themselves is theirs, and is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.gate.scenarios import Operation, warm_up
from tests.servers import Server

ROOT = Path(__file__).parent.parent.parent
#: Operations of the shorter run.
N = 100
#: What a worker does at intervals, or when an answer was late, would make the sum another each time: here the
#: calls of each function are rounded before they are added, and there are more operations.
VARYING = {"enqueue, work one at a time": 500}
#: Seconds that all scenarios may take.
PATIENCE = 300


def count(
    server: Server, module: str = "benchmarks.gate.scenarios", names: Collection[str] = ()
) -> dict[str, float]:
    """Calls per operation of each scenario of a module, or of those that are named."""
    # Nothing but what is set here shall decide what runs.
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("SAQ_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate.calls", server.url(), module, *names],
        cwd=ROOT,
        env=theirs | {"SAQ_NO_SPEEDUPS": "1", "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE,
    )
    counted: dict[str, float] = json.loads(done.stdout)
    return counted


def _main(url: str, module: str, *names: str) -> None:
    scenarios: dict[str, Operation] = importlib.import_module(module).SCENARIOS
    # The server keeps nothing on disk, on purpose; workers would say so.
    logging.getLogger("saq.checkup").setLevel(logging.ERROR)
    counted = {}
    for name in names or scenarios:
        operation = scenarios[name]
        size = VARYING.get(name, N)
        one, two = (asyncio.run(_run(url, operation, n)) for n in (size, 2 * size))
        slopes = [(two[code] - one[code]) / size for code in one | two]
        counted[name] = sum(map(round, slopes)) if name in VARYING else round(sum(slopes), 3)
    print(json.dumps(counted))


async def _run(url: str, operation: Operation, n: int) -> Counter[CodeType]:
    """Calls of each function in ``n`` operations on an emptied server."""
    from redis.asyncio import Redis

    from saq.queue.redis import RedisQueue

    async with Redis.from_url(url) as client:
        await client.flushall()
        queue = RedisQueue.from_url(url)
        await warm_up(queue, operation)
        await client.flushall()
    tally = _Tally()
    # What is collected is told to code of ours, at a time that depends on all that was there before.
    gc.collect()
    gc.disable()
    sys.setprofile(tally)
    try:
        await operation(queue, n)
    finally:
        sys.setprofile(None)
        gc.enable()
    await queue.disconnect()
    return tally.calls


class _Tally:
    """A profiler that counts what the code of `saq` has to do with."""

    def __init__(self) -> None:
        import saq

        self.calls: Counter[CodeType] = Counter()
        self._ours = str(Path(saq.__file__).parent) + os.sep

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and (self._is_ours(frame) or self._is_ours(frame.f_back)):
            self.calls[frame.f_code] += 1

    def _is_ours(self, frame: FrameType | None) -> bool:
        return frame is not None and frame.f_code.co_filename.startswith(self._ours)


if __name__ == "__main__":
    _main(*sys.argv[1:])
