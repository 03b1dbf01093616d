"""Repair: whatever is broken in Redis, it puts it right, says so, and loses no job that is there."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from redis import Redis

from saq._speedups import key_of, unpack_record
from saq.job import Job, Status
from saq.queue.backend import Finding, Progress
from saq.queue.redis import RedisQueue
from saq.queue.redis.records import decode_key
from saq.queue.redis.repair import KINDS
from tests.conformance.helpers import SOON
from tests.conftest import MakeServer
from tests.model.world import PREFIX, QUEUE, Look
from tests.redis.helpers import session, snapshot, without_answers
from tests.suspensions.promises import damage, end_leases, look_at
from tests.worker.support import make_worker, running, until

FAR = 4e9
RUNNING = 3


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Callable[[], RedisQueue]]:
    """Queue objects, as other processes would have them."""
    made: list[RedisQueue] = []

    def queue() -> RedisQueue:
        made.append(RedisQueue.from_url(redis_url, name=QUEUE))
        return made[-1]

    yield queue
    for one in made:
        await one.disconnect()


@pytest.fixture
async def queue(make: Callable[[], RedisQueue]) -> RedisQueue:
    return make()


async def populate(queue: RedisQueue, other: RedisQueue) -> None:
    """Jobs in every state there is, some of them with all that can be known of a job."""

    async def many(name: str, count: int, **fields: Any) -> list[str]:
        keys = [f"{name}{n}" for n in range(count)]
        await queue.enqueue_many(Job("f", key=key, **{"ttl": 0, "retries": 5, **fields}) for key in keys)
        return keys

    async def claim(count: int) -> list[Job]:
        return (await queue.step((), count)).jobs

    await many("complete", 4)
    for job in await claim(4):
        await job.update(meta={"n": 1})
        await job.finish(Status.COMPLETE, result=job.key)
    await many("failed", 4)
    for job in await claim(4):
        await job.finish(Status.FAILED, error="no")
    await many("retried", 3, retry_delay=0)
    for job in await claim(3):
        await job.retry("again")
    await many("delayed", 3, retry_delay=3600, priority=-1)
    for job in await claim(3):
        await job.retry("later")
    await many("running", RUNNING, priority=-2)
    jobs = await claim(RUNNING)
    await jobs[0].update(progress=0.5, meta={"n": 1})
    await many("aborting", 1, priority=-3)
    await claim(1)
    await other.abort(Job("f", key="aborting0", queue=other), "enough")
    await many("queued", 6)
    await many("urgent", 2, priority=-5)
    await many("later", 3, scheduled=FAR)
    await other.update(Job("f", key="queued1", queue=other), meta={"n": 1})
    for key in ("queued2", "later1", "running1"):
        await session(queue).run("read", session(queue).channel, key)
    await session(queue).run("watch", session(queue).channel, 60, "queued3")


async def repair(queue: RedisQueue, *, dry_run: bool = False) -> list[Finding]:
    found = []
    async for item in queue.repair(dry_run=dry_run):
        if isinstance(item, Finding):
            assert item.kind in KINDS
            assert item.mended == (not dry_run and item.kind != "type")
            found.append(item)
    return found


def kinds(found: list[Finding]) -> list[tuple[str, str]]:
    return sorted((finding.kind, finding.key) for finding in found)


async def drained(raw: Redis, make: Callable[[], RedisQueue]) -> set[str]:
    """Real workers run all that there is; the keys that they ran."""
    ran: list[str] = []

    async def f(ctx: Any) -> None:
        ran.append(ctx["job"].key)

    queue = make()
    for key in look_at(raw).scores("scheduled"):
        await queue.run_now(decode_key(key))
    end_leases(raw)
    async with AsyncExitStack() as stack:
        # Each takes one of those at a time that have lost a worker.
        for _ in range(RUNNING + 1):
            await stack.enter_async_context(running(make_worker(make(), {"f": f}, concurrency=2)))
        await until(lambda: not raw.hlen(at("jobs")))
    assert len(ran) == len(set(ran)), "run twice"
    return set(ran)


# -- one by one ---------------------------------------------------------------------------------------------


def at(name: str) -> str:
    return PREFIX + name


def member(raw: Redis, key: str) -> bytes:
    return next(m for m in look_at(raw).scores("active") if key_of(m) == key)


def move(raw: Redis, key: str, source: str, target: str, score: float) -> None:
    raw.zrem(at(source), key)
    raw.zadd(at(target), {key: score})


def now(raw: Redis) -> int:
    seconds, micros = raw.time()
    return seconds * 1000 + micros // 1000


def reclaim(raw: Redis, key: str, lease: int, *, keep: bool = False) -> None:
    """Another claim of the same job, which its history does not know."""
    held = member(raw, key)
    if not keep:
        raw.zrem(at("active"), held)
    raw.zadd(at("active"), {f"{int(held.partition(b':')[0]) + 7}:{key}": now(raw) + lease})


def record(raw: Redis, key: str) -> bytes:
    return cast(bytes, raw.get(at(f"job:{key}")))


Break = Callable[[Redis], Any]
Where = tuple[str, ...]
#: What is done to the queue; what is found; where some jobs are afterwards.
CASES: dict[str, tuple[Break, list[tuple[str, str]], dict[str, str]]] = {
    "a queued entry without a job": (
        lambda raw: raw.hdel(at("jobs"), "queued1"),
        [("gone", "queued1")],
        {"queued1": "nowhere"},
    ),
    "a scheduled entry without a job": (
        lambda raw: raw.hdel(at("jobs"), "later1"),
        [("gone", "later1")],
        {"later1": "nowhere"},
    ),
    "a running entry without a job": (
        lambda raw: raw.hdel(at("jobs"), "running1"),
        [("gone", "running1")],
        {"running1": "nowhere"},
    ),
    "a queued job in no list": (
        lambda raw: raw.zrem(at("queued"), "urgent1"),
        [("lost", "urgent1")],
        {"urgent1": "queued"},
    ),
    "a job for later in no list": (
        lambda raw: raw.zrem(at("scheduled"), "later0"),
        [("lost", "later0")],
        {"later0": "scheduled"},
    ),
    "a running job in no list": (
        lambda raw: raw.zrem(at("active"), member(raw, "running0")),
        [("lost", "running0")],
        {"running0": "queued"},
    ),
    "a job to be aborted in no list": (
        lambda raw: raw.zrem(at("active"), member(raw, "aborting0")),
        [("lost", "aborting0")],
        {"aborting0": "finished"},
    ),
    "the list of queued jobs is gone": (
        lambda raw: raw.delete(at("queued")),
        [("lost", key) for key in [*(f"queued{n}" for n in range(6)), "urgent0", "urgent1"]]
        + [("lost", f"retried{n}") for n in range(3)],
        {"queued0": "queued", "retried0": "queued"},
    ),
    "running and queued": (
        lambda raw: raw.zadd(at("queued"), {"running0": 5e15}),
        [("twice", "running0")],
        {"running0": "active"},
    ),
    "running and scheduled, its lease over": (
        lambda raw: (
            raw.zadd(at("scheduled"), {"running0": 1}),
            raw.zadd(at("active"), {member(raw, "running0"): 1}),
        ),
        [("twice", "running0")],
        {"running0": "active"},
    ),
    "queued and scheduled": (
        lambda raw: raw.zadd(at("scheduled"), {"queued0": FAR * 1000}),
        [("twice", "queued0")],
        {"queued0": "queued"},
    ),
    "scheduled for later and queued": (
        lambda raw: raw.zadd(at("queued"), {"later0": 32768 * 2**37 + 1}),
        [("twice", "later0")],
        {"later0": "scheduled"},
    ),
    "moved from queued to scheduled, with its score": (
        lambda raw: move(raw, "queued0", "queued", "scheduled", raw.zscore(at("queued"), "queued0") or 0),
        [("place", "queued0")],
        {"queued0": "queued"},
    ),
    "one that was claimed before, moved in the same way": (
        lambda raw: move(raw, "retried0", "queued", "scheduled", raw.zscore(at("queued"), "retried0") or 0),
        [("place", "retried0")],
        {"retried0": "queued"},
    ),
    "queued at a wrong priority": (
        lambda raw: raw.zadd(at("queued"), {"queued0": 1}),
        [("place", "queued0")],
        {"queued0": "queued"},
    ),
    "a time that is none": (
        lambda raw: raw.zadd(at("scheduled"), {"delayed0": float("inf")}),
        [("place", "delayed0")],
        {"delayed0": "queued"},
    ),
    "history and patch of no job": (
        lambda raw: (raw.hset(at("runs"), "nobody", b"\x01"), raw.hset(at("patch"), "nobody else", "")),
        [("left over", "nobody"), ("left over", "nobody else")],
        {},
    ),
    "a waiter for no job": (
        lambda raw: raw.hset(at("waiting"), "nobody", "somewhere"),
        [("left over", "nobody")],
        {},
    ),
    "a listener that is none": (
        lambda raw: raw.hset(at("watching"), "queued0", "for ever"),
        [("watching", "queued0")],
        {},
    ),
    "a claim that the history does not know": (
        lambda raw: reclaim(raw, "running0", 30_000),
        [("claim", "running0")],
        {"running0": "active"},
    ),
    "the same, its lease over": (
        lambda raw: reclaim(raw, "running0", -1),
        [("lost", "running0"), ("stale", "running0")],
        {"running0": "queued"},
    ),
    "two claims": (
        lambda raw: reclaim(raw, "running0", 30_000, keep=True),
        [("stale", "running0")],
        {"running0": "active"},
    ),
    "a running job without a history": (
        lambda raw: raw.hdel(at("runs"), "running0"),
        [("claim", "running0")],
        {"running0": "active"},
    ),
    "a running job whose history is rubbish": (
        lambda raw: raw.hset(at("runs"), "running0", b"\xc1rubbish"),
        [("claim", "running0")],
        {"running0": "active"},
    ),
    "a queued job whose history is rubbish": (
        lambda raw: raw.hset(at("runs"), "retried0", b"\x01\x02"),
        [("history", "retried0")],
        {"retried0": "queued"},
    ),
    "an entry of active that names nobody": (
        lambda raw: raw.zadd(at("active"), {"nobody": 1}),
        [("member", "nobody")],
        {},
    ),
    "a header without an end": (
        lambda raw: raw.hset(at("jobs"), "queued0", b"\xff rubbish"),
        [("header", "queued0")],
        {"queued0": "finished"},
    ),
    "a header with a timeout that is none, of a running job": (
        lambda raw: raw.hset(at("jobs"), "running0", "1700000000000;Tnan\n{}"),
        [("header", "running0")],
        {"running0": "finished"},
    ),
    "a header with a priority that is none": (
        lambda raw: raw.hset(at("jobs"), "queued0", "1700000000000;p99999\n{}"),
        [("header", "queued0")],
        {"queued0": "finished"},
    ),
    "a patch that is cut off": (
        lambda raw: raw.hset(at("patch"), "queued1", "4:meta99:{"),
        [("patch", "queued1")],
        {"queued1": "queued"},
    ),
    "a failed job that is not listed": (
        lambda raw: raw.zrem(at("failed"), "failed0"),
        [("counter", "failed_bytes"), ("listed", "failed0")],
        {"failed0": "finished"},
    ),
    "no list of finished jobs": (
        lambda raw: raw.delete(at("finished")),
        [("listed", f"complete{n}") for n in range(4)],
        {"complete0": "finished"},
    ),
    "a complete job among the failed": (
        lambda raw: move(raw, "complete0", "finished", "failed", 1.7e12),
        [("counter", "failed_bytes"), ("listed", "complete0")],
        {"complete0": "finished"},
    ),
    "a failed job without its record": (
        lambda raw: raw.delete(at("job:failed0")),
        [("counter", "failed_bytes"), ("evicted", "failed0")],
        {"failed0": "nowhere"},
    ),
    "a record that is rubbish": (
        lambda raw: raw.set(at("job:complete0"), b"\x00rubbish"),
        [("record", "complete0")],
        {"complete0": "finished"},
    ),
    "a record that is cut off": (
        lambda raw: raw.set(at("job:failed0"), record(raw, "failed0").partition(b"\n")[0] + b"\nx"),
        [("counter", "failed_bytes"), ("record", "failed0")],
        {"failed0": "finished"},
    ),
    "the bytes of failed jobs": (
        lambda raw: raw.hincrby(at("meta"), "failed_bytes", 1000),
        [("counter", "failed_bytes")],
        {},
    ),
    "no meta": (
        lambda raw: raw.delete(at("meta")),
        [("counter", "failed_bytes"), ("counter", "sequence"), ("counter", "token")],
        {},
    ),
    "numbers that are none": (
        lambda raw: (
            raw.hset(at("meta"), mapping={"sequence": "many", "watch_cursor": "x"}),
            raw.hset(at("stats"), "complete", "all"),
        ),
        [("counter", "complete"), *[("counter", "sequence")] * 2, ("counter", "watch_cursor")],
        {},
    ),
    "no stats": (
        lambda raw: raw.delete(at("stats")),
        [("counter", "enqueued")],
        {},
    ),
}


def place(look: Look, key: str) -> str:
    name = key.encode()
    found = [p for p in ("queued", "scheduled") if name in look.scores(p)]
    found += ["active" for m in look.scores("active") if key_of(m) == key]
    found += ["finished"] if f"job:{key}" in look else []
    return " and ".join(found) or "nowhere"


@pytest.mark.parametrize(("broken", "says", "places"), CASES.values(), ids=CASES)
async def test_it_says_and_mends(
    broken: Break,
    says: list[tuple[str, str]],
    places: dict[str, str],
    raw: Redis,
    make: Callable[[], RedisQueue],
    queue: RedisQueue,
):
    await populate(queue, make())
    assert await repair(queue) == []
    assert list(damage(look_at(raw))) == []
    broken(raw)
    before = without_answers(snapshot(raw))
    assert set(kinds(await repair(queue, dry_run=True))) <= set(says)
    assert without_answers(snapshot(raw)) == before, "a dry run changes nothing"
    assert kinds(await repair(queue)) == sorted(says)
    look = look_at(raw)
    assert list(damage(look)) == []
    assert {key: place(look, key) for key in places} == places
    assert await repair(queue, dry_run=True) == []
    assert await repair(queue) == []
    incomplete = {key.decode() for key in look.hash("jobs")}
    assert await drained(raw, make) == incomplete - {"aborting0"}
    assert list(damage(look_at(raw))) == []


async def test_the_bytes_of_what_cannot_be_read_are_kept(raw: Redis, queue: RedisQueue):
    await populate(queue, queue)
    spoiled = b"\x00 no end \xff"
    raw.hset(at("jobs"), "queued0", spoiled)
    raw.set(at("job:complete0"), spoiled)
    await repair(queue)
    for key in ("queued0", "complete0"):
        fields, payload, _, error, _ = unpack_record(record(raw, key))
        assert (fields["status"], payload) == ("failed", spoiled)
        assert b"cannot be read" in error
        job = await queue.job(key)
        assert job is not None
        assert job.status is Status.FAILED
        assert await queue.requeue(key), "somebody wants to see it fail again"
    assert await repair(queue) == []


async def test_a_key_of_another_type_is_named_and_left_alone(raw: Redis, queue: RedisQueue):
    await populate(queue, queue)
    raw.rename(at("queued"), "aside")
    raw.set(at("queued"), "somebody's")
    raw.rpush(at("job:mine"), "somebody's")
    for _ in range(2):
        (finding,) = await repair(queue)
        assert (finding.kind, finding.key, finding.mended) == ("type", "queued", False)
        assert "string" in finding.wrong
        assert "rename or delete it" in finding.remedy
    assert raw.get(at("queued")) == b"somebody's"
    raw.rename("aside", at("queued"))
    (finding,) = await repair(queue)
    assert (finding.kind, finding.key, finding.mended) == ("type", "job:mine", False)
    assert raw.lrange(at("job:mine"), 0, -1) == [b"somebody's"]


async def test_jobs_that_are_in_no_list_keep_their_order(raw: Redis, queue: RedisQueue):
    keys = [f"{n}" for n in random.Random(1).sample(range(1000), 300)]
    for key in keys[:20]:
        await queue.enqueue("f", key=key, text="so long that a scan does not have their order" * 5)
        since = now(raw)
        while now(raw) == since:
            pass
    await queue.enqueue("f", key="urgent", priority=-1)
    raw.delete(at("queued"))
    assert len(await repair(queue)) == 21
    assert [job.key for job in (await queue.step((), 50)).jobs] == ["urgent", *keys[:20]]


async def test_a_job_that_ran_returns_to_its_place_with_its_history(
    raw: Redis, make: Callable[[], RedisQueue], queue: RedisQueue
):
    await queue.enqueue_many(Job("f", key=key, retries=3) for key in "abc")
    (job,) = (await queue.step((), 1)).jobs
    await job.retry("the first")
    (job,) = (await queue.step((), 1)).jobs
    assert job.key == "b"
    raw.zrem(at("active"), member(raw, "b"))
    assert kinds(await repair(queue)) == [("lost", "b")]
    again = (await make().step((), 3)).jobs
    assert [(job.key, job.attempts, job.error) for job in again] == [
        ("b", 2, None),
        ("c", 1, None),
        ("a", 2, "the first"),
    ]


async def test_who_waits_for_a_job_that_is_gone_is_told(
    raw: Redis, make: Callable[[], RedisQueue], queue: RedisQueue
):
    ended, vanished = await queue.enqueue("f", key="ended"), await queue.enqueue("f", key="vanished")
    assert ended is not None
    assert vanished is not None
    other = make()
    waits = [asyncio.create_task(other.wait(key, SOON)) for key in ("ended", "vanished")]
    await until(lambda: raw.hlen(at("waiting")) == 2)
    channels = raw.hgetall(at("waiting"))
    raw.delete(at("waiting"))
    await queue.finish(ended, Status.COMPLETE, result=7)
    raw.hset(at("waiting"), mapping=cast(Any, channels))
    raw.hdel(at("jobs"), "vanished")
    await repair(queue)
    first, second = await asyncio.gather(*waits)
    assert first is not None
    assert (first.status, first.result) == (Status.COMPLETE, 7)
    assert second is None


async def test_jobs_that_are_there_again_are_told_to_the_workers(
    raw: Redis, make: Callable[[], RedisQueue], queue: RedisQueue
):
    done = asyncio.Event()

    async def f(ctx: Any) -> None:
        done.set()

    await queue.enqueue("f")
    raw.delete(at("queued"), at("wake"))
    async with running(make_worker(make(), {"f": f})):
        await until(lambda: raw.exists(at("workers")))
        await repair(queue)
        await asyncio.wait_for(done.wait(), 2)


async def test_a_marker_that_is_lost_and_records_that_have_expired_are_no_findings(
    raw: Redis, queue: RedisQueue
):
    await populate(queue, queue)
    raw.delete(at("wake"))
    raw.zadd(at("finished"), {"expired": 1, "too": 2})
    raw.zadd(at("failed"), {"outlived": 1})
    before = without_answers(snapshot(raw))
    assert await repair(queue, dry_run=True) == []
    assert without_answers(snapshot(raw)) == before
    found = [item async for item in queue.repair()]
    assert [item for item in found if isinstance(item, Finding)] == []
    assert found[-1] == Progress("done", found[-1].looked, found[-1].total, 4)  # type: ignore[union-attr]
    assert raw.exists(at("wake"))
    assert list(damage(look_at(raw))) == []


async def test_records_beyond_the_bounds_of_the_list_are_no_findings(raw: Redis, queue: RedisQueue):
    await queue.enqueue_many(Job("f", key=f"{n}", ttl=0) for n in range(40))
    for job in (await queue.step((), 40)).jobs:
        await job.finish(Status.COMPLETE)
        last = now(raw)
        while now(raw) == last:
            pass
    raw.zremrangebyrank(at("finished"), 0, 19)  # as if 10,000 were 20
    assert await repair(queue, dry_run=True) == []
    raw.zrem(at("finished"), *[f"{n}" for n in range(30, 35)])
    assert len(await repair(queue)) == 5
    assert raw.zcard(at("finished")) == 40, "there is room for the others as well"


async def test_large_values_come_in_small_pages(raw: Redis, queue: RedisQueue):
    await queue.enqueue_many(Job("f", {"text": "x" * 50_000}, key=f"{n}") for n in range(400))
    pages = [
        item.looked async for item in queue.repair() if isinstance(item, Progress) and item.part == "jobs"
    ]
    steps = [b - a for a, b in itertools.pairwise(pages)]
    assert max(steps[2:]) < 50


# -- at random ----------------------------------------------------------------------------------------------

LISTS = ("queued", "scheduled", "active", "finished", "failed")
HASHES = ("jobs", "runs", "patch", "waiting", "watching")


class Vandal:
    """Breaks something, somewhere."""

    def __init__(self, raw: Redis, seed: int) -> None:
        self.raw = raw
        self.random = random.Random(seed)
        self.deeds: list[str] = []

    def one_of(self, name: str) -> bytes | None:
        entries = self.raw.hkeys(at(name)) if name in HASHES else self.raw.zrange(at(name), 0, -1)
        return self.random.choice(sorted(cast("list[bytes]", entries))) if entries else None

    def some_score(self, name: str) -> float:
        choices = [0.0, 1.0, 1.7e12, now(self.raw) + 60_000, 4.6e15, FAR * 1000, float("inf")]
        scores = cast("list[tuple[bytes, float]]", self.raw.zrange(at(name), 0, -1, withscores=True))
        return self.random.choice(choices + [score for _, score in scores])

    def rubbish(self) -> bytes:
        return self.random.choice(
            [
                b"",
                b"\n",
                b"x",
                b"17:",
                b"1700000000000;r-",
                b"1700000000000\n",
                b";\n",
                self.random.randbytes(20),
            ]
        )

    def entry_for(self, target: str, entry: bytes, source: str) -> bytes:
        """An entry of one list, as it would stand in another."""
        key = entry.partition(b":")[2] if source == "active" else entry
        token = self.random.choice([1, 10**12, 90_000_000_000_000])
        return b"%d:%b" % (token, key) if target == "active" else key

    def strike(self) -> None:
        raw, pick = self.raw, self.random.choice
        deed = pick(["delete"] * 3 + ["duplicate", "move", "spoil", "count", "invent", "drop", "unrecord"])
        name = pick(LISTS + HASHES)
        if deed == "delete" and (entry := self.one_of(name)):
            (raw.zrem if name in LISTS else raw.hdel)(at(name), cast(Any, entry))
        elif deed in ("duplicate", "move"):
            name, target = self.random.sample(LISTS, 2)
            if entry := self.one_of(name):
                raw.zadd(
                    at(target), {self.entry_for(target, entry, name): self.some_score(pick([name, target]))}
                )
                if deed == "move":
                    raw.zrem(at(name), entry)
        elif deed == "spoil":
            name = pick(HASHES)
            if entry := self.one_of(name):
                raw.hset(at(name), cast(Any, entry), self.rubbish())
        elif deed == "count":
            hash_, field = pick(
                [("meta", "sequence"), ("meta", "token"), ("meta", "failed_bytes"), ("stats", "enqueued")]
            )
            raw.hset(at(hash_), field, pick(["0", "x", "-5"]))
        elif deed == "invent":
            name = pick(LISTS + HASHES)
            if name in LISTS:
                raw.zadd(at(name), {pick(["invented", "1:invented", ":"]): self.some_score(name)})
            else:
                raw.hset(at(name), "invented", self.rubbish())
        elif deed == "drop":
            raw.delete(
                at(
                    pick(
                        (
                            "queued",
                            "scheduled",
                            "active",
                            "runs",
                            "patch",
                            "finished",
                            "failed",
                            "meta",
                            "stats",
                        )
                    )
                )
            )
        elif deed == "unrecord" and (names := sorted(cast("list[bytes]", raw.keys(at("job:*"))))):
            victim = pick(names)
            if self.random.random() < 0.5:
                raw.delete(victim)
            else:
                raw.set(victim, self.rubbish() or b"x")
        self.deeds.append(f"{deed} {name}")


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_is_broken_no_job_that_is_there_gets_lost(
    seed: int, raw: Redis, make: Callable[[], RedisQueue], queue: RedisQueue
):
    await populate(queue, make())
    before = look_at(raw)
    vandal = Vandal(raw, seed)
    for _ in range(vandal.random.choice([1, 3, 10, 40])):
        vandal.strike()
    broken = raw_hash(raw, "jobs")
    intact = {key: value for key, value in before.hash("jobs").items() if broken.get(key) == value}
    spoiled = {key: value for key, value in broken.items() if key not in intact}
    wrong = await repair(queue, dry_run=True)
    found = await repair(queue)
    assert bool(wrong) == bool(found), vandal.deeds
    look = look_at(raw)
    assert list(damage(look)) == [], vandal.deeds
    assert await repair(queue) == [], vandal.deeds
    jobs = look.hash("jobs")
    for key, value in intact.items():
        if jobs.get(key) != value:
            assert key == b"aborting0", vandal.deeds
            assert unpack_record(look["job:aborting0"])[0]["status"] == "aborted"
    for key, value in spoiled.items():
        if key not in jobs:
            head, _, payload = value.partition(b"\n")
            kept = look[f"job:{key.decode()}"]
            assert value in kept or (kept.startswith(head) and payload in kept), "its bytes are kept"
    ran = await drained(raw, make)
    aborted = {"aborting0"} if "aborting0" not in ran else set()  # unless its history was lost
    assert ran | aborted >= {decode_key(key) for key in intact if jobs.get(key) == intact[key]}, vandal.deeds
    assert list(damage(look_at(raw))) == [], vandal.deeds


def raw_hash(raw: Redis, name: str) -> dict[bytes, bytes]:
    return cast("dict[bytes, bytes]", raw.hgetall(at(name)))


# -- in use, and large --------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
async def test_a_busy_healthy_queue_is_sound_and_is_not_disturbed(
    raw: Redis, make: Callable[[], RedisQueue], queue: RedisQueue
):
    """Producers, workers, aborts, retries, failures and waiters, and one repair after the other."""
    ran: Counter[str] = Counter()
    enqueued: set[str] = set()
    done = asyncio.Event()

    async def f(ctx: Any, *, how: int) -> int:
        job = ctx["job"]
        ran[job.key] += 1
        if how % 3 == 0:
            await job.update(progress=0.5, meta={"how": how})
        await asyncio.sleep(0.002 * (how % 4))
        if how % 7 == 0 and job.attempts == 1:
            raise RuntimeError("once more")
        if how % 11 == 0:
            raise RuntimeError("for good")
        return how

    async def produce(producer: RedisQueue, name: str) -> None:
        chance = random.Random(name)
        for n in itertools.count():
            if done.is_set():
                return
            jobs = []
            for i in range(chance.choice([1, 1, 5, 60])):
                how = chance.randrange(100)
                ttl, later = chance.choice([600, 0, 0, 1, -1]), chance.choice([0, 0, 0.05, 0.2])
                when = await producer.server_time() + later if later else 0
                fields: dict[str, Any] = {
                    "key": f"{name}-{n}-{i}",
                    "ttl": ttl,
                    "priority": how % 5,
                    "scheduled": when,
                }
                jobs.append(Job("f", {"how": how}, retries=2, **fields))
            enqueued.update(job.key for job in jobs)
            await producer.enqueue_many(jobs)
            if chance.random() < 0.3:
                await producer.abort(jobs[-1], "not this one")
            if chance.random() < 0.3:
                await asyncio.wait_for(producer.wait(jobs[0].key), SOON)
            await asyncio.sleep(0.005)

    producers = [make(), make()]
    workers = [make_worker(make(), {"f": f}, concurrency=10) for _ in range(2)]
    rounds = 0
    async with running(workers[0]), running(workers[1]):
        tasks = [asyncio.create_task(produce(producer, f"p{n}")) for n, producer in enumerate(producers)]
        ends_at = asyncio.get_running_loop().time() + 4
        while asyncio.get_running_loop().time() < ends_at:
            assert await repair(queue, dry_run=rounds % 2 == 0) == []
            rounds += 1
        done.set()
        await asyncio.gather(*tasks)
        await until(lambda: not raw.hlen(at("jobs")))
    assert rounds >= 4
    assert len(enqueued) > 500
    assert max(ran.values()) <= 2, "retries, and nothing else, ran twice"
    stats = {name.decode(): int(n) for name, n in raw_hash(raw, "stats").items()}
    assert stats["enqueued"] == len(enqueued) == stats["complete"] + stats["failed"] + stats["aborted"]
    assert stats.get("lost", 0) == 0
    assert await repair(queue) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_large_queue_is_mended_in_small_steps(make_server: MakeServer):
    """200,000 jobs, half of them in no list; no call keeps the server from others for long."""
    server = make_server()
    server.go_first()
    raw, queue = server.client(), RedisQueue.from_url(server.url(), name=QUEUE)
    count = 200_000
    try:
        await queue.enqueue_many(
            Job("f", {"n": n}, key=f"{n}", scheduled=FAR if n % 2 else 0, priority=n % 3)
            for n in range(count)
        )
        await queue.enqueue_many(Job("f", key=f"failed{n}", priority=-9) for n in range(5000))
        while jobs := (await queue.step((), 100)).jobs:
            if not jobs[0].key.startswith("failed"):
                await queue.step([queue.settle_return(job, "") for job in jobs], 0)
                break
            await queue.step([queue.settle(job, Status.FAILED, error="no") for job in jobs], 0)
        raw.unlink(at("queued"))
        raw.unlink(at("failed"))
        raw.config_set("slowlog-max-len", 10_000)
        raw.config_set("slowlog-log-slower-than", 3000)
        raw.slowlog_reset()
        raw.config_resetstat()
        found = await repair(queue)
        stats = cast(Any, raw.info("commandstats"))["cmdstat_evalsha"]
        slow = [(entry["duration"], entry["command"][:90]) for entry in raw.slowlog_get(10_000)]
        assert Counter(finding.kind for finding in found) == {
            "lost": count // 2,
            "listed": 5000,
            "counter": 1,
        }
        assert stats["usec_per_call"] < 1500
        # The clock that measures goes on while somebody else has the processor.
        assert len(slow) <= stats["calls"] * 0.01, slow
        assert await repair(queue, dry_run=True) == []
        assert await queue.count("queued") == await queue.count("scheduled") == count // 2
        first = [job.key for job in (await queue.step((), 10)).jobs]
        assert first == [f"{n}" for n in range(0, 60, 6)], "in the order in which they were queued"
    finally:
        await queue.disconnect()
