"""What must hold of a queue whatever happened to those who used it.

Owns the invariants of all that a server holds, what of it a user could tell apart, and the end of everything:
leases run out, a healthy client runs what is left, each job once. Nothing here knows which fault happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from redis import Redis

from saq._speedups import key_of, split_netstrings, unpack_record
from saq.job import Status
from saq.queue.redis import RedisQueue
from saq.queue.redis.keys import EXPLAINED
from tests.model.reference import ENDS, TOUCHED
from tests.model.world import DUMP, PREFIX, QUEUE, Look, World

#: What must be gone when all is done. A registration of one who listens ends by itself.
EMPTY = ("jobs", "queued", "scheduled", "active", "runs", "patch", "waiting")
#: More than any operation leaves behind.
ENOUGH_STEPS = 50


def look_at(raw: Redis) -> Look:
    """Everything that the server holds."""
    return World._look(raw.eval(DUMP, 0))


def damage(look: Look) -> Iterator[str]:
    """Everything that does not fit, a line each."""
    jobs, runs = look.hash("jobs"), look.hash("runs")
    places = Counter([*look.scores("queued"), *look.scores("scheduled")])
    for member in look.scores("active"):
        key = key_of(member).encode()
        places[key] += 1
        if key not in runs or member.partition(b":")[0] != runs[key][4]:
            yield f"{member!r} is active, and another claim is known"
    for key in jobs:
        if places[key] != 1:
            yield f"the job {key!r} is in {places[key]} places"
    for name, keys in (("a place", places.keys()), *((n, look.hash(n).keys()) for n in ("runs", "patch"))):
        for key in keys - jobs.keys():
            yield f"{key!r} is in {name} and is no job"
    for key in look.hash("waiting").keys() - jobs.keys():
        yield f"somebody waits for {key!r}, which is no job"
    records = {name.removeprefix("job:").encode() for name in look if name.startswith("job:")}
    failed, finished = look.scores("failed").keys(), look.scores("finished").keys()
    if failed & finished or records != failed | finished:
        yield f"of the records {records} are listed as failed {failed}, as finished {finished}"
    length = sum(len(look[f"job:{key.decode()}"]) for key in failed)
    if int(look.hash("meta").get(b"failed_bytes", 0)) != length:
        yield f"the failed jobs are {length} bytes, and not as many are counted"
    explained = {name.partition("<")[0] for name in EXPLAINED}
    for name in look:
        if name not in explained and f"{name.partition(':')[0]}:" not in explained:
            yield f"the key {name} is explained nowhere"


def gone(look: Look) -> int:
    """How many jobs were taken in, did not end, and are not there: those that were deleted."""
    stats = {name.decode(): int(count) for name, count in look.hash("stats").items()}
    ended = sum(stats.get(status, 0) for status in ENDS.values())
    return stats.get("enqueued", 0) - ended - len(look.hash("jobs"))


def summary(look: Look) -> dict[str, Any]:
    """What a user could tell apart; not when anything was, nor how often an attempt was given back."""
    places: dict[bytes, str] = {}
    for place in ("queued", "scheduled"):
        places |= dict.fromkeys(look.scores(place), place)
    places |= {key_of(member).encode(): "active" for member in look.scores("active")}
    jobs = {}
    for key, value in look.hash("jobs").items():
        run = look.hash("runs").get(key, [b"0"] * 8)
        changes = _patch(look.hash("patch").get(key, b""))
        charged, lost, abort = run[1], run[2], run[7] if run[7] != b"0" else 0
        jobs[key] = (places.get(key), value.partition(b";")[2] or value[13:], changes, charged, lost, abort)
    records = {}
    for name in look:
        if name.startswith("job:"):
            fields, payload, outcome, error, patch = unpack_record(look[name])
            records[name] = (fields["status"], payload, outcome, error, _patch(patch))
    return {
        "jobs": jobs,
        "records": records,
        "stats": {name: count for name, count in look.hash("stats").items() if name != b"lost"},
        "gone": gone(look),
        "paused": b"paused" in look.hash("meta"),
        "cron": look.scores("cron"),
        "workers": look.scores("workers").keys(),
    }


def _patch(patch: bytes) -> dict[bytes, bytes]:
    parts = split_netstrings(patch)
    return {f: v for f, v in zip(parts[::2], parts[1::2], strict=True) if f != TOUCHED}


def end_leases(raw: Redis, prefix: str = PREFIX) -> None:
    """Lets all leases run out, on a server that was never away."""
    members: Any = raw.zrange(f"{prefix}active", 0, -1)
    for member in members:
        raw.zadd(f"{prefix}active", {member: 1}, xx=True)
    seconds, micros = raw.time()
    raw.hset(f"{prefix}meta", mapping={"stepped": seconds * 1000 + micros // 1000, "calm": 0})


async def drain(raw: Redis, healthy: RedisQueue) -> None:
    """Runs all that there is to its end, each job once, and looks whether anything is left."""
    already = gone(look_at(raw))
    await healthy.resume()
    for key in look_at(raw).scores("scheduled"):
        await healthy.run_now(key.decode())
    end_leases(raw)
    ran: Counter[str] = Counter()
    for _ in range(ENOUGH_STEPS):
        jobs = (await healthy.step((), 100)).jobs
        if not jobs and not await healthy.count("incomplete"):
            break
        ran.update(job.key for job in jobs)
        verdicts = (await healthy.step([healthy.settle(job, Status.COMPLETE) for job in jobs], 0)).verdicts
        assert None not in verdicts
    look = look_at(raw)
    left = {name: look[name] for name in EMPTY if name in look}
    assert not left, "it never ended"
    assert not ran or max(ran.values()) == 1, "run twice by a worker that did nothing wrong"
    assert gone(look) == already, "an end was counted twice, or not at all"
    wrong = list(damage(look))
    assert not wrong, wrong


__all__ = ["PREFIX", "QUEUE", "damage", "drain", "end_leases", "look_at", "summary"]
