"""The queue on Redis.

Owns the primitive operations of `Queue` on Redis: which transition is called with what, and what its answer
means. Must not know how a connection works, what a script does inside, or how a job is run.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import redis.asyncio as aioredis

from saq import serializer
from saq.errors import DecodeError, UsageError
from saq.job import TERMINAL_STATUSES, Job, Status
from saq.queue.backend import Claimant, Finding, Progress, Settlement, Step
from saq.queue.base import JOB_FIELDS, Queue
from saq.queue.redis import keys as names
from saq.queue.redis.changes import Changes
from saq.queue.redis.claims import Claims
from saq.queue.redis.link import clients_of, link_to
from saq.queue.redis.records import (
    Records,
    decode_key,
    encode_key,
    encode_text,
)
from saq.queue.redis.session import Session
from saq.queue.redis.views import RedisViews
from saq.queue.redis.waiters import READ_AT_ONCE, Waiters
from saq.queue.views import Place, Report
from saq.types import CountKind, DumpType, LoadType, QueueInfo, WorkerInfo

if TYPE_CHECKING:
    from saq.queue.embedded import EmbeddedServer

logger = logging.getLogger("saq")


class RedisQueue(Queue):
    """A queue on Redis 6.2 or later, or on Valkey.

    Args:
        redis: a client of ``redis.asyncio``: ``Redis``, that of a ``Sentinel``, or ``RedisCluster``. Its
            settings are used; its connections are left to the caller.
        name: several queues share a server by their names.
        dump, load: how a job is made bytes and read again, instead of JSON. ``dump`` takes a dict.
        max_concurrent_ops: accepted, and needed for nothing: commands share one connection.
        swept_error_message: what a job says that failed because its workers died, instead of the reason.
    """

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> RedisQueue:
        """A queue on the server at ``url``; see ``Queue.from_url``."""
        from saq.queue.redis.url import client_of

        if not url.startswith("embedded://"):
            return cls(client_of(url), **kwargs)
        from saq.queue.embedded import EmbeddedServer

        server = EmbeddedServer(url)
        queue = cls(client_of(server.redis_url), **kwargs)
        queue._embedded = server
        return queue

    def __init__(
        self,
        redis: aioredis.Redis | aioredis.RedisCluster,
        name: str = "default",
        dump: DumpType | None = None,
        load: LoadType | None = None,
        max_concurrent_ops: int = 20,
        swept_error_message: str | None = None,
    ) -> None:
        super().__init__(name, dump, load)
        if (dump is None) != (load is None):
            raise UsageError("give a queue both dump and load, or neither")
        #: The client. That of a Cluster has most of the same methods.
        self.redis: aioredis.Redis = redis  # type: ignore[assignment]
        self._prefix = names.prefix(name)
        self._records = Records(self, dump, load)
        self._swept_error_message = swept_error_message
        self._link = link_to(redis, self._prefix)
        self._embedded: EmbeddedServer | None = None
        self._open: Session | None = None
        self._waiters = Waiters(self._current, self._prefix, self._records)
        self._views = RedisViews(self, self._current, self._prefix, self._records)
        self._claims = Claims(self, self._current, self._prefix, self._records, swept_error_message or "")
        self._changes = Changes(self, self._current, self._records, self._claims)

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
        self._waiters.forget()
        self._claims.forget(forked=session is not None and session.process != os.getpid())
        self._open = Session(self._link, self._prefix, self._on_message, self._ask_again)
        return self._open

    def _current(self) -> Session:
        return self._session

    @property
    def swept_error_message(self) -> str | None:
        return self._swept_error_message

    @property
    def server_errors(self) -> Mapping[str, int]:
        return self._link.errors

    async def connect(self) -> None:
        await self._session.wire.connect()

    async def disconnect(self) -> None:
        session, self._open = self._open, None
        # Whoever waits for it may be cancelled; it goes on to the end all the same.
        await asyncio.shield(asyncio.ensure_future(self._close(session)))

    async def _close(self, session: Session | None) -> None:
        if session is not None and session.loop is asyncio.get_running_loop():
            await session.close()
            self._waiters.disconnect()
        self._claims.forget()
        for client in clients_of(self.redis):
            await client.aclose()
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
        def taken_in(position: int, at: int) -> bool:
            fresh = _enqueued(jobs[position], at)
            if fresh:
                self._track(jobs[position])
            return fresh

        values = [self._records.value(job) for job in jobs]
        return await self._waiters.send([encode_key(job.key) for job in jobs], values, taken_in)

    # Waiting ----------------------------------------------------------------------------------------------

    async def wait(self, key: str, timeout: float | None = None) -> Job | None:
        return await self._waiters.wait_for(key, timeout)

    async def _listen(self, job_keys: list[str], take: Callable[[str, Status], Awaitable[bool]]) -> None:
        await self._waiters.listen(job_keys, take)

    async def _ask_again(self) -> None:
        """After a lost subscription: what was told meanwhile was told to nobody."""
        await self._waiters.ask_again()
        self._claims.on_news()

    def _on_message(self, kind: bytes, key: bytes, data: bytes) -> None:
        if kind == b"done":
            self._waiters.tell(key, data)
        elif kind == b"deleted":
            self._waiters.tell(key, None)
        elif kind == b"event":
            self._waiters.tell_change(key, Status(data.decode()))
        elif kind == b"abort":
            self._claims.found([], [(key, data.decode("utf-8", "replace"))])
        elif kind == b"quiet":
            self._claims.on_quiet(key, data == b"1")
        else:  # due, pause, resume
            self._claims.on_news()

    # Claiming ---------------------------------------------------------------------------------------------

    async def attach(self, claimant: Claimant, lease: float, max_lost: int) -> None:
        await self._claims.attach(claimant, lease, max_lost)

    async def detach(self, claimant: Claimant) -> None:
        self._claims.detach(claimant)
        await self.register(claimant.id, {}, (), 0)  # type: ignore[typeddict-item]

    async def step(self, done: Sequence[Settlement], claims: int) -> Step:
        return await self._claims.step(done, claims)

    def settle(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> Settlement:
        return self._claims.settle(job, status, result, error)

    def settle_retry(self, job: Job, error: str | None, delay: float) -> Settlement:
        return self._claims.settle_retry(job, error, delay)

    def settle_return(self, job: Job, reason: str, delay: float = 0.0) -> Settlement:
        return self._claims.settle_return(job, reason, delay)

    def settle_unknown(self, job: Job, delay: float) -> Settlement:
        return self._claims.settle_unknown(job, delay)

    def hold(self, job: Job, seconds: float) -> None:
        self._claims.hold(job, seconds)

    async def still_owned(self, job: Job) -> bool:
        return await self._claims.still_owned(job)

    def settle_unstarted(self, job: Job) -> Settlement:
        return self._claims.settle_unstarted(job)

    async def wait_for_work(self, timeout: float) -> None:
        await self._session.block(timeout)

    async def claim_when_woken(self, claims: int, timeout: float) -> Step:
        return await self._claims.step((), claims, timeout)

    def stop_waiting_for_work(self) -> None:
        if self._open is not None:
            self._open.stop_waiting()

    # What users change ------------------------------------------------------------------------------------

    async def update(self, job: Job, **fields: Any) -> None:
        await self._changes.update(job, fields)

    async def finish(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> bool:
        return await self._changes.finish(job, status, result, error)

    async def retry(self, job: Job, error: str | None) -> bool:
        return await self._changes.retry(job, error)

    async def requeue(self, key: str, *, only: Place | None = None) -> bool:
        return await self._changes.revive(key, now=False, only=only)

    async def run_now(self, key: str, *, only: Place | None = None) -> bool:
        return await self._changes.revive(key, now=True, only=only)

    async def abort(self, job: Job, error: str, ttl: float = 5, *, only: Place | None = None) -> bool:
        return await self._changes.abort(job, error, only)

    async def delete(self, key: str, *, only: Place | None = None) -> bool:
        return await self._changes.delete(key, only)

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
            async for page in self._scan_jobs(batch_size):
                for job in await self._fresh(page[::2], seen):
                    if job.status in wanted:
                        yield job
        if wanted & TERMINAL_STATUSES:
            records = f"{self._prefix}job:"
            async for page in self._session.scan("MATCH", f"{records}*", "COUNT", batch_size):
                for job in await self._fresh([name[len(records) :] for name in page], seen):
                    if job.status in wanted:
                        yield job

    async def _scan_jobs(self, batch_size: int) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            cursor, page = await self._session.wire.call(
                "HSCAN", f"{self._prefix}jobs", cursor, "COUNT", batch_size
            )
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

    @property
    def views(self) -> RedisViews:
        return self._views

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

    async def report(self, worker_id: str, report: Report) -> bool:
        return await self._views.report(worker_id, report)

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
            int(self._claims.lease * 1000),
            self._claims.max_lost,
            self._swept_error_message or "",
            what,
        )
        return [self.job_id(decode_key(k)) for k in swept], [self.job_id(decode_key(k)) for k in due]

    # The server and what it holds --------------------------------------------------------------------------

    def repair(self, *, dry_run: bool = False) -> AsyncIterator[Finding | Progress]:
        from saq.queue.redis.repair import Repair

        return Repair(self._session, self._prefix, dry_run).run()

    async def check(self) -> list[str]:
        from saq.queue.redis.checkup import check

        return await check(self._session.wire, self._prefix)

    # Bytes ------------------------------------------------------------------------------------------------

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


def _enqueued(job: Job, at: int) -> bool:
    if not at:
        return False
    job.queued = at
    job.status = Status.QUEUED
    return True
