"""Whether anything was lost.

Owns the invariants. Reads the journals of all processes and what is in Redis, and says what does not fit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saq.job import TERMINAL_STATUSES, Job, Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.keys import EXPLAINED
from tests.chaos.journal import read

#: What must be gone when all is done.
EMPTY = ("jobs", "queued", "scheduled", "active", "runs", "patch", "waiting", "watching")


class Evidence:
    """What all processes wrote down, and what Redis holds in the end."""

    def __init__(self, folder: Path, queue: RedisQueue) -> None:
        self.produced: dict[str, set[str]] = defaultdict(set)
        self.told: dict[str, dict[str, Any]] = {}
        for entry in read(folder, "produce"):
            self.produced[entry.what].add(entry.key)
            if entry.what == "told":
                self.told[entry.key] = entry.more
        self.starts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        for entry in read(folder, "work"):
            (self.starts if entry.what == "start" else self.ends)[entry.key] += 1
        self.jobs: dict[str, Job] = {}
        self.lengths: dict[str, int] = {}
        self.names: list[str] = []
        self.stats: dict[str, int] = {}
        asyncio.run(self._read(queue))

    async def _read(self, queue: RedisQueue) -> None:
        async for job in queue.iter_jobs():
            self.jobs[job.key] = job
        prefix = queue._prefix
        wire = queue._session.wire
        commands = {"hash": "HLEN", "zset": "ZCARD"}
        for name in EMPTY:
            self.lengths[name] = await wire.call(commands[EXPLAINED[name][0]], f"{prefix}{name}")
        rows = await wire.call("HGETALL", f"{prefix}stats")
        self.stats = {rows[i].decode(): int(rows[i + 1]) for i in range(0, len(rows), 2)}
        self.names = [name.decode()[len(prefix) :] for name in await wire.call("KEYS", "*")]
        await queue.disconnect()


def faults(evidence: Evidence, happened: Counter[str]) -> Iterator[str]:
    """Everything that does not fit, a line each."""
    yield from _lost(evidence)
    yield from _outcomes(evidence)
    yield from _waiters(evidence)
    yield from _runs(evidence, happened)
    yield from _left_over(evidence)


def _function(key: str) -> str:
    return key.rpartition("-")[2]


def _lost(evidence: Evidence) -> Iterator[str]:
    for key in evidence.produced["acknowledged"] | evidence.told.keys():
        job = evidence.jobs.get(key)
        if job is None:
            yield f"lost: {key} was acknowledged and is nowhere"
        elif job.status not in TERMINAL_STATUSES:
            yield f"lost: {key} was acknowledged and never ended: {job.status.value}"
    for key in evidence.produced["refused"]:
        yield f"refused: {key} is new, and was called a duplicate"
    known = evidence.produced["intent"]
    for key in evidence.starts:
        if key not in known and not key.startswith("cron:"):
            yield f"from nowhere: {key} ran and nobody has enqueued it"


def _outcomes(evidence: Evidence) -> Iterator[str]:
    for key, job in evidence.jobs.items():
        function = _function(key)
        if key.startswith("cron:"):
            continue
        expected = Status.FAILED if function in ("doomed", "deadly") else Status.COMPLETE
        if job.status is not expected:
            # A worker that is killed again and again while it runs the same job is the job's fault, as far
            # as anybody can tell.
            if job.status is Status.FAILED and job.error and job.error.startswith("lost:"):
                continue
            yield f"outcome: {key} is {job.status.value}, not {expected.value}: {(job.error or '')[-200:]}"
        elif expected is Status.COMPLETE and job.result != int(key.split("-")[1]) * 2:
            yield f"outcome: {key} has the result {job.result!r}"
        if function == "deadly" and evidence.starts[key] > 3:
            yield f"max_lost: {key} killed {evidence.starts[key]} workers"


def _waiters(evidence: Evidence) -> Iterator[str]:
    for key in evidence.produced["waits"]:
        if key not in evidence.told and key not in evidence.produced["untold"]:
            yield f"waiter: {key} was waited for, and nobody was told"
    for key, more in evidence.told.items():
        job = evidence.jobs.get(key)
        if job is not None and "result" in more and job.result != more["result"]:
            yield f"waiter: {key} was told {more['result']!r}, and the result is {job.result!r}"


def _runs(evidence: Evidence, happened: Counter[str]) -> Iterator[str]:
    disturbed = sum(happened.values())
    extra = 0
    for key, starts in evidence.starts.items():
        allowed = {"flaky": 3, "deadly": 3}.get(_function(key), 1)
        extra += max(0, starts - allowed)
        job = evidence.jobs.get(key)
        if job is not None and job.status is Status.COMPLETE and not evidence.ends[key]:
            yield f"runs: {key} is complete, and no run of it ended"
    if extra and not disturbed:
        yield f"runs: {extra} more than jobs, and nothing was broken"
    # A fault takes what a worker or two had in hand.
    if extra > 40 * disturbed:
        yield f"runs: {extra} more than jobs for {disturbed} faults"


def _left_over(evidence: Evidence) -> Iterator[str]:
    for name, length in evidence.lengths.items():
        if length:
            yield f"left over: {name} holds {length}"
    kinds = {name.partition("<")[0] for name in EXPLAINED}
    for name in evidence.names:
        if name not in EXPLAINED and not any(name.startswith(kind) for kind in kinds if kind.endswith(":")):
            yield f"left over: the key {name}"
    for status in (Status.COMPLETE, Status.FAILED):
        kept = sum(job.status is status for job in evidence.jobs.values())
        counted = evidence.stats.get(status.value, 0)
        if kept != counted:
            yield f"counters: {counted} jobs were counted as {status.value}, and {kept} are"
