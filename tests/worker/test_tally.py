"""What a worker counts of its jobs, and how it hands that in."""

from __future__ import annotations

import time

from saq import Job
from saq.queue.history import bounds, percentiles
from saq.worker.tally import Tally


def ended(function: str, waited: float, ran: float, **fields: float) -> tuple[Job, float]:
    """A job whose first attempt has just ended, and when that began."""
    job = Job(function, attempts=1, queued=1_000_000)
    job.started = job.queued + round(waited * 1000)
    for name, value in fields.items():
        setattr(job, name, value)
    return job, time.monotonic() - ran


def test_waits_and_run_times_by_function() -> None:
    tally = Tally()
    for _ in range(10):
        tally.add(*ended("f", 2.0, 0.5))
    tally.add(*ended("g", 0.1, 30.0))
    tally.add_failure(Job("g"))
    waits, functions = tally.take()
    assert sum(waits.values()) == 11
    assert functions.keys() == {"f", "g"}
    (failed, runs) = functions["f"]
    ((bucket, count),) = runs.items()
    assert (failed, count) == (0, 10)
    assert bounds(bucket)[0] <= 0.51 <= bounds(bucket)[1] * 1.1
    assert functions["g"][0] == 1
    (median,) = percentiles(waits, [0.5])
    assert median is not None
    assert 1600 < median < 2500


def test_it_begins_anew_when_it_was_taken() -> None:
    tally = Tally()
    tally.add(*ended("f", 1.0, 1.0))
    assert tally.take().functions
    assert tally.take() == ({}, {})


def test_only_the_first_attempt_has_waited() -> None:
    tally = Tally()
    tally.add(*ended("f", 100.0, 1.0, attempts=2))
    assert tally.take().waits == {}


def test_a_scheduled_job_waits_from_its_time_on() -> None:
    tally = Tally()
    job, began = ended("f", 500.0, 1.0, scheduled=1_490)
    tally.add(job, began)
    (median,) = percentiles(tally.take().waits, [0.5])
    assert median is not None
    assert 8_000 < median < 12_000


def test_what_cannot_be_counted_fails_no_job() -> None:
    tally = Tally()
    job, _ = ended("f", -5.0, 0.0)
    tally.add(job, time.monotonic() + 1000)
    tally.add(job, time.monotonic() - 1e-300)
    assert all(count >= 0 for count in tally.take().waits.values())
