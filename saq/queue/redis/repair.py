"""What a queue holds in Redis, checked against itself and mended.

Owns the order in which everything is looked through, page by page, and the words for what is found. Must not
judge: `lua/repair*.lua` do, and mend in the same call, so that workers may go on meanwhile.

Server time a page is what bounds a page: some hundred entries, and fewer where they are large.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from saq.queue.backend import Finding, Progress
from saq.queue.redis.keys import EXPLAINED
from saq.queue.redis.records import decode_key
from saq.queue.redis.scripts import Lane
from saq.queue.redis.session import Session

#: Entries of a page: at first, and at the most. 250 that are sound take the server 0.6 ms, as do 100 that are
#: put back; 100 records of which none can be read take 0.9 ms. Redis 6.2 needs three times as long.
FIRST_PAGE, LARGEST_PAGE, PUT_BACK_PAGE, RECORDS_PAGE = 50, 250, 50, 50
#: A page with more bytes than that, or in which more is wrong, is followed by a smaller one.
PAGE_BYTES, PAGE_FOUND = 262_144, 40
#: How often the bytes of failed jobs are measured anew when they change meanwhile.
MEASURED_AT_MOST = 10

#: What can be wrong, and what is done about it.
KINDS = {
    "type": (
        "is a {detail}, which SAQ never makes of it",
        "whose is it? rename or delete it, then repair again",
    ),
    "counter": ("is wrong: it has to be {detail}", "set right"),
    "member": ("is listed as running and names no claim", "removed"),
    "gone": ("is listed ({detail}), and its content is gone", "the entry is removed"),
    "stale": ("is listed with a claim of before ({detail})", "the entry is removed"),
    "claim": ("is run by a claim that its history does not know ({detail})", "written into its history"),
    "header": ("cannot be read: {detail}", "kept as a failed job, with all its bytes"),
    "history": ("has a history that cannot be read", "it starts without one"),
    "twice": ("is in more than one list: {detail}", "stays in the first"),
    "place": ("has a wrong place in the list {detail}", "moved to where it belongs"),
    "lost": ("is in no list", "now {detail}"),
    "patch": ("has a progress or meta that cannot be read", "removed"),
    "left over": ("has left something in {detail}, and is no job any more", "removed"),
    "watching": ("is listened to in a way that cannot be read", "removed"),
    "evicted": ("is listed as failed, and its record is gone before its time", "the entry is removed"),
    "record": ("has a record that cannot be read: {detail}", "kept as a failed job, with all its bytes"),
    "listed": ("has ended, and is not listed as it should be: {detail}", "listed"),
}
#: Those whose `key` is the name of something in Redis, not that of a job.
_NAMES = {"type", "counter", "member"}
_OF_RECORDS = {"evicted", "record", "listed"}

#: Jobs are judged when the claims are known, and what is left of jobs when all jobs are. Listeners come
#: first: they are told of the others.
_BEFORE_LOST = ("watching", "active", "jobs")
_AFTER_LOST = ("queued", "scheduled", "runs", "patch", "waiting")
_FIXED = [
    part
    for name, (kind, _) in EXPLAINED.items()
    if ":" not in name
    for part in (name, kind.partition(",")[0])
]


class Repair:
    """One pass over a queue."""

    def __init__(self, session: Session, prefix: str, dry_run: bool) -> None:
        self._wire = session.wire
        self._scan_keys = session.scan
        # Numbered: what was found by a call whose answer got lost is told all the same.
        self._lane = Lane(session.wire, prefix)
        self._prefix = prefix
        self._dry_run = dry_run
        self._sizes: dict[str, int] = {}
        #: `finished` began then (ms) when all this began, or 0.
        self._since = 0
        self._lost: list[tuple[int, bytes]] = []
        self._tidied = 0
        self._told: set[tuple[str, bytes]] = set()

    async def run(self) -> AsyncIterator[Finding | Progress]:
        """Says what is found as it goes; the progress of each part comes before what is found in it."""
        found, sizes = await self._call("repair_counters", "types", *_FIXED)
        for finding in self._tell(found):
            yield finding
        if found:
            return  # every script would stop at it
        self._sizes = dict(zip(_FIXED[::2], sizes, strict=False))
        self._since = sizes[-1]
        for finding in self._tell((await self._call("repair_counters", "numbers"))[0]):
            yield finding
        for name in _BEFORE_LOST:
            async for item in self._scan("repair", name):
                yield item
        async for item in self._put_back():
            yield item
        for name in _AFTER_LOST:
            async for item in self._scan("repair", name):
                yield item
        for name in ("finished", "failed"):
            async for item in self._scan("repair_records", name):
                yield item
        async for item in self._records():
            yield item
        for finding in self._tell(await self._failed_bytes()):
            yield finding
        found, marker = await self._call("repair_counters", "totals")
        for finding in self._tell(found):
            yield finding
        looked = sum(self._sizes.values())
        yield Progress("done", looked, looked, self._tidied + len(marker))

    async def _call(self, script: str, *arguments: Any) -> Any:
        return await self._lane.call(script, "look" if self._dry_run else "mend", *arguments)

    def _tell(self, found: Sequence[Sequence[bytes]]) -> list[Finding]:
        """Findings in words.

        A scan may show an entry twice; and of each job a dry run tells the first that is wrong, for to mend
        that may be to mend the others.
        """
        told = []
        for kind_, key, detail in found:
            kind = kind_.decode()
            group = kind if kind in _NAMES else "record" if kind in _OF_RECORDS else "job"
            if self._dry_run or kind == "type":
                if (group, key) in self._told:
                    continue
                self._told.add((group, key))
            wrong, remedy = KINDS[kind]
            said = detail.decode("utf-8", "replace")
            told.append(
                Finding(
                    kind,
                    key.decode("utf-8", "backslashreplace") if kind in _NAMES else decode_key(key),
                    wrong.format(detail=said),
                    remedy.format(detail=said),
                    mended=not self._dry_run and kind != "type",
                )
            )
        return told

    async def _scan(self, script: str, name: str) -> AsyncIterator[Finding | Progress]:
        """Looks through one hash or sorted set."""
        cursor, looked, count = b"0", 0, FIRST_PAGE
        total = self._sizes[name]
        while True:
            yield Progress(name, min(looked, total), total, self._tidied)
            cursor, page, size, found, more = await self._call(script, name, cursor, count)
            if script == "repair":
                self._lost += zip(map(int, more[1::2]), more[::2], strict=True)
            else:
                self._tidied += more
            for finding in self._tell(found):
                yield finding
            looked += page
            if size > PAGE_BYTES or len(found) > PAGE_FOUND:
                count = max(1, count // 2)
            elif max(size / PAGE_BYTES, len(found) / PAGE_FOUND) < 0.5:
                count = min(LARGEST_PAGE, count * 2)
            if cursor == b"0":
                return

    async def _put_back(self) -> AsyncIterator[Finding | Progress]:
        """What is in no list goes back by the time at which it was queued: a scan has no order."""
        self._lost.sort()
        for i in range(0, len(self._lost), PUT_BACK_PAGE):
            yield Progress("lost", i, len(self._lost), self._tidied)
            keys = [key for _, key in self._lost[i : i + PUT_BACK_PAGE]]
            _, _, _, found, _ = await self._call("repair", "lost", *keys)
            for finding in self._tell(found):
                yield finding

    async def _records(self) -> AsyncIterator[Finding | Progress]:
        """Looks through the records: they are no part of one structure, and not all of them are listed."""
        begin = f"{self._prefix}job:"
        total = int(await self._wire.call("DBSIZE"))
        looked = 0
        async for names in self._scan_keys("MATCH", f"{begin}*", "COUNT", LARGEST_PAGE):
            yield Progress("records", min(looked, total), total, self._tidied)
            looked += LARGEST_PAGE
            for i in range(0, len(names), RECORDS_PAGE):
                keys = [name[len(begin) :] for name in names[i : i + RECORDS_PAGE]]
                _, _, _, found, tidied = await self._call("repair_records", "records", self._since, *keys)
                self._tidied += tidied
                for finding in self._tell(found):
                    yield finding

    async def _failed_bytes(self) -> list[list[bytes]]:
        """Measures the records of failed jobs against what is counted, in a moment in which none changes."""
        if any(group == "type" for group, _ in self._told):
            return []  # a record that is none has no length
        for _ in range(MEASURED_AT_MOST):
            rank, measured = 0, 0
            first: tuple[int, int] | None = None
            while True:
                _, (count, counted, length) = await self._call("repair_counters", "bytes", rank, LARGEST_PAGE)
                if first not in (None, (count, counted)):
                    break
                first = (count, counted)
                rank, measured = rank + LARGEST_PAGE, measured + length
                if rank < count:
                    continue
                if measured == counted:
                    return []
                found: list[list[bytes]]
                found, _ = await self._call("repair_counters", "failed_bytes", count, counted, measured)
                if found:
                    return found
                break
        return []
