"""A worker process that is stopped for longer than its lease and wakes up: a zombie. It is told, its job is
cancelled there, and what it makes of it counts for nothing. (One whose event loop is blocked keeps its lease:
tests/worker/test_lifecycle.py.)"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saq.job import Status
from saq.queue.redis import RedisQueue
from tests.faults.work import NOTES
from tests.processes import Command
from tests.worker.support import ended, enqueue, until

LEASE = 1.5
Start = Callable[[], Command]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def start(redis_url: str, notes: Path) -> Iterator[Start]:
    started: list[Command] = []

    def command() -> Command:
        env = {
            NOTES: str(notes),
            "SAQ_TEST_URL": redis_url,
            "SAQ_TEST_SETTINGS": json.dumps({"lease": LEASE, "concurrency": 1}),
        }
        started.append(Command("-m", "saq", "-v", "tests.faults.work.settings", env=env))
        return started[-1]

    yield command
    for process in started:
        process.close()


def said(notes: Path, what: str) -> list[str]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [line for line in lines if line.startswith(what)]


@pytest.mark.parametrize("function", ["patient", "deaf"])
async def test_a_worker_that_wakes_up_too_late_is_told_and_changes_nothing(
    function: str, client: RedisQueue, start: Start, notes: Path
):
    zombie = start()
    job = await enqueue(client, function, timeout=0)
    await until(lambda: said(notes, "starts"), timeout=15)
    zombie.send(signal.SIGSTOP)
    healthy = start()
    await until(lambda: len(said(notes, "starts")) == 2, timeout=15, why=healthy.text)
    zombie.send(signal.SIGCONT)
    await until(lambda: f"cancelled 1 {zombie.pid}" in said(notes, "cancelled"))
    await zombie.says("Lost the lease of")
    end = await ended(client, job, timeout=15)
    assert (end.status, end.result, end.attempts) == (Status.COMPLETE, healthy.pid, 2)
    if function == "deaf":
        await until(lambda: f"ends 1 {zombie.pid}" in said(notes, "ends"))
    # What it had to say of the job is not heard, now or later, and it works on.
    healthy.send(signal.SIGTERM)
    assert await healthy.end() == 0
    again = await enqueue(client, "patient", timeout=0.1, retries=2)
    assert (await ended(client, again, timeout=15)).result == zombie.pid
    await end.refresh()
    assert (end.status, end.result, end.attempts) == (Status.COMPLETE, healthy.pid, 2)
    assert len(said(notes, "starts")) == 4
    zombie.send(signal.SIGTERM)
    assert await zombie.end() == 0
