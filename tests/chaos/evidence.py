"""What is left of a run: the journals of all processes, and what Redis holds in the end.

Owns reading it. Must not judge.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.keys import EXPLAINED
from tests.chaos.functions import CRASH, KINDS
from tests.chaos.journal import Entry, read
from tests.chaos.process import Life, Process
from tests.chaos.timeline import CRASHES, POWER_LOSS, TAKES_AWAY, THE_END, Event

#: What TTL says of a key that is not there any more.
EXPIRED = -2
#: What must be empty when all is done.
EMPTY = ("jobs", "queued", "scheduled", "active", "runs", "patch", "waiting", "watching")
#: A worker writes one of these when it died of something that nobody planned.
SUSPICIOUS = re.compile(
    r"Task was destroyed|never retrieved|was never awaited|ended with an error|Exception ignored in"
    r"|Fatal Python error|AssertionError|Upkeep: .* failed.*\nTraceback|Exception in callback"
)
#: What a parent says of a child that was neither killed nor ended by a job. One that could not start has said
#: why; so has one whose parent gave up.
DIED = re.compile(rf".*died \(exit code (?!-9\)|{CRASH}\)|1\)).*")
COULD_NOT_START = re.compile(r"A worker cannot start: (cannot reach|OOM|NOREPLICAS|READONLY|ERR)")


class Attempt(NamedTuple):
    """One start of a function, and its end, if it had one."""

    key: str
    life: str
    number: int
    worker: str
    pid: int
    began: float
    ended: float | None
    returned: bool


class Record(NamedTuple):
    """What Redis holds of a finished job."""

    status: Status
    result: Any
    error: str
    attempts: int
    number: int


class Evidence:
    """All that a verdict needs.

    Args:
        folder: of the run.
        events: what was broken.
        lives: of the processes.
        lossy: whether the server could lose what it had acknowledged.
    """

    def __init__(
        self, folder: Path, events: list[Event], lives: list[Life], seconds: float, lossy: bool
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.lossy = lossy
        self.lives = lives
        self.events = [*events, *_crashes(folder)]
        self.takers = [event for event in self.events if event.fault in TAKES_AWAY]
        self.power_losses = [event for event in self.events if event.fault == POWER_LOSS]
        #: What producers wrote, by what happened: (key, life) → when, and more.
        self.said: dict[str, dict[tuple[str, str], tuple[float, dict[str, Any]]]] = defaultdict(dict)
        for entry in read(folder, "produce"):
            self.said[entry.what][entry.key, entry.more["life"]] = entry.at, entry.more
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.raised: Counter[str] = Counter()
        self._read_work()
        self.kinds = Counter(entry.more["kind"] for entry in read(folder, "ready"))
        self.left = [(entry.more["process"], entry.more["names"]) for entry in read(folder, "left")]
        self.records: dict[str, Record] = {}
        self.lengths: dict[str, int] = {}
        #: Keys in Redis, without the prefix, and whether each has a time to live.
        self.names: dict[str, bool] = {}
        self.stats: dict[str, int] = {}
        self.incomplete: dict[str, str] = {}
        # What the driver adds.
        self.census: list[str] = []
        self.censuses = 0
        self.notes: list[str] = []
        self.logs: list[str] = []

    def _read_work(self) -> None:
        # A server that has lost its power counts attempts anew: an end is that of the first start like it.
        open_starts: dict[tuple[str, int, int, str], list[Entry]] = defaultdict(list)
        for entry in read(self.folder, "work"):
            more = entry.more
            run = entry.key, more["attempt"], more["process"], more["life"]
            if entry.what == "start":
                open_starts[run].append(entry)
            elif entry.what == "accepted":
                if more["status"] in ("complete", "failed", "aborted"):
                    self.accepted[entry.key, more["life"]] += 1
            else:
                self._add_attempt(open_starts[run].pop(0), entry)
                if entry.what == "broke" and function_of(entry.key).startswith("raising"):
                    self.raised[more["error"]] += 1
        for starts in open_starts.values():
            for start in starts:
                self._add_attempt(start, None)
        for attempts in self.attempts.values():
            attempts.sort(key=lambda attempt: attempt.began)

    def _add_attempt(self, start: Entry, end: Entry | None) -> None:
        more = start.more
        self.attempts[start.key].append(
            Attempt(
                start.key,
                more["life"],
                more["attempt"],
                more["worker"],
                more["process"],
                start.at,
                end.at if end is not None else None,
                end is not None and end.what == "end",
            )
        )

    def read_queue(self, url: str) -> None:
        """Reads what the server holds."""
        asyncio.run(self._read_queue(RedisQueue.from_url(url)))

    async def _read_queue(self, queue: RedisQueue) -> None:
        async for job in queue.iter_jobs():
            if job.status in (Status.COMPLETE, Status.FAILED, Status.ABORTED):
                self.records[job.key] = _record(job)
            else:
                self.incomplete[job.key] = job.status.value
        prefix = queue._prefix
        wire = queue._session.wire
        commands = {"hash": "HLEN", "zset": "ZCARD"}
        for name in EMPTY:
            self.lengths[name] = await wire.call(commands[EXPLAINED[name][0]], f"{prefix}{name}")
        rows = await wire.call("HGETALL", f"{prefix}stats")
        self.stats = {rows[i].decode(): int(rows[i + 1]) for i in range(0, len(rows), 2)}
        names = [
            name for name in await wire.call("KEYS", "*") if not name.startswith(f"{prefix}job:".encode())
        ]
        for name in names:
            left = await wire.call("TTL", name)
            if left != EXPIRED:
                self.names[name.decode().removeprefix(prefix)] = left >= 0
        await queue.disconnect()

    def read_logs(self, processes: list[Process]) -> None:
        """Looks for what nobody should have to say."""
        for process in processes:
            log = process.log()
            self.logs += [f"{process.name}: {found[0]}" for found in SUSPICIOUS.finditer(log)]
            self.logs += [f"{process.name}: {found[0]}" for found in DIED.finditer(log)]
            failed = log.count("died (exit code 1)")
            if failed and not COULD_NOT_START.search(log):  # a reason is said once for all who share it
                self.logs.append(f"{process.name}: {failed} children failed, and none said why")

    # Views ------------------------------------------------------------------------------------------------

    def acknowledged(self) -> dict[tuple[str, str], float]:
        """Every job that somebody was told of that it is in the queue, and when."""
        return {job: at for what in ("acknowledged", "told") for job, (at, _) in self.said[what].items()}

    def faults(self) -> Counter[str]:
        """How often what was broken, by the nemesis, and by the jobs themselves."""
        found = Counter(event.fault for event in self.events if event.fault != THE_END)
        for key, attempts in self.attempts.items():
            if fault := KINDS[function_of(key)].fault:
                found[fault] += len(attempts)
        for key, record in self.records.items():
            if function_of(key) == "spoiled" and record.status is Status.FAILED:
                found[KINDS["spoiled"].fault] += 1
        return found


def function_of(key: str) -> str:
    """The function of a job, by its key."""
    return "ticking" if key.startswith("cron:") else key.rpartition("-")[2]


def _record(job: Job) -> Record:
    number = (job.kwargs or {}).get("number", 0)
    return Record(job.status, job.result, _short(job.error or ""), job.attempts, number)


def _crashes(folder: Path) -> list[Event]:
    """Jobs that ended their worker: faults as any other."""
    found = []
    for entry in read(folder, "work"):
        if entry.what == "start" and function_of(entry.key) == "deadly":
            pid = entry.more["process"]
            found.append(Event(CRASHES, entry.at, entry.at, (pid,)))
    return found


def _short(text: str) -> str:
    return text if len(text) <= 600 else f"{text[:300]} … {text[-300:]}"
