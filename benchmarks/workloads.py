"""What the jobs do, and how many of them make a sample.

Owns the workloads and their sizes. Must not know a contender or a server. The functions themselves run in the
contenders' processes: `agent/bench_agent.py`, and the adapters of Node and Ruby.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SEED = 20240229
#: What a CPU-bound job churns: about half a millisecond of Python.
CPU_ROUNDS = 10_000
CPU_SECONDS = 0.0006
#: A sleeping job sleeps 0 to 50 ms; the numbers come from `duration_ms`.
MEAN_SLEEP = 0.025
CONCURRENCY = (1, 10, 100)
#: How many of the jobs of a drain are its warm-up: one in …
WARM = 10
#: With one job at a time, and through the slower network, samples are shorter by so much.
SHORT = 0.5
#: What drains fast drains at least so many, so that what happens once does not count: 30,000 and a warm-up.
MANY = 33_400
#: Jobs a second from which on it is fast.
FAST = 10_000


class Workload(NamedTuple):
    """A kind of job.

    Args:
        name: on the command line and in results.
        title: in reports.
        seconds: that a sample should take.
    """

    name: str
    title: str
    seconds: float


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("async_noop", "async no-op", 0.8),
        Workload("sync_noop", "sync no-op", 0.8),
        Workload("async_sleep", "async, sleeping 0 to 50 ms", 0.8),
        Workload("sync_sleep", "sync, sleeping 0 to 50 ms", 0.8),
        Workload("cpu", "CPU-bound, 10,000 rounds", 0.3),
    )
}


def job_name(workload: str, native: str) -> str:
    """The function behind a workload. What computes is sync where the contender has sync functions."""
    if workload in ("cpu", "noop", "stamp", "sleep"):
        return f"{native}_{workload}"
    return workload


def duration_ms(i: int, seed: int = SEED) -> int:
    """How long sleeping job ``i`` sleeps: spread evenly, and the same for every contender."""
    return (i + seed) * 2654435761 % 2**32 * 51 // 2**32


def ideal_seconds(n: int, before: Iterable[int], concurrency: int) -> float:
    """What n sleeping jobs, without those before, take if nothing else does: jobs × mean ÷ concurrency."""
    return (sum(map(duration_ms, range(n))) - sum(map(duration_ms, before))) / 1000 / concurrency


def ceiling(workload: str, concurrency: int) -> float:
    """Jobs a second that the jobs themselves allow."""
    if workload.endswith("sleep"):
        return concurrency / MEAN_SLEEP
    if workload == "cpu":
        return 1 / CPU_SECONDS
    return float("inf")


def size(rate: float, seconds: float, least: float = 0) -> int:
    """So many jobs make a sample at this rate: a round number, its tenth being the warm-up."""
    jobs = max(rate * seconds, least)
    step = 10 if jobs < 1000 else 100
    return max(20, round(jobs / step) * step)
