"""Looking into Redis, and bringing about by hand what would take too long."""

from __future__ import annotations

from typing import Any, cast

from redis import Redis

from saq.job import Job
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue
from saq.queue.redis.session import Session


def session(queue: Queue) -> Session:
    return cast(RedisQueue, queue)._session


def prefix(queue: Queue) -> bytes:
    return cast(RedisQueue, queue)._prefix.encode()


def snapshot(raw: Redis) -> dict[bytes, Any]:
    """Everything there is, by key."""
    found: dict[bytes, Any] = {}
    for key in cast("list[bytes]", raw.keys("*")):
        match raw.type(key):
            case b"hash":
                found[key] = raw.hgetall(key)
            case b"zset":
                found[key] = raw.zrange(key, 0, -1, withscores=True)
            case b"string":
                found[key] = raw.get(key)
            case other:
                raise AssertionError(f"{key!r} is a {other!r}")
    return found


def without_answers(found: dict[bytes, Any]) -> dict[bytes, Any]:
    """The same without the answers that are kept for callers whose connection broke."""
    return {key: value for key, value in found.items() if b":last:" not in key}


def run_out(raw: Redis, queue: Queue, *jobs: Job) -> None:
    """Lets the leases of these jobs run out, on a server that was never away."""
    for job in jobs:
        assert job._member is not None
        assert raw.zadd(prefix(queue) + b"active", {job._member: 1}, xx=True, ch=True) == 1
    seconds, micros = raw.time()
    now = seconds * 1000 + micros // 1000
    raw.hset(prefix(queue) + b"meta", mapping={"stepped": now, "calm": 0})


def calls(raw: Redis, *commands: str) -> int:
    """How often these commands were carried out since `config_resetstat`."""
    stats = raw.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in commands)
