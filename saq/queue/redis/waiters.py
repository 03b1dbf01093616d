"""Who waits for what in this process.

Owns those who wait for the end of a job and those who listen to its changes, from their registration in
Redis to the message that answers them. Must not hold a connection: the session does.

A key may be used again: an end that is told may be that of an earlier job of the key. So whoever waits for a
job of its own remembers since when it is queued.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from saq.errors import DecodeError, ServerError
from saq.job import Job, Status
from saq.queue.redis.records import Records, decode_key, encode_key
from saq.queue.redis.session import Session
from saq.queue.redis.wire import UnreachableError

#: So many keys are read in one call.
READ_AT_ONCE = 150
#: Seconds that a listener stays registered; it registers again well before.
LISTEN_FOR = 60

#: Holds the job as it ended, or None if there is no such job any more.
End = asyncio.Future[Job | None]


class Waiter:
    """Somebody who waits for the end of a job.

    Args:
        key: of the job.
        heard: while the job is on its way to Redis, what was heard of its key meanwhile; None as a rule.
    """

    __slots__ = ("born", "end", "heard", "key")

    def __init__(self, key: bytes, end: End, heard: list[bytes | None] | None) -> None:
        self.key = key
        self.end = end
        self.heard = heard
        #: Of a job that was new, since when it is queued (ms): what was queued before is not it.
        self.born = 0


class Waiters:
    """Those who wait and those who listen, by key.

    Args:
        session: the connections of the running loop.
        prefix: of the queue's keys.
        records: makes jobs of what is told.
    """

    def __init__(self, session: Callable[[], Session], prefix: str, records: Records) -> None:
        self._session = session
        self._prefix = prefix
        self._records = records
        self._waiters: dict[bytes, list[Waiter]] = {}
        self._by_end: dict[End, Waiter] = {}
        #: Records on their way that were too large for a message.
        self._fetches: set[asyncio.Task[None]] = set()
        #: How often all waiters were asked for anew, after a lost subscription.
        self._asked = 0
        self._listeners: dict[bytes, set[asyncio.Queue[tuple[str, Status] | None]]] = {}

    def forget(self) -> None:
        """Those who waited in another loop are gone with it."""
        self._waiters.clear()
        self._by_end.clear()
        self._listeners.clear()

    def disconnect(self) -> None:
        """Tells everybody that nothing more will be heard."""
        for end in self._by_end:
            _refuse(end, _disconnected())
        for changes in {changes for listeners in self._listeners.values() for changes in listeners}:
            changes.put_nowait(None)

    async def send(
        self, keys: list[bytes], values: list[bytes], taken_in: Callable[[int, int], bool]
    ) -> list[End]:
        """Sends new jobs, or attaches to those of their keys. The futures hold them as they end.

        ``taken_in`` is told for each job by its position when it was queued (ms), or 0 if it was not, and
        says whether it was.
        """
        session = self._session()
        await session.inbox.subscribe(session.channel)
        taken, waiters = [], []
        asked = self._asked
        for key, value in zip(keys, values, strict=True):
            # Before it is sent: its end may be told in the turn in which it is taken in.
            waiters.append(self._add_waiter(key, []))
            taken.append(session.outbox.put(key, value, True))
        early = []
        try:
            for i, sent in enumerate(taken):
                at, waiter = await sent, waiters[i]  # a call takes in many: as a rule, it is there already
                if taken_in(i, at):
                    waiter.born = at
                if waiter.heard:
                    early.append((waiter, waiter.heard))
                waiter.heard = None
            if self._asked != asked:  # the subscription was lost meanwhile, and these were left out
                await self._ask(keys)
            for waiter, records in early:
                await self._catch_up(waiter, records)
        except BaseException:
            for sent in taken:
                if not sent.cancel() and not sent.cancelled():
                    sent.exception()  # told once
            for waiter in waiters:
                waiter.end.cancel()
            raise
        return [waiter.end for waiter in waiters]

    def _add_waiter(self, key: bytes, heard: list[bytes | None] | None = None) -> Waiter:
        end: End = asyncio.get_running_loop().create_future()
        waiter = self._by_end[end] = Waiter(key, end, heard)
        waiters = self._waiters.get(key)
        if waiters is None:
            self._waiters[key] = [waiter]
        else:
            waiters.append(waiter)
        end.add_done_callback(self._on_end)
        return waiter

    def _on_end(self, end: End) -> None:
        """It is known, or nobody waits for it any more."""
        waiter = self._by_end.pop(end, None)
        if waiter is None:
            return  # that was in another loop
        waiters = self._waiters[waiter.key]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.key]

    def _tell(self, waiters: Iterable[Waiter], key: bytes, record: bytes | None) -> None:
        """Tells those who wait for a job of its end: its record, the head of one that was too large for a
        message, or None if there is no such job any more."""
        ends = [waiter.end for waiter in waiters if not waiter.end.done()]
        if not ends:
            return
        if record is not None and b"\n" not in record:
            fetch = asyncio.create_task(self._fetch(ends, key), name="saq-fetch-record")
            self._fetches.add(fetch)
            fetch.add_done_callback(self._fetches.discard)
            return
        self._set(ends, key, record)

    def _set(self, ends: list[End], key: bytes, record: bytes | None) -> None:
        for end in ends:
            try:
                end.set_result(None if record is None else self._records.finished(decode_key(key), record))
            except DecodeError as error:
                _refuse(end, error)

    async def _fetch(self, ends: list[End], key: bytes) -> None:
        # The record is read, not the job: the key may be in its next life already.
        try:
            record = await self._session().wire.call("GET", f"{self._prefix}job:".encode() + key)
        except ServerError as error:
            for end in ends:
                _refuse(end, error)
        else:
            self._set([end for end in ends if not end.done()], key, record)

    async def wait_for(self, key: str, timeout: float | None = None) -> Job | None:
        session = self._session()
        name = encode_key(key)
        async with asyncio.timeout(timeout):
            await session.inbox.subscribe(session.channel)
            end = self._add_waiter(name).end
            try:
                (entry,) = await session.run("read", session.channel, name)
                if not entry:
                    return None
                if entry[0] == b"finished":
                    return self._records.finished(key, entry[1])
                return await end
            finally:
                end.cancel()

    async def ask_again(self) -> None:
        """After a lost subscription: what ended meanwhile was told to nobody."""
        self._asked += 1
        await self._ask(list(self._waiters))

    async def _ask(self, keys: list[bytes]) -> None:
        """Tells those who wait for these jobs what has ended. Of a job that is still to be sent, nothing can
        be known yet: what is found is an earlier one of its key, or none."""
        session = self._session()
        for i in range(0, len(keys), READ_AT_ONCE):
            part = keys[i : i + READ_AT_ONCE]
            asking = [[w for w in self._waiters.get(key, ()) if w.heard is None] for key in part]
            entries = await session.run("read", session.channel, *part)
            for key, waiters, entry in zip(part, asking, entries, strict=True):
                if not entry or entry[0] == b"finished":
                    self._tell(waiters, key, entry[1] if entry else None)

    async def _catch_up(self, waiter: Waiter, heard: list[bytes | None]) -> None:
        """What was heard while a job was on its way may have been the end of an earlier one of its key."""
        key, at = waiter.key, waiter.born
        if at and None not in heard:
            records = [record for record in heard if record is not None]
            for record in records:
                if _completed(record) > at:
                    self._tell([waiter], key, record)
                    return
            if all(_queued(record) < at for record in records):
                return
        (entry,) = await self._session().run("read", self._session().channel, key)
        if not entry or entry[0] == b"finished":
            self._tell([waiter], key, entry[1] if entry else heard[-1])

    def tell(self, key: bytes, record: bytes | None) -> None:
        told = []
        for waiter in self._waiters.get(key, ()):
            if waiter.heard is not None:
                waiter.heard.append(record)
            elif record is None or not waiter.born or _queued(record) >= waiter.born:
                told.append(waiter)
        self._tell(told, key, record)

    def tell_change(self, key: bytes, status: Status) -> None:
        """Tells those who listen to a job."""
        for listener in self._listeners.get(key, ()):
            listener.put_nowait((decode_key(key), status))

    async def listen(self, job_keys: list[str], take: Callable[[str, Status], Awaitable[bool]]) -> None:
        session = self._session()
        await session.inbox.subscribe(session.channel)
        changes: asyncio.Queue[tuple[str, Status] | None] = asyncio.Queue()
        watched = [encode_key(key) for key in job_keys]
        for key in watched:
            self._listeners.setdefault(key, set()).add(changes)
        try:
            while True:
                await self._watch(watched, LISTEN_FOR)
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
                await asyncio.shield(self._watch(gone, 0))

    async def _watch(self, keys: list[bytes], seconds: int) -> None:
        """Is told every change of these jobs for so long; 0 is told no more."""
        session = self._session()
        for i in range(0, len(keys), READ_AT_ONCE):
            part = keys[i : i + READ_AT_ONCE]
            if seconds == 0:  # somebody else may have begun to listen meanwhile, under the same name
                part = [key for key in part if key not in self._listeners]
            if part:
                await session.run("watch", session.channel, seconds, *part)


def _disconnected() -> UnreachableError:
    return UnreachableError("the queue was disconnected while this was waited for")


def _queued(record: bytes) -> int:
    """When a job was queued (ms), from what was told of its end."""
    return int(record[: record.index(b";")])


def _completed(record: bytes) -> int:
    """When it ended."""
    head = record.partition(b"\n")[0]
    return int(head[head.rindex(b";c") + 2 :])


def _refuse(end: End, error: Exception) -> None:
    if not end.done():
        end.set_exception(error)
        end.exception()  # whoever waits hears of it; nobody has to
