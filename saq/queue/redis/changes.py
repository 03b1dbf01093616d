"""What users change of a job.

Owns the transitions of single jobs on Redis that are not a worker's claim or settlement, and who may make
them: the owner of a running job settles it, with its fence, and anybody else changes what does not run. Must
not claim.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from typing import Any

from saq._speedups import pack_end
from saq.errors import RunningError, StaleError, UsageError
from saq.job import TERMINAL_STATUSES, Job, Status
from saq.queue.backend import Settlement
from saq.queue.base import Queue
from saq.queue.redis.claims import Claims
from saq.queue.redis.records import UPDATABLE, Records, check, encode_key, encode_text
from saq.queue.redis.session import Session
from saq.queue.redis.wire import PATIENCE
from saq.queue.views import Place

logger = logging.getLogger("saq")


class Changes:
    """Changes jobs of a queue, one at a time.

    Args:
        queue: whose jobs; its counters count what ends.
        session: the connections of the running loop.
        records: makes bytes of what is changed.
        claims: what this process holds.
    """

    def __init__(
        self, queue: Queue, session: Callable[[], Session], records: Records, claims: Claims
    ) -> None:
        self._queue = queue
        self._session = session
        self._records = records
        self._claims = claims

    def _owner(self, job: Job) -> Job | None:
        """The handle that this process claimed the job with, if it did.

        Raises ``StaleError`` for a handle that has lost its claim: whoever holds the job, it is not this one.
        """
        stale = job._member is None and "_suffix" in job.__dict__
        if stale and job.status in (Status.ACTIVE, Status.ABORTING):
            raise StaleError(f"{job.info()} is not owned by this process any more")
        held = self._claims.held.get(job.key)
        return held if held is not None and held._member is not None else None

    async def update(self, job: Job, fields: dict[str, Any]) -> None:
        """Changes fields of a job, for its owner or for a guest."""
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
        if owner is not None:
            # The job lives, whether the server answers or not: it may wait for it as long as a call is tried.
            owner.__dict__["_beat"] = time.monotonic() + PATIENCE
        try:
            where, reason = await self._session().calls.call(
                "update",
                encode_key(job.key),
                owner._member if owner is not None else b"",
                header,
                *patch,
            )
        finally:
            if owner is not None:
                owner.__dict__["_beat"] = time.monotonic()
        if where == b"stale":
            raise StaleError(f"{job.info()} is not owned by this process any more")
        if where == b"missing":
            raise UsageError(f"{job.info()} does not exist (any more)")
        job.touched = int(time.time() * 1000)
        if owner is not None:
            owner.touched = job.touched
            if "meta" in changes:
                owner.__dict__["_meta_stored"] = self._records.dump(changes["meta"], "meta")
            if reason:
                self._claims.found([], [(owner._member or b"", reason.decode("utf-8", "replace"))])

    async def finish(self, job: Job, status: Status, result: Any, error: str | None) -> bool:
        """Ends a job that waits, or that this process runs; False if it had ended already."""
        if status not in TERMINAL_STATUSES:
            raise UsageError(f"a job cannot finish as {status!r}")
        owner = self._owner(job)
        if owner is not None:
            outcome = await self._settle_now(self._claims.settle(owner, status, result, error))
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
        (where,) = await self._session().calls.call("finish", encode_key(job.key), status.value, suffix, body)
        return self._ended(job, where, status, result, error)

    def _ended(self, job: Job, where: bytes, status: Status, result: Any, error: str | None) -> bool:
        if where == b"active":
            raise RunningError(f"{job.info()} is running: only its owner may end it; abort it instead")
        if where in (b"finished", b"missing"):
            logger.info("%s had ended already: nothing changed", job.info())
            return False
        job.status, job.result, job.error = status, result, error
        job.completed = int(time.time() * 1000)
        setattr(self._queue, status.value, getattr(self._queue, status.value) + 1)
        return True

    async def _settle_now(self, settlement: Settlement) -> Status | None:
        """Settles one attempt, for a caller who may be cancelled: what was sent is sent."""
        step = asyncio.ensure_future(self._claims.step([settlement], 0))
        return (await asyncio.shield(step)).verdicts[0]

    async def retry(self, job: Job, error: str | None) -> bool:
        """Ends an attempt of a job that this process runs, or queues a finished one once more."""
        owner = self._owner(job)
        if owner is not None:
            delay = owner.next_retry_delay()
            outcome = await self._settle_now(self._claims.settle_retry(owner, error, delay))
            if outcome is None:
                raise StaleError(f"{job.info()} is not owned by this process any more")
            job.status, job.error = outcome, error
            return True
        if not await self.revive(job.key, now=False):
            return False
        job.status, job.result, job.error = Status.QUEUED, None, None
        job.attempts = job.started = job.completed = 0
        job.progress = 0.0
        return True

    async def revive(self, key: str, *, now: bool, only: Place | None = None) -> bool:
        """Queues a finished job once more; with ``now``, also one that is scheduled. Whether it was one."""
        (where,) = await self._session().calls.call(
            "revive", encode_key(key), "1" if now else "", *_given(only)
        )
        _check_place(key, where, only)
        if where == b"active" and not now:
            raise RunningError(f"the job {key!r} is running: abort it, or wait for its end")
        return where == b"finished" or (now and where == b"scheduled")

    async def abort(self, job: Job, error: str, only: Place | None) -> bool:
        """Ends a job that waits, or asks for the end of one that runs; False if it had ended already."""
        where, _ = await self._session().calls.call(
            "abort", encode_key(job.key), encode_text(error), *_given(only)
        )
        _check_place(job.key, where, only)
        if where in (b"finished", b"missing"):
            logger.info("%s had ended already: there was nothing to abort", job.info())
            return False
        job.error = error
        if where == b"active":
            if self._claims.held.get(job.key) is not job:
                job.status = Status.ABORTING
        else:
            job.status = Status.ABORTED
            job.completed = int(time.time() * 1000)
            self._queue.aborted += 1
        return True

    async def delete(self, key: str, only: Place | None) -> bool:
        """Removes a job that does not run, and its record; False if there was none."""
        (where,) = await self._session().calls.call("delete", encode_key(key), *_given(only))
        _check_place(key, where, only)
        if where == b"active":
            raise RunningError(f"the job {key!r} is running: abort it first")
        return bool(where != b"missing")


def _given(only: Place | None) -> tuple[str, ...]:
    return () if only is None else (only,)


def _check_place(key: str, where: bytes, only: Place | None) -> None:
    if only is not None and where != only.encode():
        raise StaleError(f"the job {key!r} is not {only} any more: it is {where.decode()} by now")
