"""The arithmetic of what is written down: buckets, percentiles, rates, levels."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saq.queue.history import COUNTERS, STEPS, Sample, add_up, bounds, levels, percentiles, rates

MINUTE = 60_000
DURATIONS = st.floats(min_value=0.0005, max_value=100_000)


def bucket_of(seconds: float) -> int:
    return int(log2(seconds) * STEPS)


def sample(at: int, counters: list[int], queued: int = 0) -> Sample:
    return Sample(at, tuple(counters), queued, 0, 0)


@given(DURATIONS)
def test_a_duration_lies_in_its_bucket(seconds: float) -> None:
    low, high = bounds(bucket_of(seconds))
    assert low * 0.999 <= seconds <= high * 1.001


def test_buckets_lie_side_by_side() -> None:
    for below, above in pairwise(range(-60, 60)):
        assert bounds(below)[1] == pytest.approx(bounds(above)[0])
    assert bounds(0) == pytest.approx((2**-0.25, 2**0.25))


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_right_but_for_its_bucket(durations: list[float], share: float) -> None:
    buckets: dict[int, int] = {}
    for seconds in durations:
        add_up(buckets, {bucket_of(seconds): 1})
    (found,) = percentiles(buckets, [share])
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]
    low, high = bounds(bucket_of(exact))
    assert found is not None
    assert low * 999 <= found <= high * 1001


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentiles({}, [0.5, 0.99]) == [None, None]


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.integers(1, 5))
def test_all_that_was_counted_is_in_the_rates(growth: list[int], step: int) -> None:
    counter, samples = 0, []
    for n, more in enumerate(growth):
        counter += more
        samples.append(sample(n * MINUTE, [counter] * COUNTERS))
    edges = list(range(-step * MINUTE, (len(growth) + step) * MINUTE, step * MINUTE))
    for grown in rates(samples, edges):
        assert len(grown) == len(edges) - 1
        assert sum(n for n in grown if n is not None) == pytest.approx(sum(growth[1:]), abs=0.1)


def test_between_two_samples_a_counter_grows_evenly() -> None:
    samples = [sample(0, [0] * COUNTERS), sample(4 * MINUTE, [40] * COUNTERS)]
    edges = [-MINUTE, 0, MINUTE, 2 * MINUTE, 4 * MINUTE, 6 * MINUTE]
    assert rates(samples, edges)[0] == [None, 10, 10, 20, None]


def test_a_counter_that_went_down_was_begun_anew() -> None:
    samples = [sample(n * MINUTE, [count] * COUNTERS) for n, count in enumerate((100, 110, 3, 5))]
    assert rates(samples, [0, MINUTE, 2 * MINUTE, 3 * MINUTE])[0] == [10, 3, 2]


def test_what_nobody_wrote_down_is_not_known() -> None:
    assert rates([], [0, MINUTE]) == [[None]] * COUNTERS
    assert rates([sample(0, [1] * COUNTERS)], [0, MINUTE]) == [[None]] * COUNTERS


def test_a_level_is_the_last_one_of_its_step() -> None:
    samples = [sample(n * MINUTE // 2, [0] * COUNTERS, queued=n) for n in range(5)]
    found = levels(samples, [0, MINUTE, 2 * MINUTE, 3 * MINUTE, 4 * MINUTE])
    assert [level and level.queued for level in found] == [1, 3, 4, None]
