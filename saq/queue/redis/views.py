"""What is read of a queue on Redis to be shown.

Owns which bounded read each view is made of, and what its answer means. Must not change anything but what an
operator asked for: a worker to be quiet, a cron entry to run now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from saq import serializer
from saq._speedups import join_netstrings, key_of, split_netstrings
from saq.errors import DecodeError
from saq.job import TERMINAL_STATUSES, Job, Status
from saq.queue.history import Buckets, History, Sample, add_up
from saq.queue.redis.keys import quoted, unquoted
from saq.queue.redis.records import Records, decode_key, encode_key, encode_text
from saq.queue.redis.session import Session
from saq.queue.views import (
    COUNTERS,
    MOST_FUNCTIONS,
    Attempt,
    Counts,
    CronEntry,
    EntryView,
    Mark,
    Report,
    Running,
    Slice,
    State,
    Views,
    WorkersView,
    WorkerView,
)

if TYPE_CHECKING:
    from saq.queue.base import Queue

#: Bytes of jobs after which a slice has enough.
ENOUGH = 1_000_000
#: Jobs that are read in one call, where the list is not the server's own.
PART = 50
#: And so many, where all that is wanted of them is a word.
FEW = 10
#: Of running jobs so many are looked at: those whose leases end first.
MOST_ACTIVE = 5_000
MOST_WORKERS = 500
MOST_RUNNING = 1_000
#: What `read` says of a job beside its value if it was never claimed.
_NEVER_RUN = (None, 0, 0, 0, 0, 0, b"", None, None)


class RedisViews(Views):
    """Reads for those who look at a queue.

    Args:
        queue: which one.
        session: the connections of the running loop.
        prefix: of the queue's keys.
        records: makes jobs of what is read.
    """

    def __init__(self, queue: Queue, session: Callable[[], Session], prefix: str, records: Records) -> None:
        self._queue = queue
        self._session = session
        self._prefix = prefix
        self._records = records

    async def counts(self) -> Counts:
        answer = await self._session().run("counts")
        now, queued, scheduled, active, finished, failed, incomplete, paused, due, oldest, workers = answer[
            :11
        ]
        stats = dict(zip(COUNTERS, answer[11:], strict=True))
        return Counts(
            now, queued, scheduled, active, finished, failed, incomplete, paused, due, oldest, workers, stats
        )

    async def browse(
        self, state: State, after: Mark | None = None, *, look: int = 100, find: int = 100
    ) -> Slice:
        if state == "active":
            return await self._browse_active(after, look, find)
        score, key = after or (b"", b"")
        answer = await self._session().run("browse", state, score, key, look, find, ENOUGH)
        now, total, position = answer[:3]
        looked = (len(answer) - 3) // 3
        jobs: list[tuple[Job, Mark, int]] = []
        for n in range(looked):
            place = Mark(answer[3 * n + 3], answer[3 * n + 4])
            if entry := answer[3 * n + 5]:
                jobs.append((self._stored(decode_key(place.key), entry), place, n + 1))
        end = None
        if looked and position + looked < total:
            end = Mark(answer[-3], answer[-2])
        return Slice(now, total, position, looked, jobs, end)

    async def _browse_active(self, after: Mark | None, look: int, find: int) -> Slice:
        """Leases change all the time, the fence of a claim does not: so running jobs are in its order."""
        session = self._session()
        active = f"{self._prefix}active"
        clock, total, members = await asyncio.gather(
            session.wire.call("TIME"),
            session.wire.call("ZCARD", active),
            session.wire.call("ZRANGE", active, 0, MOST_ACTIVE - 1),
        )
        members.sort(key=_claim_order)
        position = 0
        if after is not None:
            place = _claim_order(after.key)
            position = sum(1 for member in members if _claim_order(member) <= place)
        jobs: list[tuple[Job, Mark, int]] = []
        looked = size = 0
        wanted = members[position : position + look]
        while looked < len(wanted) and len(jobs) < find and size < ENOUGH:
            part = wanted[looked : looked + PART]
            keys = [key_of(member) for member in part]
            entries = await self._read(keys)
            for member, key, entry in zip(part, keys, entries, strict=True):
                looked += 1
                if entry and entry[0] == b"active":
                    size += len(entry[1])
                    jobs.append((self._stored(key, entry), Mark(b"0", member), looked))
                    if len(jobs) == find or size >= ENOUGH:
                        break
        end = Mark(b"0", wanted[looked - 1]) if looked and position + looked < len(members) else None
        now = int(clock[0]) * 1000 + int(clock[1]) // 1000
        return Slice(now, total, position, looked, jobs, end)

    def _stored(self, key: str, entry: list[Any]) -> Job:
        try:
            return self._records.stored(key, entry)
        except DecodeError as error:
            return Job("", key=key, queue=self._queue, status=Status.FAILED, error=str(error))

    async def incomplete(self, offset: int, limit: int) -> list[Job]:
        answer = await self._session().run("info", offset, limit)
        return [job for job in await self.jobs([decode_key(key) for key in answer[6]]) if job is not None]

    async def jobs(self, keys: Sequence[str]) -> list[Job | None]:
        found: list[Job | None] = []
        for i in range(0, len(keys), PART):
            part = keys[i : i + PART]
            entries = await self._read(part)
            found += [
                self._stored(key, entry) if entry else None for key, entry in zip(part, entries, strict=True)
            ]
        return found

    async def functions_of(self, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        size = 0
        for i in range(0, len(keys), FEW):
            part = keys[i : i + FEW]
            for key, entry in zip(part, await self._read(part), strict=True):
                if entry:
                    size += len(entry[1])
                    found[key] = str(self._stored(key, entry).function)
            if size >= ENOUGH:
                break
        return found

    async def _read(self, keys: Iterable[str]) -> list[Any]:
        entries: list[Any] = await self._session().run("read", "", *map(encode_key, keys))
        return entries

    async def workers(self) -> WorkersView:
        now, known, running = await self._session().run("workers", MOST_WORKERS, MOST_RUNNING)
        workers = [
            WorkerView(
                unquoted(id.decode()),
                serializer.loads(info),
                serializer.loads(about) if about else {},
                int(seen),
                int(expires),
                int(reported or 0),
                int(quiet or 0),
            )
            for id, expires, info, seen, about, reported, quiet in _rows(known, 7)
        ]
        jobs = [
            Running(key_of(member), unquoted(worker.decode()), started, int(leased))
            for member, leased, worker, started in _rows(running, 4)
        ]
        return WorkersView(now, workers, jobs, partial=len(jobs) == MOST_RUNNING)

    async def functions(self) -> list[str]:
        session = self._session()
        now = int((await session.wire.call("TIME"))[0]) * 1000
        names = await session.wire.call(
            "ZRANGEBYSCORE", f"{self._prefix}functions", f"({now}", "+inf", "LIMIT", 0, MOST_FUNCTIONS
        )
        return sorted(name.decode("utf-8", "replace") for name in names)

    async def schedule(self) -> list[EntryView]:
        session = self._session()
        _, *kinds = await session.run("schedule", MOST_WORKERS)
        entries: dict[str, tuple[CronEntry, int]] = {}
        for blob, count in _rows(kinds, 2):
            for entry in self._entries(blob):
                known = entries.get(entry.name)
                entries[entry.name] = (entry, count + (known[1] if known else 0))
        if not entries:
            return []
        ticks = await session.wire.call("ZMSCORE", f"{self._prefix}cron", *map(encode_text, entries))
        return [
            EntryView(entry, int(float(tick or 0)), workers)
            for (entry, workers), tick in zip(entries.values(), ticks, strict=True)
        ]

    def _entries(self, blob: bytes) -> Iterable[CronEntry]:
        for name, cron, timezone, unique, key, value in _rows(split_netstrings(blob), 6):
            job = self._stored(decode_key(key), [b"queued", b"0" + value, *_NEVER_RUN])
            yield CronEntry(_text(name), _text(cron), _text(timezone), unique == b"1", job)

    async def report(self, worker_id: str, report: Report) -> bool:
        """Hands in the report of a registered worker; whether it shall take no jobs at present."""
        rows: list[bytes] = []
        for entry in report.entries:
            rows += [
                encode_text(entry.name),
                encode_text(entry.cron),
                encode_text(entry.timezone),
                b"1" if entry.unique else b"",
                encode_key(entry.job.key),
                self._records.value(entry.job),
            ]
        functions: list[Any] = []
        for name, (failed, runs) in report.functions.items():
            functions += [encode_text(name), failed, _counted(runs)]
        (quiet,) = await self._session().calls.call(
            "report",
            quoted(worker_id),
            serializer.dumps(dict(report.about), "about"),
            join_netstrings(rows),
            _counted(report.waits),
            *functions,
        )
        return bool(quiet)

    def attempts(self, job: Job) -> list[Attempt]:
        attempts = []
        for row in split_netstrings(job._past):
            number, started, ended, worker, outcome, error = split_netstrings(row)
            attempts.append(
                Attempt(
                    int(number),
                    int(started),
                    int(ended),
                    unquoted(worker.decode()),
                    outcome.decode(),
                    error.decode("utf-8", "ignore"),
                )
            )
        latest = attempts[-1].number if attempts else 0
        over = job.status in TERMINAL_STATUSES
        if job.started and job.attempts > latest:
            attempts.append(
                Attempt(
                    job.attempts,
                    job.started,
                    job.completed if over else 0,
                    job.worker_id or "",
                    job.status.value if over else "",
                    (job.error or "") if over else "",
                )
            )
        return attempts

    async def quiet(self, worker_id: str, seconds: float) -> int | None:
        _, until = await self._session().run("quiet", quoted(worker_id), int(seconds))
        return None if until < 0 else int(until)

    async def history(self, hours: Iterable[int]) -> History:
        wire = self._session().wire
        wanted = list(hours)
        found = await asyncio.gather(*(wire.call("HGETALL", f"{self._prefix}hour:{hour}") for hour in wanted))
        history = History([], {}, {}, {})
        for hour, fields in zip(wanted, found, strict=True):
            _read_hour(history, hour * 60, fields)
        history.samples.sort()
        return history


def _read_hour(history: History, first_minute: int, fields: Any) -> None:
    """Adds what is written down of an hour."""
    for name, text in _rows(_flat(fields), 2):
        kind = name[:1]
        if kind == b"s":
            numbers = [int(number) for number in text.split()]
            history.samples.append(Sample(numbers[0], tuple(numbers[1:7]), *numbers[7:10]))
        elif kind in (b"w", b"r"):
            (history.waits if kind == b"w" else history.runs)[first_minute + int(name[1:])] = _buckets(text)
        elif name.startswith(b"f:"):
            failed, _, runs = text.partition(b" ")
            function = _text(name[2:])
            before_failed, before = history.functions.get(function, (0, {}))
            sums = dict(before)
            add_up(sums, _buckets(runs))
            history.functions[function] = (before_failed + int(failed), sums)


def _flat(fields: Any) -> Sequence[Any]:
    """A hash is a list of names and values, or a mapping where the connection speaks RESP3."""
    return [part for pair in fields.items() for part in pair] if isinstance(fields, dict) else fields


def _rows(parts: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    return (parts[i : i + width] for i in range(0, len(parts), width))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _claim_order(member: bytes) -> tuple[int, bytes]:
    """The fence goes up with time; a longer one is a higher one."""
    return member.find(b":"), member


def _buckets(text: bytes) -> Buckets:
    pairs = (pair.split(b":") for pair in text.split())
    return {int(bucket): int(count) for bucket, count in pairs}


def _counted(buckets: Buckets) -> str:
    return " ".join(f"{bucket}:{count}" for bucket, count in buckets.items())
