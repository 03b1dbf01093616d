"""The leases of the jobs that this process runs.

Owns the thread that renews them. Must not run a job or settle one.

It is a thread with a loop and a socket of its own, so that a function that blocks the event loop keeps its
lease: only a process that is dead or cut off loses one. What has run for longer than it may is not renewed:
a job past its timeout and hard deadline, or, without a timeout, one whose loop gave no sign for ten minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from saq.errors import ServerError
from saq.queue.redis.scripts import evaluate
from saq.queue.redis.wire import SILENCE, Link, Wire

if TYPE_CHECKING:
    from saq.job import Job

logger = logging.getLogger("saq")

#: Seconds without a beat of the event loop after which its jobs are given up.
BEAT_LIMIT = 600.0
#: So many leases are extended in one call.
BATCH = 150

Found = Callable[[list[bytes], list[tuple[bytes, str]]], None]


class LeaseKeeper:
    """Renews the leases of ``held`` (key → job) three times per lease.

    Args:
        link: how to reach the server.
        prefix: of the queue's keys.
        held: the jobs that this process owns; read from the thread.
        lease: seconds.
        found: called in the owner's loop with members whose lease was lost, and with those to be aborted.
    """

    def __init__(self, link: Link, prefix: str, held: Mapping[str, Job], lease: float, found: Found) -> None:
        self._link = link
        self._prefix = prefix
        self._held = held
        self._lease = lease
        self._found = found
        self._owner = asyncio.get_running_loop()
        self._beat = time.monotonic()
        self._ended = self._owner.create_future()
        self._stop: Callable[[], Any] | None = None
        self._leave: Callable[[tuple[Any, Any] | None], Any] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="saq-leases", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # Plain asyncio: a second uvloop in a thread buys nothing for three calls a lease.
        with contextlib.suppress(RuntimeError):  # the owner's loop was closed without a goodbye
            asyncio.run(self._keep())
        with contextlib.suppress(RuntimeError):
            self._owner.call_soon_threadsafe(self._set_ended)

    def _set_ended(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _keep(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        # A connection that says nothing any more must be given up while there is time for another one.
        wire = Wire(self._link, "saq-leases", silence=min(SILENCE, self._lease / 3), pause=self._lease / 20)
        self._leave = lambda place: loop.call_soon_threadsafe(wire.leave, place)
        failing = False
        try:
            while not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._lease / (20 if failing else 3))
                    return
                self._owner.call_soon_threadsafe(self._beats)
                try:
                    await self._renew(wire)
                    failing = False
                except ServerError as error:
                    if not failing:
                        logger.warning("Cannot renew leases, trying again: %s", error)
                    failing = True
        finally:
            await wire.close()

    def _beats(self) -> None:
        self._beat = time.monotonic()

    async def _renew(self, wire: Wire) -> None:
        now = time.monotonic()
        members, overtime = [], []
        for job in list(self._held.values()):
            until = job.__dict__.get("_renew_until")
            if until is None:
                until = self._beat + BEAT_LIMIT
            member = job._member  # read once: its owner may settle it meanwhile
            if member is None:
                continue
            if now < until:
                members.append(member)
            elif not job.__dict__.get("_overtime"):
                overtime.append((job, member))
        for i in range(0, len(overtime), BATCH):
            # Said once: a lease that runs out by itself would look like a worker that died.
            part = overtime[i : i + BATCH]
            await evaluate(wire, "overtime", self._prefix, *(member for _, member in part))
            for job, _ in part:
                job.__dict__["_overtime"] = True
        for i in range(0, len(members), BATCH):
            _, lost, aborted, reasons = await evaluate(
                wire,
                "renew",
                self._prefix,
                int(self._lease * 1000),
                *members[i : i + BATCH],
                patience=self._lease / 3,
            )
            if lost or aborted:
                asked = [(m, r.decode("utf-8", "replace")) for m, r in zip(aborted, reasons, strict=True)]
                self._owner.call_soon_threadsafe(self._found, lost, asked)

    def leave(self, place: tuple[Any, Any] | None) -> None:
        """The server is at ``place`` by now."""
        if self._leave is not None:
            with contextlib.suppress(RuntimeError):  # the thread has ended
                self._leave(place)

    async def close(self) -> None:
        """Ends the thread. Leases that are held run out by themselves."""
        self._stopping = True
        if self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._stop()
        await self._ended
        self._thread.join()
