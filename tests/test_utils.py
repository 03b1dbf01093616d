"""The small helpers."""

from __future__ import annotations

import time

import pytest

from saq.utils import exponential_backoff, millis, now, now_seconds, redact_url, seconds, uuid1


def test_the_clocks_agree() -> None:
    before = time.time()
    assert before * 1000 - 1 <= now() <= time.time() * 1000
    assert before <= now_seconds() <= time.time()
    assert isinstance(now(), int)


def test_seconds_and_milliseconds() -> None:
    assert (millis(1.5), seconds(1500)) == (1500, 1.5)


def test_uuid1_is_new_each_time() -> None:
    assert len({uuid1() for _ in range(1000)}) == 1000


def test_backoff_without_jitter_doubles_up_to_the_limit() -> None:
    assert [exponential_backoff(n, 1, jitter=False) for n in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [exponential_backoff(n, 1, 5, jitter=False) for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert exponential_backoff(0, 3, jitter=False) == 3
    assert exponential_backoff(5, 0, jitter=False) == 0


def test_backoff_of_any_number_of_attempts_is_a_number_that_a_clock_can_hold() -> None:
    assert exponential_backoff(10_000, 1, jitter=False) == 31_536_000
    assert exponential_backoff(10_000, 1, 60, jitter=False) == 60


def test_jitter_spreads_over_the_whole_range() -> None:
    delays = [exponential_backoff(3, 1.0, jitter=True) for _ in range(2000)]
    assert 0 <= min(delays) < 0.1
    assert 3.9 < max(delays) <= 4.0
    assert 1.8 < sum(delays) / len(delays) < 2.2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://me:secret@host/2?a=b", "rediss://me:***@host/2?a=b"),
        ("unix:///tmp/sock", "unix:///tmp/sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown
