"""What is written down of a queue: counters by the minute, and how long jobs waited and ran.

Owns the arithmetic: buckets and their percentiles, rates from samples. Must not know where it is stored.

A duration of ``x`` seconds lies in bucket ``int(log2(x) * 4)``, cut towards zero: four buckets for each
doubling, so that a percentile is right to some 10 %.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

#: Bucket → how many.
Buckets = Mapping[int, int]

STEPS = 4.0
COUNTERS = 6


class Sample(NamedTuple):
    """How a queue stood. ``at`` in milliseconds; the counters are those of ``views.COUNTERS``."""

    at: int
    counters: tuple[int, ...]
    queued: int
    active: int
    scheduled: int


class History(NamedTuple):
    """What is written down of some time.

    Args:
        samples: in order.
        waits, runs: by minute since the epoch.
        functions: failed attempts, and run times of all; '' for those beyond a bound.
    """

    samples: list[Sample]
    waits: dict[int, Buckets]
    runs: dict[int, Buckets]
    functions: dict[str, tuple[int, Buckets]]


def bounds(bucket: int) -> tuple[float, float]:
    """From where to where a bucket goes, in seconds."""
    low = bucket - (bucket <= 0)
    high = bucket + (bucket >= 0)
    return float(2 ** (low / STEPS)), float(2 ** (high / STEPS))


def add_up(into: dict[int, int], more: Buckets) -> None:
    """Adds buckets to buckets."""
    for bucket, count in more.items():
        into[bucket] = into.get(bucket, 0) + count


def percentiles(buckets: Buckets, shares: Sequence[float]) -> list[float | None]:
    """For each share (0.95 …) the milliseconds below which so many durations lie; None if there are none."""
    total = sum(buckets.values())
    if not total:
        return [None for _ in shares]
    found: list[float | None] = []
    ordered = sorted(buckets.items())
    for share in shares:
        left = share * total
        place = 0
        while place < len(ordered) - 1 and left > ordered[place][1]:
            left -= ordered[place][1]
            place += 1
        bucket, count = ordered[place]
        low, high = bounds(bucket)
        found.append(round(1000 * (low + (high - low) * min(1.0, left / count)), 3))
    return found


def rates(samples: Sequence[Sample], edges: Sequence[int]) -> list[list[float | None]]:
    """For each counter how much it grew between each two of these moments (milliseconds, rising).

    Between two samples it is taken to grow evenly. None where no sample says anything. A counter that went
    down was begun anew.
    """
    times = [sample.at for sample in samples]
    grown: list[list[float | None]] = []
    for position in range(COUNTERS):
        sums = [0]
        for before, after in pairwise(samples):
            old, new = before.counters[position], after.counters[position]
            sums.append(sums[-1] + (new - old if new >= old else new))
        at = [_between(times, sums, edge) for edge in edges]
        grown.append(
            [
                round(high - low, 3) if known else None
                for low, high, known in zip(at, at[1:], _covered(times, edges), strict=False)
            ]
        )
    return grown


def _between(times: Sequence[int], values: Sequence[float], moment: int) -> float:
    """The value at a moment, on straight lines between those that are known, and level outside."""
    after = bisect_right(times, moment)
    if after == 0:
        return values[0]
    if after == len(times):
        return values[-1]
    before = after - 1
    share = (moment - times[before]) / (times[after] - times[before])
    return values[before] + (values[after] - values[before]) * share


def _covered(times: Sequence[int], edges: Sequence[int]) -> list[bool]:
    """For each step whether any of it lies between the first sample and the last."""
    if len(times) < 2:
        return [False] * (len(edges) - 1)
    return [high > times[0] and low < times[-1] for low, high in pairwise(edges)]


def levels(samples: Sequence[Sample], edges: Sequence[int]) -> list[Sample | None]:
    """For each step the last sample in it."""
    times = [sample.at for sample in samples]
    found: list[Sample | None] = []
    for low, high in pairwise(edges):
        last = bisect_right(times, high - 1) - 1
        found.append(samples[last] if last >= 0 and times[last] >= low else None)
    return found
