"""The jobs that this process has claimed.

Owns claiming and settling on Redis: which jobs are held, by which fence, for whom, and what the answer of a
step means for them. Must not run a job.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from saq._speedups import key_of, pack_end
from saq.errors import DecodeError, StaleError
from saq.job import Job, Status
from saq.queue.backend import Claimant, Settlement, Step
from saq.queue.base import Queue
from saq.queue.redis import keys as names
from saq.queue.redis.records import CLAIMS_FROM, LATEST, Records, encode_text
from saq.queue.redis.session import Session
from saq.queue.redis.wire import PATIENCE

logger = logging.getLogger("saq")

DEFAULT_LEASE = 30.0
DEFAULT_MAX_LOST = 3

_FINISH = {Status.COMPLETE: b"C", Status.FAILED: b"F", Status.ABORTED: b"A"}
_ACCEPTED, _STALE, _ABORTED, _FAILED = b"10af"


class Claims:
    """What is held, and the steps that change it.

    Args:
        queue: whose jobs; its counters count what was settled.
        session: the connections of the running loop.
        prefix: of the queue's keys.
        records: makes jobs of what is claimed.
        lost_message: what a job says that failed because its workers died; "" for the reason itself.
    """

    def __init__(
        self,
        queue: Queue,
        session: Callable[[], Session],
        prefix: str,
        records: Records,
        lost_message: str,
    ) -> None:
        self._queue = queue
        self._session = session
        self._prefix = prefix
        self._records = records
        self._lost_message = lost_message
        #: Jobs that are claimed and not settled, by key.
        self.held: dict[str, Job] = {}
        #: Those of them that lost a worker before.
        self._suspects: set[str] = set()
        #: The workers of this queue object; the latest one gives its name to what is claimed.
        self._claimants: list[Claimant] = []
        self._claimant: Claimant | None = None
        self._anonymous = f"client-{secrets.token_hex(6)}"
        #: Aborts of jobs whose claim is under way: the message may overtake the answer.
        self._early_aborts: dict[bytes, str] = {}
        self._claiming = 0
        self.lease = DEFAULT_LEASE
        self.max_lost = DEFAULT_MAX_LOST

    def forget(self, forked: bool = False) -> None:
        """Holds nothing any more: a new loop, or a new process, or the connections were closed."""
        self.held.clear()
        self._suspects.clear()
        if forked:
            self._anonymous = f"client-{secrets.token_hex(6)}"

    async def attach(self, claimant: Claimant, lease: float, max_lost: int) -> None:
        worker = names.quoted(claimant.id)
        await self._session().inbox.subscribe(f"{self._prefix}control", f"{self._prefix}control:{worker}")
        if claimant not in self._claimants:
            self._claimants.append(claimant)
        self._claimant = claimant
        self.lease = lease
        self.max_lost = max_lost

    def detach(self, claimant: Claimant) -> None:
        """Claims no more for ``claimant``; what it still holds runs out."""
        session = self._session()
        worker = names.quoted(claimant.id)
        session.inbox.unsubscribe(f"{self._prefix}control:{worker}")
        if claimant in self._claimants:
            self._claimants.remove(claimant)
        self._claimant = self._claimants[-1] if self._claimants else None
        if self._claimant is None:
            session.inbox.unsubscribe(f"{self._prefix}control")

    def on_news(self) -> None:
        """There may be something to claim."""
        for claimant in self._claimants:
            claimant.on_news()

    def on_quiet(self, worker: bytes, quiet: bool) -> None:
        """A worker, if it is one of ours, shall take no jobs for the time being, or take jobs again."""
        for claimant in self._claimants:
            if names.quoted(claimant.id).encode() == worker:
                claimant.on_quiet(quiet)

    async def step(self, done: Sequence[Settlement], claims: int, when_woken: float = 0.0) -> Step:
        """Settles and claims; with ``when_woken``, when the marker comes or after so many seconds."""
        session = self._session()
        claimant = self._claimant
        worker = claimant.id if claimant is not None else self._anonymous
        quoted = names.quoted(worker)
        arguments: list[Any] = []
        for settlement in done:
            settlement.job.__dict__["_sent"] = True
            arguments += settlement[2:]
        began = time.monotonic()
        self._claiming += claims > 0
        call = (
            "step",
            quoted,
            claims,
            int(self.lease * 1000),
            self.max_lost,
            "" if self._suspects else "1",
            self._lost_message,
            *arguments,
        )
        try:
            if when_woken:
                answer, refused = await session.call_when_woken(when_woken, *call)
                if refused is not None and len(answer) <= CLAIMS_FROM:
                    raise refused
            else:
                patience = None if claimant is not None else PATIENCE
                answer = await session.idle_lane.call(*call, patience=patience)
            now, due, state, verdicts = answer[:4]
            outcomes: list[Status | None] = []
            if done:
                outcomes = self.settled(done, verdicts, now)
            jobs: list[Job] = []
            if len(answer) > CLAIMS_FROM:
                jobs = await self._claimed(answer, now, worker, quoted, began)
        finally:
            self._claiming -= claims > 0
            if self._early_aborts and not self._claiming:
                self._early_aborts.clear()
        wait = max(0.0, (due - now) / 1000) if due >= 0 else None
        if 3 * len(jobs) < len(answer) - CLAIMS_FROM:
            wait = 0.0  # some of what was claimed was none: there is room for more at once
        return Step(
            outcomes,
            jobs,
            wait,
            state == b"+",
            state == b"p",
        )

    def settled(self, done: Sequence[Settlement], verdicts: bytes, now: int) -> list[Status | None]:
        outcomes: list[Status | None] = []
        held, suspects = self.held, self._suspects
        for settlement, verdict in zip(done, verdicts, strict=True):
            job, status, member = settlement[:3]
            if held.get(job.key) is job:
                del held[job.key]
                suspects.discard(job.key)
            if job._member == member:
                job._member = None  # type: ignore[misc]
            if verdict == _STALE:
                outcomes.append(None)
                continue
            if verdict == _ABORTED:
                status = Status.ABORTED
            elif verdict == _FAILED:
                status = Status.FAILED
            job.status = status
            if status is Status.COMPLETE:
                self._queue.complete += 1
                job.progress = 1.0
                job.completed = now
            elif status is Status.QUEUED:
                self._queue.retried += settlement.head[:1] == b"R"
            else:
                job.completed = now
                if status is Status.FAILED:
                    self._queue.failed += 1
                else:
                    self._queue.aborted += 1
            outcomes.append(status)
        return outcomes

    async def _claimed(
        self, answer: list[Any], now: int, worker: str, quoted: str, began: float
    ) -> list[Job]:
        suffix = b";a1;b%d;w%b" % (now, quoted.encode())
        jobs: list[Job] = []
        refused: list[Settlement] = []
        held = self.held
        received = time.monotonic()
        for i, claim in enumerate(self._records.claimed(answer, now, received, worker, suffix)):
            if isinstance(claim, DecodeError):
                refused.append(self._spoiled(answer[CLAIMS_FROM + 3 * i], suffix, claim))
            elif claim.key in held:
                # Lost by us, and claimed by us again, while it still runs here.
                refused.append(self.settle_return(claim, "still running where it was lost", 1.0))
            elif claim._lost and self._suspects:
                # Two claims at once, and each has found one that lost its worker: one at a time.
                refused.append(self.settle_return(claim, "another such job runs here"))
            else:
                held[claim.key] = claim
                jobs.append(claim)
                if self._early_aborts and claim._member in self._early_aborts:
                    claim.status = Status.ABORTING
                    claim.error = self._early_aborts[claim._member]
                if claim._lost:
                    self._suspects.add(claim.key)
        if held:
            self._session().keep_leases(held, self.lease, self.found)
        late = received - began > self.lease / 2
        if late:
            await self._renew(jobs)
            received = time.monotonic()
            for job in jobs:
                job.__dict__["_received"] = received
        if refused:
            await self.step(refused, 0)
        if late or refused:
            # What was lost meanwhile, by whoever noticed it, is not started.
            jobs = [job for job in jobs if job._member is not None]
        return jobs

    async def still_owned(self, job: Job) -> bool:
        """Whether a job that was claimed some time ago is still ours. If it is, its lease is renewed."""
        await self._renew([job])
        return job._member is not None

    async def _renew(self, jobs: list[Job]) -> None:
        """The claim took long to arrive: what is still ours?"""
        members = [job._member for job in jobs if job._member is not None]
        if not members:
            return
        _, lost, _, _ = await self._session().run("renew", int(self.lease * 1000), *members, patience=None)
        self.found(lost, [])

    def found(self, lost: list[bytes], aborted: list[tuple[bytes, str]]) -> None:
        """The keeper of leases, or a message, found jobs that are not ours any more, or shall end."""
        for member in lost:
            job = self._owned(member)
            # One whose settlement is under way is no more in the list as a rule: the verdict says what it is.
            if job is not None and "_sent" not in job.__dict__:
                logger.warning("Lost the lease of %s: another worker may run it", job.info())
                job._member = None  # type: ignore[misc]
                self._drop(job)
                for claimant in self._claimants:
                    claimant.on_lost(job)
        for member, reason in aborted:
            job = self._owned(member)
            if job is not None and job.status is Status.ACTIVE:
                job.status = Status.ABORTING
                job.error = reason
                for claimant in self._claimants:
                    claimant.on_abort(job, reason)
            elif job is None and self._claiming:
                self._early_aborts[member] = reason

    def _drop(self, job: Job) -> None:
        self.held.pop(job.key, None)
        self._suspects.discard(job.key)

    def _owned(self, member: bytes) -> Job | None:
        job = self.held.get(key_of(member))
        return job if job is not None and job._member == member else None

    def hold(self, job: Job, seconds: float) -> None:
        """Renews the lease of a job for so long, and then no more."""
        job.__dict__["_renew_until"] = time.monotonic() + seconds

    def _spoiled(self, member: bytes, suffix: bytes, error: DecodeError) -> Settlement:
        key = key_of(member)
        logger.error("The job %r cannot be decoded and is kept as failed: %s", key, error)
        head, body = pack_end(b"F", suffix, b"", encode_text(f"cannot be decoded: {error}"), b"")
        return Settlement(Job("", key=key, queue=self._queue), Status.FAILED, member, head, body)

    def settle(self, job: Job, status: Status, result: Any, error: str | None) -> Settlement:
        records = self._records
        outcome = b"" if result is None else records.outcome(result)
        patch = records.final_patch(job) if job.meta or "_meta_stored" in job.__dict__ else b""
        text = None if error is None else encode_text(error)
        head, body = pack_end(_FINISH[status], job.__dict__["_suffix"], outcome, text, patch)
        job.result = result
        job.error = error
        return Settlement(job, status, self._member(job), head, body)

    def settle_retry(self, job: Job, error: str | None, delay: float) -> Settlement:
        job.error = error
        job.progress = 0.0
        text = encode_text(error or "")
        head = b"R%d" % _delay(delay)
        return Settlement(job, Status.QUEUED, self._member(job), head, text)

    def settle_return(self, job: Job, reason: str, delay: float = 0.0) -> Settlement:
        job.error = reason
        head = b"G%d" % _delay(delay)
        return Settlement(job, Status.QUEUED, self._member(job), head, encode_text(reason))

    def settle_unknown(self, job: Job, delay: float) -> Settlement:
        head = b"U%d" % _delay(delay)
        return Settlement(job, Status.QUEUED, self._member(job), head, encode_text(job.function))

    def settle_unstarted(self, job: Job) -> Settlement:
        return Settlement(job, Status.QUEUED, self._member(job), b"N", b"")

    def _member(self, job: Job) -> bytes:
        if job._member is None:
            raise StaleError(f"{job.info()} is not owned by this process any more")
        return job._member


def _delay(seconds: float) -> int:
    """In whole milliseconds, never too few; no more than a clock can hold."""
    return math.ceil(min(seconds, LATEST / 2) * 1000)
