"""A million jobs, 100,000 due at once, 10,000 run and 10,000 wait: a call costs what it always does."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from saq.job import Job, Status
from saq.queue.redis import RedisQueue
from saq.worker.fetcher import STEP_JOBS
from tests.conftest import SERVER_KIND
from tests.redis.helpers import prefix, run_out
from tests.scale.crowd import LIMIT, Calls, Crowd
from tests.scale.operations import OPERATIONS, Bench, Operation
from tests.servers import Server
from tests.worker.support import ended, make_worker, running, until

# The servers with their jobs take longer to set up than most of what is done with them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FEW, TEN_THOUSAND, HUNDRED_THOUSAND, MANY = 1_000, 10_000, 100_000, 1_000_000
ROUNDS = 20
#: What has been above the limit once need not be so always: the machine may have been busy.
SPARE = ROUNDS // 10
#: None of these reads more than it was told to, whatever there is.
ALLOWED = {
    *("del", "eval", "evalsha", "exists", "get", "set", "strlen", "unlink"),
    *("expireat", "pexpire", "pttl", "time", "publish", "subscribe", "unsubscribe"),
    *("hdel", "hexists", "hget", "hincrby", "hlen", "hmget", "hset"),
    *("bzpopmin", "zadd", "zcard", "zcount", "zmscore", "zpopmin", "zrange", "zrangebyscore"),
    *("zrem", "zremrangebyrank", "zremrangebyscore", "zrevrange", "zscore"),
}
#: A worker that starts tries its rights, on a key that is never there.
RIGHTS = {"dbsize", "getrange", "hgetall", "scan", "type", "zscan"}
#: These look at everything, a page at a time.
PAGED = {"iterate": {"hscan", "scan"}, "sweep": {"hscan"}}


@pytest.fixture(scope="module")
def few() -> Iterator[Crowd]:
    with Server(SERVER_KIND) as server:
        server.go_first()
        yield Crowd(server, FEW)


@pytest.fixture(scope="module")
def many() -> Iterator[Crowd]:
    with Server(SERVER_KIND) as server:
        server.go_first()
        yield Crowd(server, MANY)


@asynccontextmanager
async def benches(*crowds: Crowd) -> AsyncIterator[list[Bench]]:
    made = [Bench(crowd) for crowd in crowds]
    try:
        yield made
    finally:
        for bench in made:
            await bench.close()


async def looked_at(bench: Bench, operation: Operation) -> Calls:
    steps = operation(bench)
    await anext(steps)
    with bench.crowd.books.kept() as calls:
        await anext(steps, None)
    return calls


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_it_costs_the_same_among_a_million(operation: Operation, few: Crowd, many: Crowd) -> None:
    seen: dict[int, list[Calls]] = {FEW: [], MANY: []}
    async with benches(few, many) as both:
        for bench in both:
            await looked_at(bench, operation)  # the first call brings the script along
        for _ in range(ROUNDS):
            for bench in both:
                seen[bench.crowd.size].append(await looked_at(bench, operation))
    commands = set().union(*(calls.commands for calls in seen[MANY]))
    assert commands <= ALLOWED | PAGED.get(operation.__name__, set())
    slow = [calls.slow for calls in seen[MANY] if calls.slow]
    assert len(slow) <= SPARE, f"µs of calls that took longer than {LIMIT}: {slow}"
    among_few, among_many = (statistics.median(calls.script_time for calls in seen[n]) for n in (FEW, MANY))
    # A thousand times as many: twice as many steps in a sorted set, and fewer of them in the caches.
    assert among_many <= 4 * among_few + 30, "µs of a call, on average"


# -- many at once -------------------------------------------------------------------------------------------

MakeQueue = Callable[[], RedisQueue]


@pytest.fixture
async def make_queue(many: Crowd, request: pytest.FixtureRequest) -> AsyncIterator[MakeQueue]:
    """Makes objects of a queue of the test's own, on the server of the million."""
    made: list[RedisQueue] = []

    def make() -> RedisQueue:
        made.append(RedisQueue.from_url(many.server.url(), name=request.node.name))
        return made[-1]

    yield make
    for queue in made:
        await queue.disconnect()


@pytest.fixture
async def queue(make_queue: MakeQueue) -> RedisQueue:
    """The queue object of the worker."""
    return make_queue()


@pytest.fixture
async def client(make_queue: MakeQueue) -> RedisQueue:
    """The same queue, as another process would have it."""
    return make_queue()


def assert_fast(calls: Calls) -> None:
    """One call of a hundred may have met with something else that the machine had to do, for a while."""
    assert len(calls.slow) <= calls.scripts / 100, f"µs, of {calls.scripts} calls: {calls.slow}"
    assert max(calls.slow, default=0) <= 3 * LIMIT
    assert set(calls.commands) <= ALLOWED | PAGED["sweep"] | RIGHTS


async def empty(queue: RedisQueue) -> bool:
    return await queue.count("incomplete") == 0


async def test_a_hundred_thousand_become_due_in_the_same_moment(
    many: Crowd, queue: RedisQueue, client: RedisQueue
) -> None:
    books, ran = many.books, Counter[str]()
    before, connections = books.memory(), books.connections()
    due = int(await client.server_time()) + 3
    many.fill(client, HUNDRED_THOUSAND, "due", scheduled=due, ttl=-1)
    full = books.memory()
    began: list[int] = []

    async def note(ctx: Any, *, n: int) -> None:
        ran[ctx["job"].key] += 1
        began.append(ctx["job"].started)

    with books.kept() as calls:
        async with running(make_worker(queue, {"f": note}, concurrency=2 * STEP_JOBS)):
            await until(lambda: empty(client), timeout=60)
    assert ran == Counter(f"due-{n}" for n in range(HUNDRED_THOUSAND))
    assert due * 1_000 <= min(began) < due * 1_000 + 500
    assert_fast(calls)
    await queue.disconnect()
    await client.disconnect()
    await until(lambda: books.connections() == connections)
    assert books.memory() - before < 0.1 * (full - before)


