"""What a queue is meant to be, without Redis.

Owns the rules of every transition as plain Python over a dict of jobs. Knows nothing of keys, scripts or
bytes that Redis holds. Time is a span, as only the server knows the exact millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: Earliest and latest millisecond that a time can be.
Span = tuple[int, int]
#: Priority, then when it came to stand there. The lower is claimed first.
Order = tuple[int, int]
Patch = dict[bytes, bytes]

DEFAULT_TTL, DEFAULT_RETRIES = 600.0, 1
WEEK_MS = 7 * 86_400_000
TOUCHED = b"touched"
OVERTIME = b"timed out: still running when its lease ended, past its timeout of %b s; its worker was %b"
LOST = b"lost: %d workers died or were cut off while they ran this job (max_lost); the last was %b"


class Settlement(NamedTuple):
    """What a worker says of a claim.

    Kind is C, F, A (an end), R (tried again), G (given back), U (function unknown) or N (not started).
    """

    member: bytes
    kind: str
    outcome: bytes = b""
    #: Of an end; of R and G the error; of U the name of the function.
    text: bytes | None = None
    patch: tuple[tuple[bytes, bytes], ...] = ()
    delay: int = 0
    attempts: int = 1
    started: int = 1
    worker: str = ""


class Past(NamedTuple):
    """An attempt that did not end its job."""

    attempt: int
    started: Span
    ended: Span
    worker: str
    how: str
    error: bytes


PAST_KEPT, PAST_ERROR_KEPT = 10, 1000


@dataclass
class Run:
    """The history of an incomplete job that was claimed at least once."""

    order: Order
    token: int
    started: Span
    worker: str
    attempts: int = 1
    charged: int = 0
    lost: int = 0
    abort: bytes | None = None
    error: bytes | None = None
    overtime: bool = False
    past: list[Past] = field(default_factory=list)

    def remember(self, how: str, now: Span, error: bytes = b"") -> None:
        """The attempt has ended, and the job has not."""
        past = Past(self.attempts, self.started, now, self.worker, how, error[-PAST_ERROR_KEPT:])
        self.past = [*self.past, past][-PAST_KEPT:]


@dataclass
class Job:
    """An incomplete job. It is in one place, and `place` says it."""

    key: bytes
    header: dict[str, str]
    payload: bytes
    queued: Span
    place: str = "queued"
    order: Order = (0, 0)
    due: Span = (0, 0)
    #: Whether its lease has ended, without anybody having noticed.
    expired: bool = False
    run: Run | None = None
    patch: Patch = field(default_factory=dict)
    waiting: list[bytes] = field(default_factory=list)
    #: Settlements that were accepted as the end of this life.
    ends: int = 0

    @property
    def priority(self) -> int:
        return int(self.header.get("p", 0))

    @property
    def member(self) -> bytes:
        assert self.run is not None
        return b"%d:%b" % (self.run.token, self.key)

    @property
    def history(self) -> list[object] | int:
        """What a claim says of the time before it."""
        assert self.run is not None
        run = self.run
        if run.attempts == 1 and not self.patch:
            return 0
        return [run.attempts, run.charged, run.lost, run.error, self.patch or None]


@dataclass
class Record:
    """A finished job."""

    header: dict[str, str]
    payload: bytes
    queued: Span
    status: str
    outcome: bytes
    error: bytes
    patch: Patch
    completed: Span
    attempts: int = 0
    started: Span = (0, 0)
    worker: str = ""
    past: list[Past] = field(default_factory=list)
    #: How long it is to be kept (ms; 0: for ever), and for how long it has been.
    keep: float = 0
    age: int = 0


@dataclass
class Claimed:
    """The answer of a step."""

    due: Span | None
    state: str
    verdicts: str
    jobs: list[Job]


ENDS = {"C": "complete", "F": "failed", "A": "aborted"}


@dataclass
class Model:
    """The queue."""

    jobs: dict[bytes, Job] = field(default_factory=dict)
    records: dict[bytes, Record] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    cron: dict[bytes, int] = field(default_factory=dict)
    #: Function -> 'known', 'recent' or 'old': how long ago a live worker knew it.
    functions: dict[bytes, str] = field(default_factory=dict)
    workers: set[str] = field(default_factory=set)
    #: Failed jobs that went without a sweep: they are in a list still.
    unswept: set[bytes] = field(default_factory=set)
    #: Since one of them went, the bytes of that list are known only once it is empty.
    estimated: bool = False
    watching: dict[bytes, list[bytes]] = field(default_factory=dict)
    #: Who has an answer kept for them.
    clients: set[str] = field(default_factory=set)
    paused: bool = False
    #: Nobody has stepped for long; and whether leases are left alone because of that.
    away: bool = True
    calm: bool = False
    token: int = 0
    arrivals: int = 0
    deleted: int = 0
    now: Span = (0, 0)
    #: Messages of the current transition: channel, kind, key, data.
    mail: list[tuple[bytes, bytes, bytes, bytes]] = field(default_factory=list)
    #: Workers that took the marker, and have not looked since.
    awake: set[str] = field(default_factory=set)
    #: Somebody looked and could take nothing of what is there.
    blocked: bool = False

    # -- looking ------------------------------------------------------------------------------------------

    def place(self, key: bytes) -> str:
        if key in self.jobs:
            return self.jobs[key].place
        return "finished" if key in self.records else "missing"

    def at(self, place: str) -> list[Job]:
        """The jobs in one place, in its order."""
        found = [job for job in self.jobs.values() if job.place == place]
        if place == "queued":
            return sorted(found, key=lambda job: job.order)
        return sorted(found, key=lambda job: (job.due, job.key))

    def holder(self, member: bytes) -> Job | None:
        """The job whose running attempt this is."""
        token, _, key = member.partition(b":")
        job = self.jobs.get(key)
        if job is None or job.place != "active" or job.run is None or job.run.token != int(token):
            return None
        return job

    def claims_of(self, members: Iterable[bytes]) -> list[Job]:
        return [job for job in map(self.holder, members) if job is not None]

    def may_expire(self) -> bool:
        """Whether leases that have ended count as such. After an outage they do not, for one lease."""
        if self.away and self.at("active"):
            self.calm = True
        self.away = False
        return not self.calm

    def is_past(self, time: Span) -> bool:
        assert time[1] <= self.now[0] or time[0] > self.now[1], "too close to tell"
        return time[1] <= self.now[0]

    # -- pieces -------------------------------------------------------------------------------------------

    def _count(self, name: str, by: int = 1) -> None:
        self.stats[name] = self.stats.get(name, 0) + by

    def _arrive(self, job: Job) -> Order:
        self.arrivals += 1
        return (job.priority, self.arrivals)

    def _announce(self, key: bytes, status: str) -> None:
        for channel in self.watching.get(key, ()):
            self.mail.append((channel, b"event", key, status.encode()))

    def _queue(self, job: Job, order: Order) -> None:
        job.place, job.order, job.due, job.expired = "queued", order, (0, 0), False

    def _insert(self, key: bytes, header: dict[str, str], payload: bytes) -> bool:
        if key in self.jobs:
            return False
        job = self.jobs[key] = Job(key, dict(header), payload, self.now)
        due = int(float(header.get("s", 0)) * 1000)
        if due and not self.is_past((due, due)):
            job.place, job.due = "scheduled", (due, due)
            # It takes its place in the order when it is due.
        else:
            job.order = self._arrive(job)
        self._count("enqueued")
        self._announce(key, "queued")
        return True

    def _end(
        self,
        job: Job,
        status: str,
        outcome: bytes = b"",
        error: bytes | None = None,
        patch: Patch | None = None,
        run: tuple[int, Span, str] | None = None,
    ) -> None:
        assert not job.ends, "a second end of one life"
        job.ends += 1
        if run is None and job.run is not None:
            run = job.run.attempts, job.run.started, job.run.worker
        attempts, started, worker = run or (0, (0, 0), "")
        ttl = float(job.header.get("t", DEFAULT_TTL))
        self.records.pop(job.key, None)
        if ttl >= 0:
            self.records[job.key] = Record(
                job.header,
                job.payload,
                job.queued,
                status,
                outcome,
                error or b"",
                job.patch | (patch or {}),
                self.now,
                attempts,
                started,
                worker,
                job.run.past if job.run is not None else [],
                keep=max(ttl * 1000, WEEK_MS if ttl and status == "failed" else 0),
            )
        self.unswept.discard(job.key)
        for channel in job.waiting:
            self.mail.append((channel, b"done", job.key, status.encode()))
        del self.jobs[job.key]
        self._count(status)
        self._announce(job.key, status)

    def _promote(self) -> list[bytes]:
        promoted = [job for job in self.at("scheduled") if self.is_past(job.due)]
        for job in promoted:
            self._queue(job, job.run.order if job.run is not None else self._arrive(job))
        return [job.key for job in promoted]

    def _expire(self, max_lost: int, message: bytes) -> list[bytes]:
        swept = [job for job in self.at("active") if job.expired]
        for job in swept:
            run = job.run
            assert run is not None
            if run.abort is not None:
                self._end(job, "aborted", error=run.abort)
            elif run.overtime:
                run.charged += 1
                run.error = OVERTIME % (job.header.get("T", "10").encode(), run.worker.encode())
                if run.charged >= int(job.header.get("r", DEFAULT_RETRIES)):
                    self._end(job, "failed", error=run.error)
                else:
                    self._take_back(job, run, "overtime", run.error)
            else:
                run.lost += 1
                self._count("lost")
                if run.lost >= max_lost:
                    reason = message or LOST % (run.lost, run.worker.encode())
                    self._end(job, "failed", error=reason)
                else:
                    self._take_back(job, run, "lost")
        return [job.key for job in swept]

    def _take_back(self, job: Job, run: Run, how: str, error: bytes = b"") -> None:
        run.remember(how, self.now, error)
        self._queue(job, run.order)
        self._announce(job.key, "queued")

    def _put_back(self, job: Job, settlement: Settlement) -> str:
        run = job.run
        assert run is not None
        delay: Span = (settlement.delay, settlement.delay)
        if run.abort is not None:
            self._end(job, "aborted", error=run.abort)
            return "a"
        if settlement.kind == "R":
            run.charged += 1
            run.error = settlement.text
            self._count("retried")
            run.order = self._arrive(job)
        elif settlement.kind == "U":
            name = settlement.text or b""
            seen = self.functions.setdefault(name, "recent")
            if seen == "old":
                reason = b"unknown function: no live worker has known %b for a minute" % name
                self._end(job, "failed", error=reason)
                return "f"
            if seen == "known":
                delay = (min(settlement.delay, 50),) * 2
            run.order = self._arrive(job)
        elif settlement.kind == "N":
            run.attempts -= 1
        else:
            run.error = settlement.text
        if settlement.kind in "RG":
            run.remember(
                "retried" if settlement.kind == "R" else "returned", self.now, settlement.text or b""
            )
        if run.attempts == 0:
            job.run = None
        if delay[0]:
            job.place, job.expired = "scheduled", False
            job.due = self.now[0] + delay[0], self.now[1] + delay[1]
        else:
            self._queue(job, run.order)
        self._announce(job.key, "queued")
        return "1"

    # -- transitions: each returns what is to be answered ---------------------------------------------------

    def enqueue(
        self, items: Sequence[tuple[bytes, dict[str, str], bytes]], waits: Sequence[bool], channel: bytes
    ) -> str:
        verdicts = "".join("01"[self._insert(*item)] for item in items)
        for (key, _, _), wait in zip(items, waits, strict=True):
            if wait:
                self.wait(key, channel)
        return verdicts

    def wait(self, key: bytes, channel: bytes) -> None:
        job = self.jobs.get(key)
        if job is not None and channel not in job.waiting:
            job.waiting.append(channel)

    def step(
        self,
        worker: str,
        want: int,
        max_lost: int,
        suspect_allowed: bool,
        message: bytes,
        done: Sequence[Settlement],
        token: int | None,
    ) -> Claimed:
        """`token` is what the server gave; None if it claimed nothing."""
        self.awake.discard(worker)
        mine = [self.holder(settlement.member) for settlement in done]
        verdicts = ""
        for job, settlement in zip(mine, done, strict=True):
            if job is None:
                verdicts += "0"
            elif settlement.kind in ENDS:
                started = (settlement.started, settlement.started)
                self._end(
                    job,
                    ENDS[settlement.kind],
                    settlement.outcome,
                    settlement.text,
                    dict(settlement.patch),
                    (settlement.attempts, started, settlement.worker),
                )
                verdicts += "1"
            else:
                verdicts += self._put_back(job, settlement)
        if self.may_expire():
            self._expire(max_lost, message)
        self._promote()
        due = min((job.due for job in self.at("scheduled")), default=None)
        claimed: list[Job] = []
        if not self.paused:
            for job in self.at("queued"):
                if len(claimed) == want:
                    break
                if job.run is not None and job.run.lost:
                    if not suspect_allowed:
                        continue
                    suspect_allowed = False
                claimed.append(job)
        if claimed:
            assert token is not None
            assert token > self.token, "a token only goes up"
            self.token = token
        for job in claimed:
            assert token is not None
            if job.run is None:
                job.run = Run(job.order, token, self.now, worker)
            else:
                run = job.run
                run.attempts += 1
                run.order, run.token, run.started, run.worker = job.order, token, self.now, worker
                run.overtime = False
            job.place, job.expired = "active", False
            self._announce(job.key, "active")
        left = bool(self.at("queued"))
        self.blocked = left and not claimed and want > 0 and not self.paused
        return Claimed(due, "p" if self.paused else "+" if left else "", verdicts, claimed)

    def sweep(self, max_lost: int, message: bytes, what: str) -> tuple[list[bytes], list[bytes]]:
        swept = self._expire(max_lost, message) if what != "due" and self.may_expire() else []
        promoted = self._promote() if what != "leases" else []
        if what == "all":
            outlived = [
                key for key, record in self.records.items() if record.keep and record.age > record.keep
            ]
            for key in outlived:
                del self.records[key]
            self.unswept.clear()
        return swept, promoted

    def finish(
        self, key: bytes, status: str, outcome: bytes, error: bytes | None, patch: Patch | None = None
    ) -> str:
        place = self.place(key)
        if place in ("queued", "scheduled"):
            self._end(self.jobs[key], status, outcome, error, patch)
        return place

    def abort(self, key: bytes, why: bytes) -> tuple[str, str]:
        place = self.place(key)
        if place == "active":
            job = self.jobs[key]
            run = job.run
            assert run is not None
            if run.abort is None:
                run.abort = why
                self._announce(key, "aborting")
            self.mail.append((b"control:" + run.worker.encode(), b"abort", job.member, run.abort))
            return place, run.worker
        if place in ("queued", "scheduled"):
            self._end(self.jobs[key], "aborted", error=why)
        return place, ""

    def delete(self, key: bytes) -> str:
        place = self.place(key)
        if place in ("queued", "scheduled"):
            job = self.jobs.pop(key)
            self.deleted += 1
            for channel in job.waiting:
                self.mail.append((channel, b"deleted", key, b""))
        if place != "active":
            self.records.pop(key, None)
            if place != "missing":
                self.unswept.discard(key)
        return place

    def revive(self, key: bytes, now: bool) -> str:
        place = self.place(key)
        if place == "scheduled" and now:
            job = self.jobs[key]
            job.header = {tag: text for tag, text in job.header.items() if tag != "s"}
            self._queue(job, self._arrive(job))
        elif place == "finished":
            record = self.records.pop(key)
            header = {tag: text for tag, text in record.header.items() if tag != "s"}
            job = self.jobs[key] = Job(key, header, record.payload, self.now, patch=record.patch)
            job.order = self._arrive(job)
            self._count("enqueued")
            self._announce(key, "queued")
        return place

    def update(self, key: bytes, member: bytes, header: dict[str, str], patch: Patch) -> tuple[str, bytes]:
        if member and self.holder(member) is None:
            return "stale", b""
        place = self.place(key)
        changes = patch | {TOUCHED: b"%d-%d" % self.now}
        run = None
        if place == "finished":
            record = self.records[key]
            record.patch = record.patch | changes
            record.header = record.header | header
            self._announce(key, record.status)
        elif place != "missing":
            job = self.jobs[key]
            job.patch = job.patch | changes
            job.header = job.header | header
            run = job.run
            aborting = run is not None and run.abort is not None
            self._announce(key, "queued" if place != "active" else "aborting" if aborting else "active")
        return place, (run and run.abort) or b""

    def renew(self, members: Sequence[bytes]) -> tuple[list[bytes], list[bytes], list[bytes]]:
        self.may_expire()
        held = self.claims_of(members)
        for job in held:
            job.expired = False
        lost = [member for member in members if self.holder(member) is None]
        reasons = {job.member: job.run.abort for job in held if job.run and job.run.abort is not None}
        return lost, list(reasons), list(reasons.values())

    def overtime(self, members: Sequence[bytes]) -> None:
        for job in self.claims_of(members):
            assert job.run is not None
            job.run.overtime = True

    def tick(self, entry: bytes, tick: int, key: bytes, header: dict[str, str], payload: bytes) -> str:
        last = self.cron.get(entry)
        if last is None:
            self.cron[entry] = tick
            return "first"
        if tick <= last or not self.is_past((tick, tick)):
            return "done"
        self.cron[entry] = tick
        return "enqueued" if self._insert(key, header, payload) else "running"
