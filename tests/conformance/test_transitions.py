"""Who may do what with a job, in every state that it can be in.

An *owner* is the handle that claimed the job; after it has settled the job it is a guest like any other. A
*guest* is a handle that another process has read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from saq.errors import RunningError, UsageError
from saq.job import STATUS_CHANGES, TERMINAL_STATUSES, Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import FAR, claim, counts, status_of

KEY = "job"
FINISHED = ("complete", "failed", "aborted")
STATES = ("queued", "scheduled", "active", "aborting", *FINISHED)

Action = Callable[[Queue, Job], Awaitable[bool | None]]

ACTIONS: dict[str, Action] = {
    "finish": lambda queue, job: queue.finish(job, Status.COMPLETE, result="by hand"),
    "retry": lambda queue, job: queue.retry(job, "again"),
    "abort": lambda queue, job: queue.abort(job, "stop"),
    "update": lambda queue, job: queue.update(job, progress=0.5),
    "delete": lambda queue, job: queue.delete(job.key),
    "requeue": lambda queue, job: queue.requeue(job.key),
    "run_now": lambda queue, job: queue.run_now(job.key),
}

Answer = bool | type[Exception] | None
NOTHING = "missing"

# What each answers, and where the job is after it. A state that is not named stays as it was.
GUEST: dict[str, dict[str, tuple[Answer, str]]] = {
    "finish": {
        "queued": (True, "complete"),
        "scheduled": (True, "complete"),
        "active": (RunningError, "active"),
        "aborting": (RunningError, "aborting"),
        "complete": (False, "complete"),
        "failed": (False, "failed"),
        "aborted": (False, "aborted"),
        NOTHING: (False, NOTHING),
    },
    "retry": {
        "queued": (False, "queued"),
        "scheduled": (False, "scheduled"),
        "active": (RunningError, "active"),
        "aborting": (RunningError, "aborting"),
        "complete": (True, "queued"),
        "failed": (True, "queued"),
        "aborted": (True, "queued"),
        NOTHING: (False, NOTHING),
    },
    "abort": {
        "queued": (True, "aborted"),
        "scheduled": (True, "aborted"),
        "active": (True, "aborting"),
        "aborting": (True, "aborting"),
        "complete": (False, "complete"),
        "failed": (False, "failed"),
        "aborted": (False, "aborted"),
        NOTHING: (False, NOTHING),
    },
    "update": {
        **{state: (None, state) for state in STATES},
        NOTHING: (UsageError, NOTHING),
    },
    "delete": {
        "queued": (True, NOTHING),
        "scheduled": (True, NOTHING),
        "active": (RunningError, "active"),
        "aborting": (RunningError, "aborting"),
        "complete": (True, NOTHING),
        "failed": (True, NOTHING),
        "aborted": (True, NOTHING),
        NOTHING: (False, NOTHING),
    },
    "requeue": {
        "queued": (False, "queued"),
        "scheduled": (False, "scheduled"),
        "active": (RunningError, "active"),
        "aborting": (RunningError, "aborting"),
        "complete": (True, "queued"),
        "failed": (True, "queued"),
        "aborted": (True, "queued"),
        NOTHING: (False, NOTHING),
    },
    "run_now": {
        "queued": (False, "queued"),
        "scheduled": (True, "queued"),
        "active": (False, "active"),
        "aborting": (False, "aborting"),
        "complete": (True, "queued"),
        "failed": (True, "queued"),
        "aborted": (True, "queued"),
        NOTHING: (False, NOTHING),
    },
}
# What the handle that claimed the job may do besides, while it runs.
OWNER: dict[str, dict[str, tuple[Answer, str]]] = {
    "finish": {"active": (True, "complete"), "aborting": (True, "complete")},
    "retry": {"active": (True, "queued"), "aborting": (True, "aborted")},
}

CASES = [
    (role, action, state, *(OWNER.get(action, {}).get(state, expected) if role == "owner" else expected))
    for role in ("guest", "owner")
    for action, states in GUEST.items()
    for state, expected in states.items()
    if not (role == "owner" and state == NOTHING)
]


async def bring_to(state: str, queue: Queue, other: Queue) -> Job:
    """Brings a job into that state; the handle is that of whoever claimed it."""
    await queue.enqueue("f", key=KEY, retries=9, retry_delay=FAR if state == "scheduled" else 0)
    job = await claim(queue)
    match state:
        case "queued" | "scheduled":
            await queue.retry(job, "failed")
        case "aborting":
            await other.abort(job, "first")
        case "complete" | "failed" | "aborted":
            await queue.finish(job, Status(state), error=None if state == "complete" else "over")
    return job


@pytest.mark.parametrize(("role", "action", "state", "answer", "after"), CASES)
async def test_who_may_do_what(
    role: str, action: str, state: str, answer: Answer, after: str, queue: Queue, other: Queue
):
    if state == NOTHING:
        job = Job("f", key=KEY, queue=other)
    else:
        job = await bring_to(state, queue, other)
    by = queue if role == "owner" else other
    if role == "guest" and state != NOTHING:
        found = await other.job(KEY)
        assert found is not None
        job = found
    assert await status_of(other, KEY) == state
    if isinstance(answer, type):
        with pytest.raises(answer) as refused:
            await ACTIONS[action](by, job)
        assert answer is UsageError or "is running" in str(refused.value)
    else:
        assert await ACTIONS[action](by, job) is answer
    assert await status_of(other, KEY) == after

    places = {"queued": "queued", "scheduled": "scheduled", "active": "active", "aborting": "active"}
    place = places.get(after)
    assert await counts(other) == ({place: 1, "incomplete": 1} if place else {})
    if place:
        assert await other.enqueue("f", key=KEY) is None, "its key is taken while it is incomplete"
    else:
        assert await other.enqueue("f", key=KEY) is not None, "its key is free once it has ended"


@pytest.mark.parametrize("action", ["finish", "abort", "retry"])
@pytest.mark.parametrize("state", STATES)
async def test_the_handle_says_what_became_of_the_job(action: str, state: str, queue: Queue, other: Queue):
    job = await bring_to(state, queue, other)
    changed = await ACTIONS[action](queue, job)
    stored = await other.job(KEY)
    assert stored is not None
    if changed and not (action == "abort" and state in ("active", "aborting")):
        # An owner is told of an abort by and by; everything else it has done itself.
        assert job.status is stored.status
        if (action, state) != ("retry", "aborting"):  # the owner may not have been told why
            assert job.error == stored.error
    else:
        assert stored.status.value in (state, "queued", "aborting")


def test_the_table_of_status_changes_says_the_same():
    as_status = {"scheduled": "queued"}
    caused = {
        (Status(as_status.get(state, state)), Status(as_status.get(after, after)))
        for _, action, state, _, after in CASES
        if NOTHING not in (state, after) and state != after and action != "run_now"
    }
    caused.discard((Status.QUEUED, Status.QUEUED))
    assert caused <= STATUS_CHANGES.keys()
    # Enqueue, claim, what only finish with another status or a lost lease brings.
    others = {
        (before, after)
        for before, after in STATUS_CHANGES
        if before is Status.NEW or after in {Status.ACTIVE, *TERMINAL_STATUSES}
    }
    assert STATUS_CHANGES.keys() == caused | others


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL_STATUSES))
async def test_a_job_cannot_finish_as_something_that_is_no_end(status: Status, queue: Queue):
    await queue.enqueue("f", key=KEY)
    job = await claim(queue)
    with pytest.raises(UsageError, match=status.value):
        await queue.finish(job, status)
    assert await status_of(queue, KEY) == "active"


@pytest.mark.parametrize("state", FINISHED)
@pytest.mark.parametrize("action", ["retry", "requeue", "run_now"])
async def test_a_job_that_is_enqueued_again_begins_anew(action: str, state: str, queue: Queue, other: Queue):
    ended = await bring_to(state, queue, other)
    assert ended.attempts == 1
    found = await other.job(KEY)
    assert found is not None
    assert await ACTIONS[action](other, found)
    job = await claim(other)
    assert (job.key, job.function, job.attempts, job.retries) == (KEY, "f", 1, 9)
    assert job.result is None
    assert job.completed == 0
    assert job.retryable
    await other.finish(job, Status.COMPLETE, result="second")
    last = await queue.job(KEY)
    assert last is not None
    assert (last.status, last.result, last.error) == (Status.COMPLETE, "second", None)


@pytest.mark.parametrize("state", ["queued", "scheduled"])
async def test_a_job_that_a_guest_ends_is_never_handed_out(state: str, queue: Queue, other: Queue):
    await bring_to(state, queue, other)
    job = await other.job(KEY)
    assert job is not None
    await other.finish(job, Status.FAILED, error="by hand")
    assert (await queue.step((), 1)).jobs == []
    ended = await queue.job(KEY)
    assert ended is not None
    assert (ended.status, ended.error) == (Status.FAILED, "by hand")
    assert ended.attempts == 1, "what was tried before is not forgotten"
    assert ended.completed > 0


async def test_an_update_of_a_finished_job_keeps_its_outcome(queue: Queue, other: Queue):
    await queue.enqueue("f", key=KEY)
    await queue.finish(await claim(queue), Status.COMPLETE, result=[1, 2])
    job = await other.job(KEY)
    assert job is not None
    await other.update(job, meta={"seen": True})
    await other.update(job, error="looked at")
    last = await queue.job(KEY)
    assert last is not None
    assert (last.status, last.result, last.meta, last.error) == (
        Status.COMPLETE,
        [1, 2],
        {"seen": True},
        "looked at",
    )