async def test_ten_thousand_jobs_run_in_one_worker(
    many: Crowd, queue: RedisQueue, client: RedisQueue
) -> None:
    raw, connections = many.books.raw, many.books.connections()
    inside, on = 0, asyncio.Event()

    async def hold(ctx: Any) -> None:
        nonlocal inside
        inside += 1
        await on.wait()

    def first_to_end() -> float:
        leases: Any = raw.zrange(prefix(queue) + b"active", 0, 0, withscores=True)
        return float(leases[0][1])

    with many.books.kept() as calls:
        await client.enqueue_many(Job("hold", key=f"{n}", timeout=0) for n in range(TEN_THOUSAND))
        async with running(make_worker(queue, {"hold": hold}, concurrency=TEN_THOUSAND, lease=3)):
            await until(lambda: inside == TEN_THOUSAND)
            last_claimed = first_to_end() + 3_000
            await until(lambda: first_to_end() > last_claimed)
            await client.abort(Job("hold", key="5000", queue=client), "no more")
            assert (await ended(client, "5000")).status is Status.ABORTED
            assert many.books.connections() - connections <= 4 + 2
            on.set()
            await until(lambda: empty(client))
    assert_fast(calls)
    assert queue.complete == TEN_THOUSAND - 1


async def test_ten_thousand_jobs_do_not_end_at_their_timeout(
    many: Crowd, queue: RedisQueue, client: RedisQueue
) -> None:
    """Their worker says so of all of them, and renews their leases no more."""
    inside, on = 0, asyncio.Event()

    async def stubborn(ctx: Any) -> None:
        nonlocal inside
        inside += 1
        while not on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await on.wait()

    def all_said() -> bool:
        return all("_overtime" in job.__dict__ for job in queue._claims.held.values())

    await client.enqueue_many(Job("stubborn", timeout=0.1, retries=2) for n in range(TEN_THOUSAND))
    settings: Any = {"concurrency": TEN_THOUSAND, "lease": 6, "cancellation_hard_deadline_s": 0.1}
    with many.books.kept() as calls:
        async with running(make_worker(queue, {"stubborn": stubborn}, **settings)):
            await until(lambda: inside == TEN_THOUSAND and all_said())
            on.set()
            await until(lambda: empty(client))
    assert_fast(calls)


async def test_ten_thousand_wait_in_one_process(many: Crowd, queue: RedisQueue, client: RedisQueue) -> None:
    raw = many.books.raw

    async def double(ctx: Any, *, n: int) -> int:
        return 2 * n

    with many.books.kept() as calls:
        waiting = [asyncio.create_task(client.apply("double", n=n)) for n in range(TEN_THOUSAND)]
        await until(lambda: raw.hlen(prefix(queue) + b"waiting") == TEN_THOUSAND)
        assert raw.client_kill_filter(_type="pubsub") == 1  # all of them are asked for again
        async with running(make_worker(queue, {"double": double}, concurrency=2 * STEP_JOBS)):
            assert await asyncio.gather(*waiting) == [2 * n for n in range(TEN_THOUSAND)]
    assert_fast(calls)
    assert not raw.exists(prefix(queue) + b"waiting")


async def test_one_process_listens_to_ten_thousand_jobs(
    many: Crowd, queue: RedisQueue, client: RedisQueue
) -> None:
    raw = many.books.raw
    keys = [f"{n}" for n in range(TEN_THOUSAND)]
    complete: set[str] = set()

    async def nothing(ctx: Any) -> None:
        pass

    def take(key: str, status: Status) -> bool:
        if status is Status.COMPLETE:
            complete.add(key)
        return len(complete) == TEN_THOUSAND

    with many.books.kept() as calls:
        listening = asyncio.create_task(client.listen(keys, take, timeout=60))
        await until(lambda: raw.hlen(prefix(queue) + b"watching") == TEN_THOUSAND)
        await client.enqueue_many(Job("nothing", key=key) for key in keys)
        async with running(make_worker(queue, {"nothing": nothing}, concurrency=2 * STEP_JOBS)):
            await listening
    assert_fast(calls)
    assert not raw.exists(prefix(queue) + b"watching")


async def test_ten_thousand_leases_end_at_once(many: Crowd, make_queue: MakeQueue) -> None:
    client, dead = make_queue(), make_queue()
    await client.enqueue_many(Job("f", key=f"{n}") for n in range(TEN_THOUSAND))
    jobs: list[Job] = []
    while len(jobs) < TEN_THOUSAND:
        jobs += (await dead.step((), STEP_JOBS)).jobs
    await dead.disconnect()
    run_out(many.books.raw, dead, *jobs)
    with many.books.kept() as calls:
        swept: list[str] = []
        while more := await client.sweep():
            swept += more
        # Those that lost a worker are handed out one at a time, and the others are looked for behind them.
        for _ in range(ROUNDS):
            assert len((await client.step((), STEP_JOBS)).jobs) <= 1
    assert sorted(swept) == sorted(client.job_id(job.key) for job in jobs)
    assert await client.count("queued") == TEN_THOUSAND - 1
    assert_fast(calls)
