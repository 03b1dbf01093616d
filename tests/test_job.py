"""A job by itself: its fields, what it says of itself, and its durations. Nothing here needs a server."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

import saq.job
from saq import Job, Queue, Status
from saq.job import (
    ACTIVE_STATUSES,
    STATUS_CHANGES,
    TERMINAL_STATUSES,
    UNSUCCESSFUL_TERMINAL_STATUSES,
)
from saq.utils import now


@pytest.fixture
def queue() -> Queue:
    """A queue object that never connects."""
    return Queue.from_url("redis://localhost:1", name="mine")


def test_the_defaults_are_those_that_are_documented() -> None:
    job = Job("f")
    expected: dict[str, Any] = {
        "function": "f",
        "kwargs": None,
        "queue": None,
        "timeout": 10,
        "heartbeat": 0,
        "retries": 1,
        "ttl": 600,
        "retry_delay": 0.0,
        "retry_backoff": False,
        "scheduled": 0,
        "progress": 0.0,
        "priority": 0,
        "group_key": None,
        "meta": {},
        "attempts": 0,
        "result": None,
        "error": None,
        "status": Status.NEW,
        **dict.fromkeys(("queued", "started", "touched", "completed"), 0),
    }
    assert {name: getattr(job, name) for name in expected} == expected


def test_every_job_gets_a_key_of_its_own() -> None:
    keys = {Job("f").key for _ in range(10_000)}
    assert len(keys) == 10_000
    assert all(keys)
    assert Job("f", key=None).key  # type: ignore[arg-type]


def test_jobs_are_equal_and_hash_by_key() -> None:
    one, same, other = Job("f", key="a"), Job("g", key="a", retries=3), Job("f", key="b")
    assert one == same
    assert one != other
    assert one != "a"
    assert len({one, same, other}) == 2


def test_a_status_can_be_given_by_its_name_and_is_its_name() -> None:
    assert Job("f", status="complete").status is Status.COMPLETE  # type: ignore[arg-type]
    assert Job("f", status="COMPLETE").status is Status.COMPLETE  # type: ignore[arg-type]
    assert {"complete"} == {Status.COMPLETE}
    assert {status.value for status in Status} == {
        *("new", "queued", "active", "aborting", "aborted", "failed", "complete"),
    }


def test_the_groups_of_statuses() -> None:
    assert {"new", "queued", "active"} == ACTIVE_STATUSES
    assert {"complete", "failed", "aborted"} == TERMINAL_STATUSES
    assert {"failed", "aborted"} == UNSUCCESSFUL_TERMINAL_STATUSES


def test_the_table_of_status_changes_is_sound() -> None:
    reached = {after for _, after in STATUS_CHANGES}
    assert reached == set(Status) - {Status.NEW}
    for before, after in STATUS_CHANGES:
        assert before != after
        if before in TERMINAL_STATUSES:
            assert after is Status.QUEUED, "a finished job can only be enqueued again"
        if after in TERMINAL_STATUSES:
            assert before in {Status.QUEUED, Status.ACTIVE, Status.ABORTING}


def test_to_dict_holds_what_differs_from_the_defaults(queue: Queue) -> None:
    assert Job("f", key="k").to_dict() == {"function": "f", "key": "k"}
    job = Job("f", key="k", queue=queue, kwargs={"a": 1}, timeout=0, meta={"b": 2}, status=Status.QUEUED)
    assert job.to_dict() == {
        "function": "f",
        "kwargs": {"a": 1},
        "queue": "mine",
        "key": "k",
        "timeout": 0,
        "meta": {"b": 2},
        "status": Status.QUEUED,
    }


def test_a_number_that_equals_a_default_of_another_type_is_not_the_default() -> None:
    assert Job("f", key="k", retry_backoff=0).to_dict()["retry_backoff"] == 0
    assert "retry_backoff" not in Job("f", key="k", retry_backoff=False).to_dict()


def test_values_that_cannot_be_compared_do_not_break_what_a_job_says() -> None:
    class Array:
        def __eq__(self, other: object) -> Any:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            return "Array"

    assert "result: Array" in repr(Job("f", result=Array()))


def test_info_is_one_short_line_and_repr_says_all() -> None:
    job = Job("f", key="k", kwargs={"a": 1}, status=Status.FAILED, error="trace", timeout=5)
    assert job.info() == "Job<function: f, key: k, timeout: 5, status: failed>"
    assert repr(job) == job.info(full=True)
    assert "kwargs: {'a': 1}" in repr(job)
    assert "error: trace" in repr(job)


def test_id_is_the_name_of_its_record_and_differs_by_queue(queue: Queue) -> None:
    other = Queue.from_url("redis://localhost:1", name="other")
    one, two = Job("f", key="k", queue=queue), Job("f", key="k", queue=other)
    assert one.id == queue.job_id("k") == "saq:{mine}:job:k"
    assert one.id != two.id
    assert one.abort_id != two.abort_id


async def test_what_needs_a_queue_says_so() -> None:
    job = Job("f", key="k")
    with pytest.raises(TypeError, match="belongs to no queue yet: enqueue it first"):
        job.get_queue()
    for call in (job.enqueue(), job.abort("x"), job.update(), job.refresh(), job.retry("x")):
        with pytest.raises(TypeError, match="enqueue it first"):
            await call


def test_durations_are_between_the_times_and_never_negative() -> None:
    job = Job("f", queued=1000, started=1500, completed=3500)
    assert job.duration("start") == 500
    assert job.duration("process") == 2000
    assert job.duration("total") == 2500
    # Clocks of two machines.
    assert Job("f", queued=2000, started=1000).duration("start") == 0
    running = Job("f", started=now() - 5000).duration("running")
    assert running is not None
    assert 5000 <= running < 6000


@pytest.mark.parametrize("kind", ["process", "start", "total", "running"])
def test_a_duration_of_what_has_not_happened_is_none(kind: Any) -> None:
    assert Job("f").duration(kind) is None


def test_an_unknown_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown duration 'lunch'; one of process, start, total, running"):
        Job("f").duration("lunch")  # type: ignore[arg-type]


def test_stuck_is_past_the_timeout_or_without_a_heartbeat_while_it_runs() -> None:
    ago = now() - 20_000
    assert Job("f", status=Status.ACTIVE, started=ago, touched=ago).stuck
    assert not Job("f", status=Status.ACTIVE, started=ago, touched=ago, timeout=60).stuck
    assert not Job("f", status=Status.ACTIVE, started=ago, touched=ago, timeout=0).stuck
    assert not Job("f", status=Status.ACTIVE, started=ago, touched=ago, timeout=None).stuck
    assert Job("f", status=Status.ACTIVE, started=ago, touched=ago, timeout=0, heartbeat=5).stuck
    assert not Job("f", status=Status.ACTIVE, started=ago, touched=now(), timeout=0, heartbeat=5).stuck
    assert not Job("f", status=Status.QUEUED, started=ago, touched=ago).stuck
    assert not Job("f", status=Status.COMPLETE, started=ago, touched=ago).stuck


def test_a_retry_waits_its_delay() -> None:
    assert Job("f", retry_delay=3.5).next_retry_delay() == 3.5
    assert Job("f").next_retry_delay() == 0


def test_backoff_is_a_random_time_that_doubles_up_to_its_limit() -> None:
    random.seed(5)
    for attempt, limit in [(1, 2.0), (2, 4.0), (3, 8.0), (4, 10.0), (400, 10.0)]:
        job = Job("f", retry_delay=2.0, retry_backoff=10.0)
        job.__dict__["_charged"] = attempt
        delays = [job.next_retry_delay() for _ in range(300)]
        assert 0 <= min(delays) < 0.1 * limit
        assert 0.9 * limit < max(delays) <= limit


def test_backoff_without_a_limit_never_overflows() -> None:
    job = Job("f", retry_delay=1.0, retry_backoff=True)
    job.__dict__["_charged"] = 100_000
    assert 0 <= job.next_retry_delay() <= 366 * 86400


def test_replace_takes_over_another_handle() -> None:
    job, other = Job("f", key="k"), Job("g", key="other", status=Status.COMPLETE, result=5)
    job.replace(other)
    assert (job.function, job.key, job.status, job.result, job.results) == ("g", "other", "complete", 5, 5)


def test_users_subclass_it() -> None:
    @dataclasses.dataclass(eq=False, repr=False)
    class Mine(Job):
        tenant: str = "nobody"

    job = Mine("f", key="k", tenant="me")
    assert job.to_dict() == {"function": "f", "key": "k", "tenant": "me"}
    assert job == Job("g", key="k")


def test_the_module_is_where_it_was() -> None:
    assert saq.job.Job is Job
    assert saq.job.CronJob is saq.CronJob
