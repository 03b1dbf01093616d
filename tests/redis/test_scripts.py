"""The transitions as scripts: safe to send again, whatever the server has forgotten, and tidy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, cast

import pytest
from redis import Redis

from saq.job import Job, Status
from saq.queue.backend import Settlement
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue, RefusedError
from saq.queue.redis import scripts as scripts_module
from saq.queue.redis.keys import EXPLAINED
from saq.queue.redis.scripts import Lane, load
from saq.queue.views import Report
from tests.conformance.helpers import (
    SOON,
    QueueFactory,
    all_keys,
    attached,
    claim,
    counts,
    enqueue,
    listening,
    run_one,
    status_of,
)
from tests.redis.helpers import prefix, session, snapshot

STEP = (b"worker", 0, 30_000, 3, "1", "")  # worker, claims, lease ms, max_lost, suspects allowed, message
CLAIM = (b"worker", 2, 30_000, 3, "1", "")


def value(queue: Queue, **fields: Any) -> bytes:
    return cast(RedisQueue, queue)._records.value(Job("f", **fields))


def parts(settlement: Settlement) -> tuple[Any, ...]:
    return settlement[2:]


async def queued(queue: Queue) -> tuple[Any, ...]:
    await enqueue(queue, "k")
    return ("k",)


async def finished(queue: Queue) -> tuple[Any, ...]:
    await enqueue(queue, "k")
    await run_one(queue, Status.FAILED, error="no", result=[1])
    return ("k",)


async def scheduled(queue: Queue) -> tuple[Any, ...]:
    await queue.enqueue("f", key="k", scheduled=4e9)
    return ("k",)


async def running(queue: Queue) -> tuple[Any, ...]:
    await enqueue(queue, "k")
    await claim(queue)
    return ("k",)


async def new(queue: Queue) -> tuple[Any, ...]:
    return ("", "-w-", "a", value(queue), "b", value(queue, scheduled=4e9), "a", value(queue))


async def to_claim(queue: Queue) -> tuple[Any, ...]:
    await enqueue(queue, "a", "b", "c")
    return CLAIM


async def to_settle(queue: Queue) -> tuple[Any, ...]:
    await enqueue(queue, *"abcdef", retries=2)
    jobs = (await queue.step((), 5)).jobs
    await queue.abort(Job("f", key="e", queue=queue), "stop")
    ends = [
        queue.settle(jobs[0], Status.COMPLETE, result=1),
        queue.settle(jobs[1], Status.FAILED, error="no"),
        queue.settle_retry(jobs[2], "again", 0),
        queue.settle_return(jobs[3], "later", 60),
        queue.settle_retry(jobs[4], "aborted", 0),
    ]
    return (*CLAIM, *(part for end in ends for part in parts(end)))


async def of_cron(queue: Queue) -> tuple[Any, ...]:
    await queue.tick("entry", 100, Job("f", key="k"))
    return ("entry", 160_000, "k", value(queue))


TRANSITIONS: dict[str, tuple[str, Callable[[Queue], Awaitable[tuple[Any, ...]]], tuple[Any, ...]]] = {
    "enqueue": ("enqueue", new, ()),
    "claim": ("step", to_claim, ()),
    "settle and claim": ("step", to_settle, ()),
    "abort of a queued job": ("abort", queued, ("why",)),
    "abort of a scheduled job": ("abort", scheduled, ("why",)),
    "abort of a running job": ("abort", running, ("why",)),
    "finish by a guest": ("finish", queued, ("complete", "", "")),
    "finish of what has ended": ("finish", finished, ("complete", "", "")),
    "retry of what has ended": ("revive", finished, ("",)),
    "run now": ("revive", scheduled, ("1",)),
    "delete of a queued job": ("delete", queued, ()),
    "delete of a record": ("delete", finished, ()),
    "update of a queued job": ("update", queued, ("", ";t5", "meta", b'{"a":1}')),
    "update of a record": ("update", finished, ("", ";t5", "meta", b'{"a":1}')),
    "tick": ("cron", of_cron, ()),
    "first tick": ("cron", new, ()),
}


def comparable(name: str, answer: Any) -> Any:
    """A step tells the time in each of its answers, and the history of a job that has none in two ways."""
    if name != "step":
        return answer
    return [[1, 0, 0, None, None] if part == 0 else part for part in answer[1:]]


@pytest.mark.parametrize("flushed", [False, True], ids=["", "after SCRIPT FLUSH"])
@pytest.mark.parametrize(("name", "prepare", "more"), TRANSITIONS.values(), ids=TRANSITIONS)
async def test_a_call_that_is_sent_again_gets_the_same_answer_and_changes_nothing(
    name: str,
    prepare: Callable[[Queue], Awaitable[tuple[Any, ...]]],
    more: tuple[Any, ...],
    flushed: bool,
    raw: Redis,
    queue: Queue,
):
    arguments = (*await prepare(queue), *more)
    if name == "cron" and len(arguments) != 4:
        arguments = ("entry", 160_000, "k", value(queue))
    before = snapshot(raw)
    lane = Lane(session(queue).wire, prefix(queue).decode())
    answer = await lane.call(name, *arguments)
    changed = snapshot(raw)
    assert changed != before
    for _ in range(2):
        if flushed:
            raw.script_flush()
        lane._number -= 1
        assert comparable(name, await lane.call(name, *arguments)) == comparable(name, answer)
        assert snapshot(raw) == changed
    lane._number -= 2
    with pytest.raises(RefusedError, match="STALECALL"):
        await lane.call(name, *arguments)
    assert snapshot(raw) == changed


async def test_a_claim_that_is_answered_again_leaves_out_what_is_lost_by_now(raw: Redis, queue: Queue):
    await enqueue(queue, "a", "b")
    lane = Lane(session(queue).wire, prefix(queue).decode())
    *_, member_a, _, _, member_b, _, _ = await lane.call("step", *CLAIM)
    raw.zrem(prefix(queue) + b"active", member_a)
    lane._number -= 1
    answer = await lane.call("step", *CLAIM)
    assert [part for part in answer[4:] if part in (member_a, member_b)] == [member_b]


async def test_a_claim_that_found_nothing_finds_nothing_when_it_comes_again(raw: Redis, queue: Queue):
    """A call that was given up on one connection and sent again on another may run there all the same, later,
    when there is a job: it would be claimed for nobody."""
    lane = Lane(session(queue).wire, prefix(queue).decode())
    assert len(await lane.call("step", *CLAIM)) == 4
    await enqueue(queue, "a")
    lane._number -= 1
    assert len(await lane.call("step", *CLAIM)) == 4
    assert (await queue.count("queued"), await queue.count("active")) == (1, 0)
    assert len(await lane.call("step", *CLAIM)) == 7


async def test_the_scripts_may_be_forgotten_at_any_time(raw: Redis, queue: Queue, other: Queue):
    done = asyncio.Event()

    async def forget() -> None:
        while not done.is_set():
            raw.script_flush()
            await asyncio.sleep(0)

    forgetting = asyncio.create_task(forget())
    waiting = [asyncio.create_task(queue.apply("f", key=f"{n}")) for n in range(30)]
    for _ in range(30):
        job = await other.dequeue(timeout=SOON)
        assert job is not None
        await job.update(progress=0.5)
        await job.finish(Status.COMPLETE, result=job.key)
    assert await asyncio.gather(*waiting) == [f"{n}" for n in range(30)]
    done.set()
    await forgetting


async def test_nothing_is_left_but_the_keys_that_are_explained(
    raw: Redis, queue: Queue, other: Queue, queue_factory: QueueFactory
):
    name = {b"hash": "hash", b"zset": "zset", b"string": "string"}
    seen: dict[str, str] = {}

    def look() -> set[str]:
        found = set()
        for key in cast("list[bytes]", raw.keys("*")):
            assert key.startswith(prefix(queue)), key
            rest = key.removeprefix(prefix(queue)).decode()
            plain = re.sub(r"^(job|last|worker|hour):.*", lambda m: m[1], rest)
            explained = next((k for k in EXPLAINED if k.partition(":")[0] == plain), None)
            assert explained is not None, f"{rest} is explained nowhere"
            kind = name[cast(bytes, raw.type(key))]
            assert EXPLAINED[explained][0].startswith(kind), rest
            passes = re.search(r"TTL|\d (min|h)$", EXPLAINED[explained][0]) is not None
            assert passes == (raw.pttl(key) != -1), rest
            seen[explained] = kind
            found.add(explained)
        return found

    async with attached(queue, "w1"), listening(other, "a", "b"):
        await queue.worker_info("w1")
        await queue.register("w2", {"stats": None, "queue_key": None, "metadata": None}, ["f"], 60)
        await queue.report("w2", Report({}, (), {0: 1}, {"f": (0, {0: 1})}))
        assert await queue.views.quiet("w2", 60)
        await queue.tick("entry", 100, Job("f"))
        await queue.views.quiet("w2", 60)
        await enqueue(queue, "a", "b", "c", "d", retries=2)
        await queue.sweep()
        await queue.enqueue("f", key="later", scheduled=4e9)
        waiting = asyncio.create_task(other.apply("f", key="a"))
        while b"waiting" not in b"".join(cast("list[bytes]", raw.keys("*"))):
            await other.count("queued")
        a, b, c = (await queue.step((), 3)).jobs
        await a.update(progress=0.5, meta={"n": 1})
        await other.update(Job("f", key="d", queue=other), meta={"n": 1})
        look()
        await a.finish(Status.COMPLETE, result=1)
        await b.finish(Status.FAILED, error="no")
        await c.retry("again")
        look()
        assert await waiting == 1
        await queue.delete("later")
        assert await queue.views.quiet("w2", 0) == 0
        for _ in range(2):
            await run_one(queue, Status.ABORTED)
        look()
        await queue.views.quiet("w2", 0)
        await queue.register("w2", {"stats": None, "queue_key": None, "metadata": None}, (), 0)
    assert await counts(queue) == {}
    left = look()
    assert seen.keys() == EXPLAINED.keys(), "all of them were met"
    expected = {"job:<key>", "finished", "failed", "last:<client>", "functions", "cron", "stats", "meta"}
    expected |= {"hour:<n>"}
    assert left - {"wake"} == expected
    for key in await all_keys(queue):
        await queue.delete(key)
    assert look() - {"wake"} == expected - {"job:<key>", "finished", "failed"}
    assert raw.hget(prefix(queue) + b"meta", "failed_bytes") == b"0"


async def test_the_bytes_of_failed_jobs_are_counted(raw: Redis, queue: Queue):
    def sizes() -> tuple[int, int]:
        failed = cast("list[bytes]", raw.zrange(prefix(queue) + b"failed", 0, -1))
        counted = int(cast("bytes | None", raw.hget(prefix(queue) + b"meta", "failed_bytes")) or 0)
        records: Any = [raw.get(prefix(queue) + b"job:" + key) for key in failed]
        return counted, sum(len(record) for record in records)

    await enqueue(queue, *"abcde", ttl=0)
    for _ in range(5):
        await run_one(queue, Status.FAILED, error="x" * 100)
    assert sizes()[0] == sizes()[1] > 500
    await queue.update(Job("f", key="a", queue=queue), meta={"long": "y" * 500})
    await queue.delete("b")
    await queue.requeue("c")
    await enqueue(queue, "d")
    await run_one(queue, Status.COMPLETE)
    await run_one(queue, Status.FAILED, error="again")
    assert sizes()[0] == sizes()[1] > 0
    await run_one(queue) if await queue.count("queued") else None
    for key in await all_keys(queue):
        await queue.delete(key)
    assert sizes() == (0, 0)


def test_each_script_is_there_and_loads_what_it_needs():
    folder = files(scripts_module.__package__ or "") / "lua"
    names = [path.name.removesuffix(".lua") for path in folder.iterdir() if path.name.endswith(".lua")]
    assert {"enqueue", "step", "renew", "abort"} <= set(names)
    for name in names:
        script = load(name)
        assert "@include" not in script.source, name
        assert len(script.sha) == 40


async def test_no_script_uses_a_name_that_it_has_not(raw: Redis):
    """What a script lacks shows only on the line that needs it: a compiler of Lua lists the globals."""
    known = {"unpack", "tonumber", "tostring", "type", "ipairs", "pairs", "select", "error", "pcall", "next"}
    known |= {"setmetatable"}
    folder = files(scripts_module.__package__ or "") / "lua"
    for path in folder.iterdir():
        if not path.name.endswith(".lua"):
            continue
        source = re.sub(r"'(?:[^'\\]|\\.)*'|--[^\n]*", "''", load(path.name.removesuffix(".lua")).source)
        declared = set(re.findall(r"local function (\w+)", source))
        called = set(re.findall(r"(?<![.:\w])(\w+)\s*\(", source))
        for names in re.findall(r"local ([\w, ]+)", source):
            declared |= {name.strip() for name in names.split(",")}
        for names in re.findall(r"function \w*\s*\(([^)]*)\)|for ([\w, ]+) (?:in|=)", source):
            declared |= {name.strip() for name in ",".join(names).split(",")}
        keywords = {"if", "and", "or", "not", "return", "function", "in", "while", "elseif", "until"}
        assert called - declared - known - keywords == set(), path.name


async def test_priorities_stay_in_order_after_very_many_jobs(raw: Redis, queue: Queue):
    raw.hset(prefix(queue) + b"meta", "sequence", 2**37 - 3)
    await enqueue(queue, "a", "b")
    await enqueue(queue, "urgent", priority=-1)
    await enqueue(queue, *"cdefgh")
    await enqueue(queue, "last", priority=1)
    claimed = [job.key for job in (await queue.step((), 20)).jobs]
    assert (claimed[0], claimed[-1]) == ("urgent", "last")
    assert sorted(claimed[1:-1]) == list("abcdefgh")
    await enqueue(queue, "x", "y")
    sequence = int(cast(bytes, raw.hget(prefix(queue) + b"meta", "sequence")))
    assert sequence < 100, "started again while nothing was queued"
    assert [job.key for job in (await queue.step((), 20)).jobs] == ["x", "y"]


async def test_an_entry_without_a_job_is_dropped(raw: Redis, queue: Queue):
    await enqueue(queue, "ghost", "real")
    await queue.enqueue("f", key="ghost too", scheduled=await queue.server_time() + 0.01)
    raw.hdel(prefix(queue) + b"jobs", "ghost", "ghost too")
    while raw.exists(prefix(queue) + b"scheduled"):
        await queue.schedule()
    job = await queue.dequeue(timeout=SOON)
    assert job is not None
    assert job.key == "real"
    assert await status_of(queue, "ghost") == "missing"
    assert (await queue.step((), 5)).jobs == []


async def test_many_small_jobs_are_found_at_once(queue: Queue, raw: Redis) -> None:
    """A hash of few small values is a list to Redis, which looks for each field from one end to the other."""
    keys = ["", *map(str, range(39))]
    ends = asyncio.create_task(queue.map("f", [{"key": key} for key in keys]), name="map")
    first = await queue.dequeue(timeout=5)
    assert first
    for name in (b"jobs", b"waiting"):
        assert raw.object("encoding", prefix(queue) + name) == b"hashtable"
        assert raw.hlen(prefix(queue) + name) == len(keys), "and nothing else is in it"
    for job in [first, *[await claim(queue) for _ in keys[1:]]]:
        await queue.finish(job, Status.COMPLETE, result=job.key)
    assert await ends == keys
