"""The order in which jobs are handed out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saq.errors import UsageError
from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import QueueFactory, claim, claim_keys, counts, enqueue

LOWEST, HIGHEST = -32_768, 32_767


async def test_the_lower_priority_runs_first_and_equals_in_the_order_they_came(queue: Queue):
    for key, priority in {"c": 1, "d": 1, "a": -5, "e": HIGHEST, "b": 0, "A": LOWEST, "b2": 0}.items():
        await enqueue(queue, key, priority=priority)
    assert await claim_keys(queue) == ["A", "a", "b", "b2", "c", "d", "e"]


_names = itertools.count()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST]) | st.integers(LOWEST, HIGHEST),
        max_size=30,
    )
)
async def test_any_priorities_are_put_in_order(queue_factory: QueueFactory, priorities: list[int]):
    queue = queue_factory(f"{next(_names)}")
    await queue.enqueue_many(Job("f", key=f"{n}", priority=p) for n, p in enumerate(priorities))
    expected = sorted(range(len(priorities)), key=lambda n: (priorities[n], n))
    assert await claim_keys(queue) == [f"{n}" for n in expected]
    await queue.disconnect()


@pytest.mark.parametrize("priority", [LOWEST - 1, HIGHEST + 1, 2**31, -(2**63), 0.5, 1.0, "1", None, True])
async def test_a_priority_out_of_range_is_refused(priority: object, queue: Queue):
    with pytest.raises(UsageError, match=r"priority.*-32,768 to 32,767"):
        await queue.enqueue("f", priority=priority)
    assert await counts(queue) == {}


async def test_a_job_that_is_enqueued_later_with_a_lower_priority_overtakes(queue: Queue):
    await enqueue(queue, "a", "b")
    assert await claim_keys(queue, 1) == ["a"]
    await enqueue(queue, "urgent", priority=-1)
    assert await claim_keys(queue) == ["urgent", "b"]


@pytest.mark.parametrize("priority", [LOWEST, 0, HIGHEST])
async def test_a_job_given_back_goes_to_its_old_place(priority: int, queue: Queue):
    await enqueue(queue, *"abc", priority=priority)
    a, b = (await queue.step((), 2)).jobs
    await queue.step([queue.settle_return(b, "x"), queue.settle_return(a, "x")], 0)
    await enqueue(queue, "d", priority=priority)
    assert await claim_keys(queue) == ["a", "b", "c", "d"]


async def test_a_retried_job_goes_behind_those_of_its_priority_and_no_further(queue: Queue):
    await enqueue(queue, "a", "b", retries=2)
    await enqueue(queue, "c", priority=1)
    await (await claim(queue)).retry("no")
    assert await claim_keys(queue) == ["b", "a", "c"]


async def test_scheduled_and_finished_jobs_return_with_their_priority(queue: Queue):
    await enqueue(queue, "urgent", priority=-1)
    await queue.finish(await claim(queue), Status.FAILED, error="no")
    await enqueue(queue, "later", priority=-2, scheduled=4e9)
    await enqueue(queue, "a", "b")
    await queue.requeue("urgent")
    await queue.run_now("later")
    assert await claim_keys(queue) == ["later", "urgent", "a", "b"]
