"""What is read of a queue to be shown: slices and their marks, counts, who is quiet, what is written down."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from saq import Job, Queue, Status
from saq.queue.history import COUNTERS
from saq.queue.views import CronEntry, Mark, Report, State
from tests.conformance.helpers import SOON
from tests.redis.helpers import prefix


async def keys_of(queue: Queue, state: State, find: int, look: int = 100) -> list[str]:
    """All keys of a list, read in slices."""
    found: list[str] = []
    mark: Mark | None = None
    for _ in range(1000):
        part = await queue.views.browse(state, mark, look=look, find=find)
        assert part.position == len(found)
        found += [job.key for job, _, _ in part.jobs]
        mark = part.end
        if mark is None:
            return found
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("find", [1, 3, 7, 100])
async def test_a_list_in_slices(queue: Queue, find: int) -> None:
    # One score for many: then the order is that of the keys' bytes.
    due = time.time() + 1000
    names = sorted([*(f"k{n}" for n in range(15)), "ü", "Z", "a", "\x00"], key=str.encode)
    await queue.enqueue_many([Job("f", key=name, scheduled=due) for name in reversed(names)])
    assert await keys_of(queue, "scheduled", find) == names
    await queue.enqueue_many([Job("f", key=f"q{n}", priority=n % 3) for n in range(20)])
    expected = [f"q{n}" for priority in range(3) for n in range(20) if n % 3 == priority]
    assert await keys_of(queue, "queued", find) == expected


@pytest.mark.parametrize("gone", [[], [2], [0, 1, 2], [2, 3], [0, 1, 2, 3, 4, 5]])
async def test_a_mark_holds_where_its_job_is_gone(queue: Queue, gone: list[int]) -> None:
    due = time.time() + 1000
    await queue.enqueue_many([Job("f", key=f"k{n}", scheduled=due + n // 3) for n in range(6)])
    part = await queue.views.browse("scheduled", find=3)
    assert [job.key for job, _, _ in part.jobs] == ["k0", "k1", "k2"]
    for n in gone:
        await queue.delete(f"k{n}")
    rest = await queue.views.browse("scheduled", part.end)
    assert [job.key for job, _, _ in rest.jobs] == [f"k{n}" for n in (3, 4, 5) if n not in gone]
    assert rest.position == len([n for n in range(3) if n not in gone])


async def test_finished_jobs_the_newest_first_and_those_that_outlived_their_time_left_out(
    queue: Queue, raw: Redis
) -> None:
    for n in range(5):
        await queue.enqueue("f", key=f"k{n}")
        job = await queue.dequeue(timeout=SOON)
        assert job is not None
        await queue.finish(job, Status.COMPLETE)
    raw.delete(prefix(queue) + b"job:k3")
    part = await queue.views.browse("finished")
    assert [job.key for job, _, _ in part.jobs] == ["k4", "k2", "k1", "k0"]
    assert (part.total, part.looked) == (5, 5)


async def test_running_jobs_in_the_order_in_which_they_were_claimed(queue: Queue) -> None:
    await queue.enqueue_many([Job("f", key=f"k{n}", priority=-n) for n in range(6)])
    claimed = []
    for _ in range(6):
        job = await queue.dequeue(timeout=SOON)
        assert job is not None
        claimed.append(job.key)
    assert await keys_of(queue, "active", 4) == claimed
    assert await keys_of(queue, "active", 100, look=2) == claimed


async def test_how_long_the_oldest_waits(queue: Queue) -> None:
    assert (await queue.views.counts()).oldest == 0
    await queue.enqueue("f", key="old", priority=5)
    for n in range(3):
        await queue.enqueue("f", key=f"new{n}", priority=n)
    old = await queue.job("old")
    assert old is not None
    counts = await queue.views.counts()
    assert counts.oldest == old.queued
    assert (counts.queued, counts.incomplete, counts.stats["enqueued"]) == (4, 4, 4)
    await queue.pause()
    counts = await queue.views.counts()
    assert 0 < counts.paused <= counts.now


async def test_reports_add_up(queue: Queue, other: Queue, raw: Redis) -> None:
    entry = CronEntry("e", "* * * * *", "UTC", False, Job("f", {"n": 1}, key="cron:e", retries=3))
    for registered, by in (("w1", queue), ("w2", other)):
        await by.worker_info(registered)
        await by.report(registered, Report({"host": registered}, [entry], {3: 1}, {"f": (1, {-2: 2})}))
    await queue.report("nobody", Report({}, (), {3: 1}, {"f": (0, {5: 1}), "g": (0, {0: 1})}))
    hour = int(time.time()) // 3600
    history = await queue.views.history([hour - 1, hour])
    assert sum(sum(buckets.values()) for buckets in history.waits.values()) == 3
    assert history.functions == {"f": (2, {-2: 4, 5: 1}), "g": (0, {0: 1})}
    workers = (await queue.views.workers()).workers
    assert sorted((worker.id, worker.about["host"]) for worker in workers) == [("w1", "w1"), ("w2", "w2")]
    (view,) = await queue.views.schedule()
    assert (view.entry.name, view.entry.unique, view.workers, view.last) == ("e", False, 2, 0)
    assert (view.entry.job.kwargs, view.entry.job.retries) == ({"n": 1}, 3)
    left: int = raw.ttl(prefix(queue) + b"hour:%d" % hour)
    assert 72 * 3600 <= left <= 73 * 3600


async def test_functions_beyond_a_bound_are_added_up_under_no_name(queue: Queue) -> None:
    await queue.worker_info("w")
    many = {f"f{n}": (1, {0: 1}) for n in range(130)}
    await queue.report("w", Report({}, (), {}, many))
    hour = int(time.time()) // 3600
    functions = (await queue.views.history([hour - 1, hour])).functions
    assert len(functions) == 101
    assert functions[""] == (30, {0: 30})


async def test_the_counters_are_sampled_once_a_minute(queue: Queue) -> None:
    await queue.enqueue("f")
    for _ in range(3):
        await queue.sweep()
    hour = int(time.time()) // 3600
    samples = (await queue.views.history([hour - 1, hour])).samples
    assert 1 <= len(samples) <= 2
    assert len(samples[0].counters) == COUNTERS
    assert (samples[0].counters[0], samples[0].queued) == (1, 1)


async def test_a_worker_is_quiet_until_then(queue: Queue) -> None:
    assert await queue.views.quiet("w", 60) is None
    await queue.worker_info("w")
    until = await queue.views.quiet("w", 60)
    assert until is not None
    assert abs(until - time.time() * 1000 - 60_000) < 5000
    assert await queue.report("w", Report({}, (), {}, {}))
    assert await queue.views.quiet("w", 0) == 0
    assert not await queue.report("w", Report({}, (), {}, {}))


async def test_names_of_functions_within_bounds(queue: Queue) -> None:
    await queue.enqueue_many([Job(f"f{n}", {"x": "y" * 200_000}, key=f"k{n}") for n in range(15)])
    found = await queue.views.functions_of([f"k{n}" for n in range(15)])
    assert found == {f"k{n}": f"f{n}" for n in range(10)}
    assert await queue.views.functions_of(["none", "k1"]) == {"k1": "f1"}
