"""With a million jobs in the queue, every view answers within 50 ms, and none reads more than a slice."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis

from saq import Queue
from saq.queue.redis import RedisQueue
from saq.queue.views import CronEntry, Mark, Report
from saq.web import cursors
from tests.conftest import SERVER_KIND
from tests.redis.helpers import prefix
from tests.scale.crowd import Crowd
from tests.scale.test_scale import ALLOWED
from tests.servers import Server
from tests.web.faces import HttpFace, served
from tests.web.targets import ENTRY, TARGETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MANY = 1_000_000
ROUNDS = 21
#: Seconds that a view may take at the median.
FAST = 0.05
FUNCTIONS = 40
#: What a view may ask for beside: a hash of fields that are bounded, an hour of the history.
READS = {"hgetall", "zcount", "zrevrange", "hkeys"}

JOBS = "/api/queues/default/jobs"
COUNT = "/api/queues/default/count"
SPECIAL = {
    **{f"{state}, the first page": f"{JOBS}?state={state}&limit=100" for state in ("queued", "scheduled")},
    **{f"{state}, all of it": f"{JOBS}?state={state}" for state in ("active", "finished", "failed")},
    "in the middle": f"{JOBS}?cursor=MIDDLE",
    "a search for nothing": f"{JOBS}?text=nothing-of-the-kind",
    "a search in the middle": f"{JOBS}?text=nothing-of-the-kind&cursor=MIDDLE",
    "a search in traces": f"{JOBS}?state=failed&text=nothing-of-the-kind",
    "a count of all": COUNT,
    "a count of some": f"{COUNT}?function=f&cursor=MIDDLE",
    "far away by offset": "/api/queues/default?offset=700000&limit=100",
    "an hour": "/api/history?minutes=60",
    "a day": "/api/history?minutes=1440",
    "three days": "/api/history?minutes=4320",
    "three days of one": "/api/queues/default/history?minutes=4320",
}
VIEWS = {
    **{target.path: target.path for target in TARGETS if target.method == "GET" and not target.streams},
    **SPECIAL,
}


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    with Server(SERVER_KIND) as server:
        server.go_first()
        crowd = Crowd(server, MANY)
        write_history(crowd.books.raw, prefix(RedisQueue.from_url(server.url())))
        yield crowd


def write_history(raw: Redis, keys: bytes) -> None:
    """Three days as busy workers leave them behind."""
    now = int(time.time())
    buckets = " ".join(f"{bucket}:{1000 + bucket}" for bucket in range(-40, 0))
    for hour in range(now // 3600 - 72, now // 3600 + 1):
        fields: dict[Any, Any] = {}
        for minute in range(60):
            at = (hour * 60 + minute) * 60_000
            if at < now * 1000:
                done = at // 1000
                fields[f"s{minute}"] = f"{at} {done} {done} 0 0 0 0 10 10 10"
                fields[f"w{minute}"] = fields[f"r{minute}"] = buckets
        fields |= {f"f:function_{n}": f"7 {buckets}" for n in range(FUNCTIONS)}
        fields["functions"] = str(FUNCTIONS)
        raw.hset(keys + b"hour:%d" % hour, mapping=fields)


async def beside(queue: Queue) -> None:
    """What is there beside the jobs."""
    await queue.enqueue("f", key="a", scheduled=time.time() + 1000)
    await queue.worker_info("w")
    entry = CronEntry(ENTRY, "0 3 * * *", "UTC", True, (await queue.views.incomplete(0, 1))[0])
    await queue.report("w", Report({"host": "h", "uptime": 5}, [entry], {0: 1}, {"f": (1, {0: 1})}))


@pytest.fixture
def middle(crowd: Crowd) -> str:
    """A place amid a million jobs."""
    name = prefix(RedisQueue.from_url(crowd.server.url())) + b"queued"
    found: Any = crowd.books.raw.zrange(name, MANY // 2, MANY // 2, withscores=True)
    ((key, score),) = found
    return str(cursors.Cursor(Mark(b"%d" % score, key)))


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
async def test_a_view_is_fast_and_reads_a_slice(crowd: Crowd, middle: str, view: str) -> None:
    queue = Queue.from_url(crowd.server.url())
    async with served([queue]) as face:
        await beside(queue)
        path = view.replace("MIDDLE", quote(middle))
        assert (await face.ask("GET", path)).status in (200, 404)
        with crowd.books.kept() as calls:
            took = [await timed(face, path) for _ in range(ROUNDS)]
    await queue.disconnect()
    assert calls.commands.keys() <= ALLOWED | READS, calls.commands
    print(f"{view}: {statistics.median(took) * 1000:.1f} ms, at most {max(took) * 1000:.1f} ms")
    assert statistics.median(took) < FAST, f"{statistics.median(took) * 1000:.1f} ms"


async def timed(face: HttpFace, path: str) -> float:
    began = time.perf_counter()
    await face.ask("GET", path)
    return time.perf_counter() - began


async def test_a_million_is_paged_through_by_cursor(crowd: Crowd, middle: str) -> None:
    queue = Queue.from_url(crowd.server.url())
    async with served([queue]) as face:
        answer = (await face.ask("GET", f"{JOBS}?limit=3&cursor={quote(middle)}")).json
        assert answer["total"] >= MANY
        assert abs(answer["position"] - MANY // 2) <= 1
        first = [int(job["key"].partition("-")[2]) for job in answer["jobs"]]
        answer = (await face.ask("GET", f"{JOBS}?limit=3&cursor={quote(answer['next'])}")).json
        assert [int(job["key"].partition("-")[2]) for job in answer["jobs"]] == [n + 3 for n in first]
    await queue.disconnect()
