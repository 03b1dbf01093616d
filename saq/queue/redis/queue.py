"""The queue on Redis.

Owns the primitive operations of `Queue` on Redis: which transition is called with what, and what its answer
means. Must not know how a connection works, what a script does inside, or how a job is run.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import redis.asyncio as aioredis

from saq import serializer
from saq._speedups import key_of, pack_end
from saq.errors import DecodeError, RunningError, StaleError, UsageError
from saq.job import TERMINAL_STATUSES, Job, Status
from saq.queue.base import JOB_FIELDS, Claimant, Queue, Settlement, Step
from saq.queue.redis import keys as names
from saq.queue.redis.records import (
    CLAIMS_FROM,
    LATEST,
    UPDATABLE,
    Records,
    check,
    decode_key,
    encode_key,
    encode_text,
)
from saq.queue.redis.session import Session
from saq.queue.redis.wire import Link, UnreachableError
from saq.types import CountKind, DumpType, LoadType, QueueInfo, WorkerInfo

if TYPE_CHECKING:
    from saq.queue.embedded import EmbeddedServer

logger = logging.getLogger("saq")

DEFAULT_LEASE = 30.0
DEFAULT_MAX_LOST = 3
#: So many keys are read in one call.
READ_AT_ONCE = 250
#: Seconds that a listener stays registered; it registers again well before.
LISTEN_FOR = 60

_FINISH = {Status.COMPLETE: b"C", Status.FAILED: b"F", Status.ABORTED: b"A"}
_ACCEPTED, _STALE, _ABORTED, _FAILED = b"10af"


class RedisQueue(Queue):
    """A queue on Redis 6.2 or later, or on Valkey.

    Args:
        redis: a client of ``redis.asyncio``. Its settings are used; its connections are left to the caller.
        name: several queues share a server by their names.
        dump, load: how a job is made bytes and read again, instead of JSON. ``dump`` takes a dict.
        max_concurrent_ops: accepted, and needed for nothing: commands share one connection.
        swept_error_message: what a job says that failed because its workers died, instead of the reason.
    """

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> RedisQueue:
        """A queue on the server at ``url``; see ``Queue.from_url``."""
        if url.startswith("embedded://"):
            from saq.queue.embedded import EmbeddedServer

            server = EmbeddedServer(url)
            queue = cls(aioredis.Redis.from_url(server.redis_url), **kwargs)
            queue._embedded = server
            return queue
        if url.startswith(("valkey://", "valkeys://")):
            url = "redis" + url[len("valkey") :]
        return cls(aioredis.Redis.from_url(url), **kwargs)

    def __init__(
        self,
        redis: aioredis.Redis,
        name: str = "default",
        dump: DumpType | None = None,
        load: LoadType | None = None,
        max_concurrent_ops: int = 20,
        swept_error_message: str | None = None,
    ) -> None:
        super().__init__(name, dump, load)
        if (dump is None) != (load is None):
            raise UsageError("give a queue both dump and load, or neither")
        self.redis = redis
        self._prefix = names.prefix(name)
        self._records = Records(self, dump, load)
        self._swept_error_message = swept_error_message
        self._link = Link(redis)
        self._embedded: EmbeddedServer | None = None
        self._open: Session | None = None
        #: The workers of this queue object; the latest one gives its name to what is claimed.
        self._claimants: list[Claimant] = []
        self._claimant: Claimant | None = None
        #: Aborts of jobs whose claim is under way: the message may overtake the answer.
        self._early_aborts: dict[bytes, str] = {}
        self._claiming = 0
        self._anonymous = f"client-{secrets.token_hex(6)}"
        self._lease = DEFAULT_LEASE
        self._max_lost = DEFAULT_MAX_LOST
        #: Jobs that this process has claimed and not settled, by key.
        self._held: dict[str, Job] = {}
        self._suspects: set[str] = set()
        self._waiters: dict[bytes, set[asyncio.Future[bytes | None]]] = {}
        #: Those of them whose job is on its way to Redis, and what was heard of its key meanwhile.
        self._unsent: dict[asyncio.Future[bytes | None], list[bytes | None]] = {}
        #: Of those whose job was new, since when it is queued (ms): what was queued before is not theirs.
        self._born: dict[asyncio.Future[bytes | None], int] = {}
        #: How often all waiters were asked for anew, after a lost subscription.
        self._asked = 0
        self._listeners: dict[bytes, set[asyncio.Queue[tuple[str, Status] | None]]] = {}

    def __repr__(self) -> str:
        return f"RedisQueue<{self._link.address}, name: '{self.name}'>"

    @property
    def _session(self) -> Session:
        session = self._open
        if session is not None and session.loop is asyncio.get_running_loop():
            return session
        # A new loop, or a fork: what belonged to the old one died with it.
        if self._embedded is not None:
            self._embedded.start()
        self._held.clear()
        self._suspects.clear()
        self._waiters.clear()
        self._unsent.clear()
        self._born.clear()
        self._listeners.clear()
        if session is not None and session.process != os.getpid():
            self._anonymous = f"client-{secrets.token_hex(6)}"
        self._open = Session(self._link, self._prefix, self._on_message, self._ask_again)
        return self._open

    @property
    def swept_error_message(self) -> str | None:
        return self._swept_error_message

    async def connect(self) -> None:
        await self._session.wire.connect()

    async def disconnect(self) -> None:
        session, self._open = self._open, None
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.close()
            for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
                if not waiter.done():
                    waiter.set_exception(_disconnected())
                    waiter.exception()  # whoever waits hears of it; nobody has to
            for changes in {changes for listeners in self._listeners.values() for changes in listeners}:
                changes.put_nowait(None)
        self._held.clear()
        await self.redis.aclose()
        if self._embedded is not None:
            self._embedded.close()

    def job_id(self, job_key: str) -> str:
        return names.record(self.name, job_key)

    # Enqueue ----------------------------------------------------------------------------------------------

    async def _send(self, jobs: Sequence[Job]) -> list[bool]:
        values = [self._records.value(job) for job in jobs]
        outbox = self._session.outbox
        taken = [
            outbox.put(encode_key(job.key), value, False) for job, value in zip(jobs, values, strict=True)
        ]
        if len(taken) == 1:
            return [_enqueued(jobs[0], await taken[0])]
        answers = await asyncio.gather(*taken)
        return [_enqueued(job, at) for job, at in zip(jobs, answers, strict=True)]

    async def _send_and_wait(self, jobs: Sequence[Job]) -> list[asyncio.Future[Job | None]]:
        values = [self._records.value(job) for job in jobs]
        session = self._session
        await session.inbox.subscribe(session.channel)
        ends: list[asyncio.Future[Job | None]] = []
        taken, waiters = [], []
        asked = self._asked
        for job, value in zip(jobs, values, strict=True):
            key = encode_key(job.key)
            # Before it is sent: its end may be told in the turn in which it is taken in.
            waiters.append(self._add_waiter(key))
            ends.append(asyncio.ensure_future(self._end(key, waiters[-1])))
            taken.append(session.outbox.put(key, value, True))
            self._unsent[waiters[-1]] = []
        try:
            answers = await asyncio.gather(*taken)
            heard = [self._unsent.pop(waiter) for waiter in waiters]
            for job, at, waiter in zip(jobs, answers, waiters, strict=True):
                if _enqueued(job, at):
                    self._track(job)
                    if not waiter.done():
                        self._born[waiter] = at
            if self._asked != asked:  # the subscription was lost meanwhile, and these were left out
                await self._ask([encode_key(job.key) for job in jobs])
            late = [
                self._catch_up(encode_key(job.key), at, waiter, records)
                for job, at, waiter, records in zip(jobs, answers, waiters, heard, strict=True)
                if records
            ]
            if late:
                await asyncio.gather(*late)
        except BaseException:
            for end in ends:
                end.cancel()
            raise
        finally:
            for waiter in waiters:
                self._unsent.pop(waiter, None)
        return ends

    # Waiting for the end ----------------------------------------------------------------------------------

    def _add_waiter(self, key: bytes) -> asyncio.Future[bytes | None]:
        waiter: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, set()).add(waiter)
        waiter.add_done_callback(lambda done: self._remove_waiter(key, done))
        return waiter

    def _remove_waiter(self, key: bytes, waiter: asyncio.Future[bytes | None]) -> None:
        self._born.pop(waiter, None)
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[key]

    async def _end(self, key: bytes, waiter: asyncio.Future[bytes | None]) -> Job | None:
        record = await waiter
        if record is None:
            return None
        text = decode_key(key)
        if b"\n" in record:
            return self._records.finished(text, record)
        # Too large for a message. Its record is read, not the job: the key may be in its next life already.
        kept = await self._session.wire.call("GET", f"{self._prefix}job:".encode() + key)
        return self._records.finished(text, kept) if kept is not None else None

    async def wait(self, key: str, timeout: float | None = None) -> Job | None:
        session = self._session
        name = encode_key(key)
        async with asyncio.timeout(timeout):
            await session.inbox.subscribe(session.channel)
            waiter = self._add_waiter(name)
            try:
                (entry,) = await session.run("read", session.channel, name)
                if not entry:
                    return None
                if entry[0] == b"finished":
                    return self._records.finished(key, entry[1])
                return await self._end(name, waiter)
            finally:
                waiter.cancel()

    async def _ask_again(self) -> None:
        """After a lost subscription: what ended meanwhile was told to nobody."""
        self._asked += 1
        await self._ask(list(self._waiters))
        for claimant in self._claimants:
            claimant.on_news()

    async def _ask(self, keys: list[bytes]) -> None:
        """Tells those who wait for these jobs what has ended. Of a job that is still to be sent, nothing can
        be known yet: what is found is an earlier one of its key, or none."""
        session = self._session
        for i in range(0, len(keys), READ_AT_ONCE):
            part = keys[i : i + READ_AT_ONCE]
            asking = [self._waiters.get(key, set()) - self._unsent.keys() for key in part]
            entries = await session.run("read", session.channel, *part)
            for waiters, entry in zip(asking, entries, strict=True):
                if not entry:
                    _set(waiters, None)
                elif entry[0] == b"finished":
                    _set(waiters, entry[1])

    async def _catch_up(
        self, key: bytes, at: int, waiter: asyncio.Future[bytes | None], heard: list[bytes | None]
    ) -> None:
        """What was heard while a job was on its way may have been the end of an earlier one of its key."""
        if at and None not in heard:
            times = [(_times(record), record) for record in heard if record is not None]
            for (_, completed), record in times:
                if completed > at:
                    _set([waiter], record)
                    return
            if all(queued < at for (queued, _), _ in times):
                return
        (entry,) = await self._session.run("read", self._session.channel, key)
        if not entry:
            _set([waiter], heard[-1])
        elif entry[0] == b"finished":
            _set([waiter], entry[1])

    def _tell(self, key: bytes, record: bytes | None) -> None:
        waiters = self._waiters.get(key, set())
        told = []
        for waiter in waiters:
            if waiter in self._unsent:
                self._unsent[waiter].append(record)
            elif record is None or _times(record)[0] >= self._born.get(waiter, 0):
                told.append(waiter)
        _set(told, record)

    def _on_message(self, kind: bytes, key: bytes, data: bytes) -> None:
        if kind == b"done":
            self._tell(key, data)
        elif kind == b"deleted":
            self._tell(key, None)
        elif kind == b"event":
            for listener in self._listeners.get(key, ()):
                listener.put_nowait((decode_key(key), Status(data.decode())))
        elif kind == b"abort":
            self._found([], [(key, data.decode("utf-8", "replace"))])
        else:  # due, pause, resume
            for claimant in self._claimants:
                claimant.on_news()

    async def _listen(self, job_keys: list[str], take: Callable[[str, Status], Awaitable[bool]]) -> None:
        session = self._session
        await session.inbox.subscribe(session.channel)
        changes: asyncio.Queue[tuple[str, Status] | None] = asyncio.Queue()
        watched = [encode_key(key) for key in job_keys]
        for key in watched:
            self._listeners.setdefault(key, set()).add(changes)
        try:
            while True:
                if watched:
                    await session.run("watch", session.channel, LISTEN_FOR, *watched)
                again = time.monotonic() + LISTEN_FOR / 3
                while (left := again - time.monotonic()) > 0:
                    try:
                        async with asyncio.timeout(left):
                            change = await changes.get()
                    except TimeoutError:
                        break
                    if change is None:
                        raise _disconnected()
                    if await take(*change):
                        return
        finally:
            gone = []
            for key in watched:
                listeners = self._listeners.get(key, set())
                listeners.discard(changes)
                if not listeners:
                    self._listeners.pop(key, None)
                    gone.append(key)
            if gone and session.wire.connected:
                await asyncio.shield(session.run("watch", session.channel, 0, *gone))

    # Claim and settle -------------------------------------------------------------------------------------

    async def attach(self, claimant: Claimant, lease: float, max_lost: int) -> None:
        if claimant not in self._claimants:
            self._claimants.append(claimant)
        self._claimant = claimant
        self._lease = lease
        self._max_lost = max_lost
        worker = names.quoted(claimant.id)
        await self._session.inbox.subscribe(f"{self._prefix}control", f"{self._prefix}control:{worker}")

    async def detach(self, claimant: Claimant) -> None:
        worker = names.quoted(claimant.id)
        session = self._session
        session.inbox.unsubscribe(f"{self._prefix}control:{worker}")
        if claimant in self._claimants:
            self._claimants.remove(claimant)
        self._claimant = self._claimants[-1] if self._claimants else None
        if self._claimant is None:
            session.inbox.unsubscribe(f"{self._prefix}control")
        await self.register(claimant.id, {}, (), 0)  # type: ignore[typeddict-item]

    async def step(self, done: Sequence[Settlement], claims: int) -> Step:
        session = self._session
        claimant = self._claimant
        worker = claimant.id if claimant is not None else self._anonymous
        quoted = names.quoted(worker)
        arguments: list[Any] = []
        for settlement in done:
            arguments += settlement[2:]
        began = time.monotonic()
        self._claiming += claims > 0
        try:
            answer = await session.idle_lane.call(
                "step",
                quoted,
                claims,
                int(self._lease * 1000),
                self._max_lost,
                "" if self._suspects else "1",
                self._swept_error_message or "",
                *arguments,
                patience=None if claimant is not None else 5.0,
            )
            now, due, state, verdicts = answer[:4]
            outcomes: list[Status | None] = []
            if done:
                outcomes = self._settled(done, verdicts, now)
            jobs: list[Job] = []
            if len(answer) > 4:
                jobs = await self._claimed(answer, now, worker, quoted, began)
        finally:
            self._claiming -= claims > 0
            if self._early_aborts and not self._claiming:
                self._early_aborts.clear()
        wait = max(0.0, (due - now) / 1000) if due >= 0 else None
        if 3 * len(jobs) < len(answer) - 4:
            wait = 0.0  # some of what was claimed was none: there is room for more at once
        return Step(
            outcomes,
            jobs,
            wait,
            state == b"+",
            state == b"p",
        )

    def _settled(self, done: Sequence[Settlement], verdicts: bytes, now: int) -> list[Status | None]:
        outcomes: list[Status | None] = []
        held, suspects = self._held, self._suspects
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
                self.complete += 1
                job.progress = 1.0
                job.completed = now
            elif status is Status.QUEUED:
                self.retried += settlement.head[:1] == b"R"
            else:
                job.completed = now
                if status is Status.FAILED:
                    self.failed += 1
                else:
                    self.aborted += 1
            outcomes.append(status)
        return outcomes

    async def _claimed(
        self, answer: list[Any], now: int, worker: str, quoted: str, began: float
    ) -> list[Job]:
        suffix = b";a1;b%d;w%b" % (now, quoted.encode())
        jobs: list[Job] = []
        refused: list[Settlement] = []
        held = self._held
        for i, claim in enumerate(self._records.claimed(answer, now, worker, suffix)):
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
            self._session.keep_leases(held, self._lease, self._found)
        if time.monotonic() - began > self._lease / 2:
            jobs = await self._renewed(jobs)
        if refused:
            await self.step(refused, 0)
        return jobs

    async def _renewed(self, jobs: list[Job]) -> list[Job]:
        """The claim took long to arrive: what is still ours?"""
        members = [job._member for job in jobs]
        _, lost, _, _ = await self._session.run("renew", int(self._lease * 1000), *members, patience=None)
        gone = set(lost)
        for job in jobs:
            if job._member in gone:
                self._held.pop(job.key, None)
                self._suspects.discard(job.key)
        return [job for job in jobs if job._member not in gone]

    def _found(self, lost: list[bytes], aborted: list[tuple[bytes, str]]) -> None:
        """The keeper of leases, or a message, found jobs that are not ours any more, or shall end."""
        for member in lost:
            job = self._owned(member)
            if job is not None:
                logger.warning("Lost the lease of %s: another worker may run it", job.info())
                job._member = None  # type: ignore[misc]
                self._held.pop(job.key, None)
                self._suspects.discard(job.key)
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

    def _owned(self, member: bytes) -> Job | None:
        job = self._held.get(key_of(member))
        return job if job is not None and job._member == member else None

    def let_go(self, job: Job) -> None:
        job.__dict__["_renew_until"] = 0.0

    def _spoiled(self, member: bytes, suffix: bytes, error: DecodeError) -> Settlement:
        key = key_of(member)
        logger.error("The job %r cannot be decoded and is kept as failed: %s", key, error)
        head, body = pack_end(b"F", suffix, b"", encode_text(f"cannot be decoded: {error}"), b"")
        return Settlement(Job("", key=key, queue=self), Status.FAILED, member, head, body)

    def settle(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> Settlement:
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

    def _member(self, job: Job) -> bytes:
        if job._member is None:
            raise StaleError(f"{job.info()} is not owned by this process any more")
        return job._member

    async def wait_for_work(self, timeout: float) -> bool:
        return await self._session.block(timeout)

    def stop_waiting_for_work(self) -> None:
        if self._open is not None:
            self._open.unblock()

    # What users change ------------------------------------------------------------------------------------

    def _owner(self, job: Job) -> Job | None:
        """The handle that this process claimed the job with, if it did.

        Raises ``StaleError`` for a handle that has lost its claim: whoever holds the job, it is not this one.
        """
        stale = job._member is None and "_suffix" in job.__dict__
        if stale and job.status in (Status.ACTIVE, Status.ABORTING):
            raise StaleError(f"{job.info()} is not owned by this process any more")
        held = self._held.get(job.key)
        return held if held is not None and held._member is not None else None

    async def update(self, job: Job, **fields: Any) -> None:
        unknown = fields.keys() - UPDATABLE
        if unknown:
            raise UsageError(
                f"update cannot change {', '.join(sorted(unknown))}; it can change "
                f"{', '.join(sorted(UPDATABLE))}"
            )
        owner = self._owner(job)
        changes = dict(fields)
        if owner is not None:
            # What a function has put into its own job is stored with the next update, as ever.
            if job.meta and "meta" not in changes:
                changes["meta"] = job.meta
            if job.progress and "progress" not in changes:
                changes["progress"] = job.progress
        changed = copy.copy(job)
        for name, value in fields.items():
            setattr(changed, name, value)
        check(changed)
        header = self._records.header_changes(job, fields)
        payload = {k: v for k, v in changes.items() if k not in ("ttl", "timeout", "retries")}
        patch = self._records.patch(payload)
        for name, value in fields.items():
            setattr(job, name, value)
        where, reason = await self._session.calls.call(
            "update",
            encode_key(job.key),
            owner._member if owner is not None else b"",
            header,
            *patch,
        )
        if where == b"stale":
            raise StaleError(f"{job.info()} is not owned by this process any more")
        if where == b"missing":
            raise UsageError(f"{job.info()} does not exist (any more)")
        job.touched = int(time.time() * 1000)
        if owner is not None:
            owner.touched = job.touched
            owner.__dict__["_beat"] = time.monotonic()
            if "meta" in changes:
                owner.__dict__["_meta_stored"] = self._records.dump(changes["meta"], "meta")
            if reason:
                self._found([], [(owner._member or b"", reason.decode("utf-8", "replace"))])

    async def finish(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> bool:
        if status not in TERMINAL_STATUSES:
            raise UsageError(f"a job cannot finish as {status!r}")
        owner = self._owner(job)
        if owner is not None:
            outcome = await self._settle_now(self.settle(owner, status, result=result, error=error))
            if outcome is None:
                raise StaleError(f"{job.info()} is not owned by this process any more")
            job.status, job.result, job.error, job.completed = (
                outcome,
                result,
                error,
                owner.completed,
            )
            return True
        text = None if error is None else encode_text(error)
        suffix, body = pack_end(b"", b"", self._records.outcome(result), text, b"")
        (where,) = await self._session.calls.call("finish", encode_key(job.key), status.value, suffix, body)
        return self._ended(job, where, status, result, error)

    def _ended(self, job: Job, where: bytes, status: Status, result: Any, error: str | None) -> bool:
        if where == b"active":
            raise RunningError(f"{job.info()} is running: only its owner may end it; abort it instead")
        if where in (b"finished", b"missing"):
            logger.info("%s had ended already: nothing changed", job.info())
            return False
        job.status, job.result, job.error = status, result, error
        job.completed = int(time.time() * 1000)
        setattr(self, status.value, getattr(self, status.value) + 1)
        return True

    async def _settle_now(self, settlement: Settlement) -> Status | None:
        """Settles one attempt, for a caller who may be cancelled: what was sent is sent."""
        step = asyncio.ensure_future(self.step([settlement], 0))
        return (await asyncio.shield(step)).verdicts[0]

    async def retry(self, job: Job, error: str | None) -> bool:
        owner = self._owner(job)
        if owner is not None:
            delay = owner.next_retry_delay()
            outcome = await self._settle_now(self.settle_retry(owner, error, delay))
            if outcome is None:
                raise StaleError(f"{job.info()} is not owned by this process any more")
            job.status, job.error = outcome, error
            return True
        if not await self._revive(job.key, now=False):
            return False
        job.status, job.result, job.error = Status.QUEUED, None, None
        job.attempts = job.started = job.completed = 0
        job.progress = 0.0
        return True

    async def requeue(self, key: str) -> bool:
        return await self._revive(key, now=False)

    async def run_now(self, key: str) -> bool:
        return await self._revive(key, now=True)

    async def _revive(self, key: str, *, now: bool) -> bool:
        (where,) = await self._session.calls.call("revive", encode_key(key), "1" if now else "")
        if where == b"active" and not now:
            raise RunningError(f"the job {key!r} is running: abort it, or wait for its end")
        return where == b"finished" or (now and where == b"scheduled")

    async def abort(self, job: Job, error: str, ttl: float = 5) -> bool:
        where, _ = await self._session.calls.call("abort", encode_key(job.key), encode_text(error))
        if where in (b"finished", b"missing"):
            logger.info("%s had ended already: there was nothing to abort", job.info())
            return False
        job.error = error
        if where == b"active":
            if self._held.get(job.key) is not job:
                job.status = Status.ABORTING
        else:
            job.status = Status.ABORTED
            job.completed = int(time.time() * 1000)
            self.aborted += 1
        return True

    async def delete(self, key: str) -> bool:
        (where,) = await self._session.calls.call("delete", encode_key(key))
        if where == b"active":
            raise RunningError(f"the job {key!r} is running: abort it first")
        return bool(where != b"missing")

    async def pause(self) -> None:
        await self._session.run("pause", "on")

    async def resume(self) -> None:
        await self._session.run("pause", "off")

    async def notify(self, job: Job) -> None:
        await self._session.run("notify", encode_key(job.key), job.status.value)

    # What users read --------------------------------------------------------------------------------------

    async def jobs(self, job_keys: Iterable[str]) -> list[Job | None]:
        wanted = list(job_keys)
        found: list[Job | None] = []
        for i in range(0, len(wanted), READ_AT_ONCE):
            part = wanted[i : i + READ_AT_ONCE]
            entries = await self._session.run("read", "", *map(encode_key, part))
            for key, entry in zip(part, entries, strict=True):
                found.append(self._records.stored(key, entry) if entry else None)
        return found

    async def iter_jobs(
        self, statuses: Iterable[Status] = tuple(Status), batch_size: int = 100
    ) -> AsyncIterator[Job]:
        wanted = set(statuses)
        seen: set[bytes] = set()
        if wanted - TERMINAL_STATUSES:
            async for page in self._scan("HSCAN", f"{self._prefix}jobs", "COUNT", batch_size):
                for job in await self._fresh(page[::2], seen):
                    if job.status in wanted:
                        yield job
        if wanted & TERMINAL_STATUSES:
            records = f"{self._prefix}job:"
            async for page in self._scan("SCAN", None, "MATCH", f"{records}*", "COUNT", batch_size):
                for job in await self._fresh([name[len(records) :] for name in page], seen):
                    if job.status in wanted:
                        yield job

    async def _scan(self, command: str, key: str | None, *options: Any) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            place = (cursor,) if key is None else (key, cursor)
            cursor, page = await self._session.wire.call(command, *place, *options)
            if page:
                yield page
            if cursor == b"0":
                return

    async def _fresh(self, page: list[bytes], seen: set[bytes]) -> list[Job]:
        """A scan may show an entry twice, and a job that ends meanwhile in both places."""
        fresh = [key for key in dict.fromkeys(page) if key not in seen]
        seen.update(fresh)
        return [job for job in await self.jobs(map(decode_key, fresh)) if job is not None]

    async def count(self, kind: CountKind) -> int:
        if kind not in ("queued", "active", "scheduled", "incomplete"):
            raise UsageError(f"there is no count of {kind!r}: queued, active, scheduled or incomplete")
        if kind == "incomplete":
            return int(await self._session.wire.call("HLEN", f"{self._prefix}jobs"))
        return int(await self._session.wire.call("ZCARD", f"{self._prefix}{kind}"))

    async def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> QueueInfo:
        answer = await self._session.run("info", max(0, offset), max(0, limit) if jobs else 0)
        _, queued, active, scheduled, _, _, keys = answer[:7]
        found = await self.jobs(map(decode_key, keys))
        workers: dict[str, WorkerInfo] = {
            names.unquoted(answer[i].decode()): serializer.loads(answer[i + 1])
            for i in range(7, len(answer), 2)
        }
        return {
            "workers": workers,
            "name": self.name,
            "queued": queued,
            "active": active,
            "scheduled": scheduled,
            "jobs": [job.to_dict() for job in found if job is not None],
        }

    async def server_time(self) -> float:
        seconds, micros = await self._session.wire.call("TIME")
        return int(seconds) + int(micros) / 1_000_000

    # What workers do beside claiming ----------------------------------------------------------------------

    async def register(self, worker_id: str, info: WorkerInfo, functions: Iterable[str], ttl: float) -> None:
        await self._session.run(
            "register",
            names.quoted(worker_id),
            int(ttl * 1000),
            serializer.dumps(info, "metadata"),
            *(encode_text(name) for name in functions),
        )

    async def tick(self, entry: str, at: float, job: Job) -> str:
        job.queue = self
        _, verdict = await self._session.calls.call(
            "cron",
            encode_text(entry),
            int(at * 1000),
            encode_key(job.key),
            self._records.value(job),
        )
        return str(verdict.decode())

    async def schedule(self, lock: int = 1) -> list[str]:
        return (await self._sweep("due"))[1]

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        return (await self._sweep("all"))[0]

    async def _sweep(self, what: str) -> tuple[list[str], list[str]]:
        swept, due = await self._session.run(
            "sweep",
            int(self._lease * 1000),
            self._max_lost,
            self._swept_error_message or "",
            what,
        )
        return [self.job_id(decode_key(k)) for k in swept], [self.job_id(decode_key(k)) for k in due]

    def serialize(self, job: Job) -> bytes:
        fields = job.to_dict()
        if "status" in fields:
            fields["status"] = job.status.value
        return self._records.dump(fields, "job")

    def deserialize(self, payload: dict[str, Any] | bytes | str | None) -> Job | None:
        if not payload:
            return None
        if isinstance(payload, dict):
            fields = dict(payload)
        else:
            data = payload.encode() if isinstance(payload, str) else payload
            fields = self._records.load(data, "job")
        if type(fields) is not dict:
            raise DecodeError(f"a job is an object, this is {type(fields).__name__}")
        queue = fields.pop("queue", self.name)
        if queue != self.name:
            raise DecodeError(f"a job of the queue {queue!r}, not of {self.name!r}")
        known = {name: value for name, value in fields.items() if name in JOB_FIELDS}
        if type(known.get("function")) is not str:
            raise DecodeError(f"a job names its function, this one has {known.get('function')!r}")
        try:
            return Job(**known, queue=self)
        except (TypeError, ValueError) as error:
            raise DecodeError(f"not a job: {error}") from error


def _delay(seconds: float) -> int:
    """In whole milliseconds, never too few; no more than a clock can hold."""
    return math.ceil(min(seconds, LATEST / 2) * 1000)


def _times(record: bytes) -> tuple[int, int]:
    """When a job was queued and when it ended (ms), from what was told of its end."""
    head = record.partition(b"\n")[0]
    return int(head[: head.index(b";")]), int(head[head.rindex(b";c") + 2 :])


def _set(waiters: Iterable[asyncio.Future[bytes | None]], record: bytes | None) -> None:
    for waiter in list(waiters):
        if not waiter.done():
            waiter.set_result(record)


def _disconnected() -> UnreachableError:
    return UnreachableError("the queue was disconnected while this was waited for")


def _enqueued(job: Job, at: int) -> bool:
    if not at:
        return False
    job.queued = at
    job.status = Status.QUEUED
    return True
