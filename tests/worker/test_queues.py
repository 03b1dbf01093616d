"""One worker for several queues: whose jobs it takes, and that none of them waits for another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from saq import CronJob, Job, Queue, Share, Status, Worker
from saq.queue.redis import RedisQueue
from saq.queue.redis.wire import UnreachableError
from saq.settings import check, queues_of
from saq.types import Context
from saq.worker.process import check_health
from tests.conftest import MakeServer
from tests.processes import saq
from tests.worker.conftest import MakeQueue
from tests.worker.support import ended, enqueue, running, took, until

pytestmark = pytest.mark.timeout(60)


async def nothing(ctx: Any) -> None:
    pass


async def name_of_queue(ctx: Any) -> str:
    return str(ctx["queue"].name)


def make_worker(queues: Any, functions: dict[str, Any], **settings: Any) -> Worker[Any]:
    worker: Worker[Any] = Worker(queues=queues, functions=list(functions.items()), **settings)
    worker.SIGNALS = []  # type: ignore[misc]
    return worker


class Started:
    """What was started, by queue; jobs take no time, or wait until they are let go."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.on = asyncio.Event()

    async def short(self, ctx: Any) -> None:
        name = ctx["queue"].name
        self.order.append(name)
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        await asyncio.sleep(0)
        self.now[name] -= 1

    async def long(self, ctx: Any) -> None:
        name = ctx["queue"].name
        self.order.append(name)
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        await self.on.wait()
        self.now[name] -= 1

    @property
    def functions(self) -> dict[str, Any]:
        return {"short": self.short, "long": self.long}


@pytest.fixture
def three(make_queue: MakeQueue) -> list[RedisQueue]:
    return [make_queue(name=name) for name in ("high", "middle", "low")]


async def fill(queue: Queue, jobs: int, function: str = "short") -> None:
    await queue.enqueue_many(Job(function) for _ in range(jobs))


async def is_blocking(queue: RedisQueue, connections: int) -> None:
    """Waits until so many connections block on markers."""

    async def blocked() -> bool:
        return bool((await queue.redis.info("clients"))["blocked_clients"] == connections)

    await until(blocked)


# Order and weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_in_order_the_first_queue_is_emptied_before_the_next(
    concurrency: int, three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    started = Started()
    for queue in reversed(three):
        await fill(queue, 300)
    async with running(make_worker(three, started.functions, concurrency=concurrency)):
        await until(lambda: len(started.order) == 900)
    assert started.order == ["high"] * 300 + ["middle"] * 300 + ["low"] * 300


async def test_in_order_a_job_of_the_first_queue_takes_the_next_free_slot(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    started, client = Started(), make_queue(name="high")

    async def slow(ctx: Any) -> None:
        started.order.append(ctx["queue"].name)
        await asyncio.sleep(0.03)

    await fill(three[2], 200, "slow")
    async with running(make_worker(three, {"slow": slow}, concurrency=2)):
        await until(lambda: len(started.order) > 10)
        for _ in range(10):
            before = len(started.order)
            job = await enqueue(client, "slow")
            await ended(client, job)
            # Those that ran, and those that were claimed before it had come.
            assert started.order.index("high", before) - before <= 6
            started.order[:] = ["x"] * len(started.order)


@pytest.mark.parametrize(
    ("weights", "concurrency"),
    [((3, 1), 1), ((3, 1), 10), ((1, 1), 4), ((5, 3, 2), 10), ((1, 20), 50), ((0.2, 0.1), 3)],
)
async def test_by_weight_each_queue_has_its_share_while_all_have_work(
    weights: tuple[float, ...], concurrency: int, three: list[RedisQueue]
) -> None:
    started, queues = Started(), three[: len(weights)]
    jobs = 2_000
    for queue in queues:
        await fill(queue, jobs)
    shares = dict(zip(queues, weights, strict=True))
    async with running(make_worker(shares, started.functions, concurrency=concurrency)):
        await until(lambda: max(Counter(started.order).values(), default=0) >= jobs, timeout=40)
        first = started.order[: int(jobs * 0.9 * sum(weights) / max(weights))]
        counts = Counter(first)
        for queue, weight in shares.items():
            assert counts[queue.name] / len(first) == pytest.approx(weight / sum(weights), abs=0.05), counts
        # And what they leave is for the others: nothing stands still.
        await until(lambda: len(started.order) == jobs * len(queues), timeout=30)


async def test_a_queue_of_small_weight_is_not_starved_by_one_that_is_always_full(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    """It begins empty, and gets its first job while all slots are taken by the other."""
    high, low = three[0], three[2]
    client = make_queue(name="low")
    stop = False

    async def again(ctx: Any) -> None:
        await asyncio.sleep(0.001)
        if not stop:
            await high.enqueue("again")

    async with running(make_worker({high: 100, low: 1}, {"again": again, "nothing": nothing}, concurrency=4)):
        for _ in range(20):
            await high.enqueue("again")
        await until(lambda: _count(high, "queued", at_least=10))
        for _ in range(3):
            async with took(at_most=3.0):
                await client.apply("nothing")
        stop = True
        await until(lambda: _count(high, "incomplete", 0))


async def _count(queue: Queue, kind: Any, exactly: int | None = None, at_least: int = 0) -> bool:
    count = await queue.count(kind)
    return count >= at_least if exactly is None else count == exactly


async def test_all_slots_are_for_the_queue_that_has_work(three: list[RedisQueue]) -> None:
    for queues in (three, dict.fromkeys(three, 1)):
        for queue in three:
            started = Started()
            await fill(queue, 6, "long")
            worker = make_worker(queues, started.functions, concurrency=6)
            async with running(worker):
                await until(lambda: started.now[queue.name] == 6, timeout=3)  # noqa: B023
                assert len(worker.tasks) == 6
                started.on.set()
                await until(lambda: _count(queue, "incomplete", 0))  # noqa: B023


# Limits ----------------------------------------------------------------------------------------------------


async def test_no_queue_runs_more_jobs_than_its_limit(three: list[RedisQueue]) -> None:
    started = Started()
    for queue in three:
        await fill(queue, 500)
    shares = [Share(three[0], limit=2), Share(three[1], limit=1), Share(three[2])]
    async with running(make_worker(shares, started.functions, concurrency=8)):
        await until(lambda: len(started.order) == 1500, timeout=30)
    assert started.most["high"] == 2
    assert started.most["middle"] == 1
    assert 1 <= started.most["low"] <= 8


async def test_what_a_limit_leaves_is_for_the_others(three: list[RedisQueue]) -> None:
    started = Started()
    for queue in three:
        await fill(queue, 10, "long")
    shares = [
        Share(three[0], weight=5, limit=2),
        Share(three[1], weight=5, limit=3),
        Share(three[2], weight=1),
    ]
    async with running(make_worker(shares, started.functions, concurrency=9)):
        await until(lambda: started.now == {"high": 2, "middle": 3, "low": 4}, timeout=5)
        started.on.set()
        await until(lambda: len(started.order) == 30)


async def test_a_share_alone_has_its_limit(three: list[RedisQueue]) -> None:
    started = Started()
    await fill(three[0], 200)
    async with running(make_worker([Share(three[0], limit=2)], started.functions, concurrency=10)):
        await until(lambda: len(started.order) == 200)
    assert started.most["high"] == 2


# At once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_an_idle_worker_starts_a_job_of_any_queue_at_once(
    concurrency: int, three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    clients = [make_queue(name=queue.name) for queue in three]
    async with running(make_worker(three, {"name": name_of_queue}, concurrency=concurrency)):
        for client in clients:
            assert await client.apply("name") == client.name
        times: list[float] = []
        for turn in range(30):
            await is_blocking(three[0], 3)
            client = clients[turn % 3]
            began = time.perf_counter()
            assert await client.apply("name") == client.name
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    assert times[15] < 20, times
    assert times[-1] < 150, times


async def test_a_scheduled_job_of_any_queue_starts_at_its_time(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    clients = [make_queue(name=queue.name) for queue in three]
    async with running(make_worker(three, {"nothing": nothing})):
        for client in clients:
            await client.apply("nothing")
            await is_blocking(three[0], 3)
            due = time.time() + 0.3
            end = await ended(client, await enqueue(client, "nothing", scheduled=due))
            assert -0.01 < end.started / 1000 - due < 0.2


async def test_a_full_worker_hands_the_marker_on_to_one_that_is_free(make_queue: MakeQueue) -> None:
    """It waits for work of the second queue, while its only slot is taken by a job of the first."""
    started = Started()
    client = make_queue(name="b")
    async with running(
        make_worker([make_queue(name="a"), make_queue(name="b")], started.functions, concurrency=1, id="one")
    ):
        await is_blocking(client, 2)
        await enqueue(make_queue(name="a"), "long", timeout=0)
        await until(lambda: started.now["a"] == 1)
        other = Started()
        async with running(make_worker([make_queue(name="b")], {"short": other.short}, id="two")):
            await is_blocking(client, 3)
            for _ in range(3):
                async with took(at_most=0.5):
                    end = await ended(client, await enqueue(client, "short"))
                assert (end.worker_id, end.attempts, end.status) == ("two", 1, Status.COMPLETE)
        # And it comes back to it when it has a slot.
        job = await enqueue(client, "short")
        started.on.set()
        async with took(at_most=0.5):
            assert (await ended(client, job)).worker_id == "one"


async def test_each_job_runs_once_whatever_comes_when(three: list[RedisQueue], make_queue: MakeQueue) -> None:
    ran: Counter[str] = Counter()

    async def note(ctx: Any, *, n: int) -> None:
        ran[f"{ctx['queue'].name}:{n}"] += 1
        assert ctx["job"].attempts == 1
        await asyncio.sleep(0.001 * (n % 4))

    workers = [
        make_worker([make_queue(name=queue.name) for queue in three], {"note": note}, concurrency=2),
        make_worker({make_queue(name=queue.name): 1 for queue in three}, {"note": note}, concurrency=3),
    ]
    async with running(workers[0]), running(workers[1]):
        for n in range(300):
            for queue in three:
                await queue.enqueue("note", n=n)
            if n % 50 == 0:
                await asyncio.sleep(0.05)
        for queue in three:
            await until(lambda: _count(queue, "incomplete", 0), timeout=30)  # noqa: B023
    assert ran == {f"{queue.name}:{n}": 1 for queue in three for n in range(300)}


# Each its own ----------------------------------------------------------------------------------------------


async def test_a_job_knows_its_queue_and_keys_do_not_meet(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    ons = {queue.name: asyncio.Event() for queue in three}

    async def wait(ctx: Any) -> str:
        assert ctx["job"].queue is ctx["queue"]
        await started.put(ctx["queue"].name)
        await ons[ctx["queue"].name].wait()
        return str(ctx["queue"].name)

    seen: list[str] = []
    settings = {
        "before_process": lambda ctx: seen.append(ctx["queue"].name),
        "after_process": lambda ctx: seen.append(ctx["queue"].name),
    }
    worker = make_worker(three, {"wait": wait}, **settings)
    assert (worker.queue, worker.queues) == (three[0], tuple(three))
    assert worker.context["queue"] is three[0]
    clients = [make_queue(name=queue.name) for queue in three]
    async with running(worker):
        jobs = [await enqueue(client, "wait", key="the same") for client in clients]
        assert {await started.get() for _ in three} == {"high", "middle", "low"}
        assert len(worker.tasks) == 3
        await clients[1].abort(jobs[1], "this one alone")
        assert (await ended(clients[1], jobs[1])).error == "this one alone"
        for name in ("high", "low"):
            ons[name].set()
        assert (await ended(clients[0], jobs[0])).result == "high"
        assert (await ended(clients[2], jobs[2])).result == "low"
        await until(lambda: len(seen) == 6)
    assert Counter(seen) == {"high": 2, "middle": 2, "low": 2}
    assert [queue.complete for queue in three] == [1, 0, 1]


async def test_the_worker_is_registered_with_each_queue_and_reports_its_own_to_each(
    three: list[RedisQueue],
) -> None:
    worker = make_worker(
        three, {"nothing": nothing}, id="w", metadata={"a": 1}, timers={"worker_info": 0.05}, concurrency=7
    )
    async with running(worker):
        for number, queue in enumerate(three, 1):
            for _ in range(number):
                await queue.apply("nothing")
        for number, queue in enumerate(three, 1):
            await until(lambda: _complete(queue, number))  # noqa: B023
            info = (await queue.info())["workers"]["w"]
            assert (info["queue_key"], info["metadata"]) == (queue.name, {"a": 1})
            (view,) = (await queue.views.workers()).workers
            assert view.about["concurrency"] == 7
            hours = [int(time.time() // 3600) - 1, int(time.time() // 3600)]
            assert await queue.views.history(hours)
    for queue in three:
        assert (await queue.info())["workers"] == {}
    info = await worker.worker_info()
    assert info["queue_key"] == "high"
    await worker.stop()


async def _complete(queue: Queue, jobs: int) -> bool:
    stats = (await queue.info())["workers"]["w"]["stats"]
    return stats is not None and stats["complete"] == jobs


async def test_quiet_is_for_the_queue_that_asks(three: list[RedisQueue], make_queue: MakeQueue) -> None:
    client = make_queue(name="middle")
    worker = make_worker(three, {"name": name_of_queue}, id="w")
    async with running(worker):
        await until(lambda: _registered(client))
        assert await client.views.quiet("w", 60)
        await until(lambda: worker._sources[1].quiet)
        job = await enqueue(client, "name")
        for queue in (three[0], three[2]):
            async with took(at_most=1.0):
                assert await queue.apply("name") == queue.name
        assert await client.count("queued") == 1
        await client.views.quiet("w", 0)
        async with took(at_most=1.0):
            assert (await ended(client, job)).result == "middle"


async def _registered(queue: Queue) -> bool:
    return "w" in (await queue.info())["workers"]


async def test_a_paused_queue_holds_up_no_other(three: list[RedisQueue]) -> None:
    started = Started()
    await three[0].pause()
    await fill(three[0], 5)
    await fill(three[2], 5)
    async with running(make_worker(three, started.functions, concurrency=1)):
        await until(lambda: len(started.order) == 5)
        await three[0].resume()
        async with took(at_most=1.0):
            await until(lambda: len(started.order) == 10)
    assert started.order == ["low"] * 5 + ["high"] * 5


async def test_cron_entries_go_to_the_first_queue_or_the_one_they_name(three: list[RedisQueue]) -> None:
    ran: Counter[str] = Counter()

    async def first(ctx: Any) -> None:
        ran[f"first of {ctx['queue'].name}"] += 1

    async def last(ctx: Any) -> None:
        ran[f"last of {ctx['queue'].name}"] += 1

    worker = make_worker(
        three,
        {},
        cron_jobs=[CronJob(first, "* * * * * *"), CronJob(last, "* * * * * *", queue=three[2])],
    )
    async with running(worker):
        await until(lambda: len(ran) == 2)
        assert [len(await queue.views.schedule()) for queue in three] == [1, 0, 1]
    assert set(ran) == {"first of high", "last of low"}


async def test_a_retry_and_a_timeout_are_of_their_queue(three: list[RedisQueue]) -> None:
    async def fails(ctx: Any) -> str:
        if ctx["job"].attempts == 1:
            raise ValueError("once")
        return str(ctx["queue"].name)

    async def forever(ctx: Any) -> None:
        await asyncio.Event().wait()

    async with running(make_worker(three, {"fails": fails, "forever": forever})):
        for queue in three:
            end = await ended(queue, await enqueue(queue, "fails", retries=2))
            assert (end.status, end.result, end.attempts) == (Status.COMPLETE, queue.name, 2)
            end = await ended(queue, await enqueue(queue, "forever", timeout=0.1))
            assert end.status is Status.FAILED


# Burst, by hand, stop --------------------------------------------------------------------------------------


async def test_a_burst_worker_ends_when_all_queues_are_empty(three: list[RedisQueue]) -> None:
    ran: list[str] = []

    async def chain(ctx: Any, *, left: int) -> None:
        await asyncio.sleep(0.12)
        ran.append(ctx["queue"].name)
        if left:
            await three[left % 3].enqueue("chain", left=left - 1)

    await three[2].enqueue("chain", left=5)
    worker = make_worker(three, {"chain": chain}, burst=True, dequeue_timeout=0.05, concurrency=2)
    async with took(at_most=5.0):
        await worker.start()
    assert ran == ["low", "low", "middle", "high", "low", "middle"]
    for queue in three:
        assert await queue.count("incomplete") == 0


@pytest.mark.parametrize("concurrency", [1, 2, 10])
@pytest.mark.parametrize("weighted", [False, True])
async def test_a_burst_worker_ends_after_max_burst_jobs_of_all_queues(
    weighted: bool, concurrency: int, three: list[RedisQueue]
) -> None:
    started = Started()
    for queue in three:
        await fill(queue, 4)
    worker = make_worker(
        dict.fromkeys(three, 1) if weighted else three,
        started.functions,
        burst=True,
        dequeue_timeout=30,
        max_burst_jobs=7,
        concurrency=concurrency,
    )
    async with took(at_most=3.0):
        await worker.start()
    assert len(started.order) == 7
    assert sum([await queue.count("queued") for queue in three]) == 5
    if not weighted:
        assert started.order[:4] == ["high"] * 4


async def test_process_takes_one_job_in_order(three: list[RedisQueue]) -> None:
    started = Started()
    worker = make_worker(three, started.functions, dequeue_timeout=0.1)
    for queue in reversed(three):
        await fill(queue, 2)
    for _ in range(6):
        assert await worker.process() is True
    assert started.order == ["high"] * 2 + ["middle"] * 2 + ["low"] * 2
    async with took(at_least=0.05, at_most=1.0):
        assert await worker.process() is False
    await worker.stop()


async def test_process_takes_jobs_by_weight(three: list[RedisQueue]) -> None:
    started = Started()
    worker = make_worker({three[0]: 3, three[2]: 1}, started.functions, dequeue_timeout=0.1)
    await fill(three[0], 20)
    await fill(three[2], 20)
    for _ in range(16):
        assert await worker.process() is True
    assert Counter(started.order) == {"high": 12, "low": 4}
    await worker.stop()


async def test_process_waits_for_a_job_of_any_queue_and_loses_none(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    started = Started()
    worker = make_worker(three, started.functions)
    for queue in (three[2], three[1], three[0]):
        task = asyncio.create_task(worker.process())
        await is_blocking(three[0], 3)
        async with took(at_most=0.5):
            await make_queue(name=queue.name).enqueue("short")
            assert await task is True
    assert started.order == ["low", "middle", "high"]
    # Told of two at once, it takes one; the other is there for the next, or for another worker.
    task = asyncio.create_task(worker.process())
    await is_blocking(three[0], 3)
    await asyncio.gather(*(make_queue(name=queue.name).enqueue("short") for queue in three))
    await task
    other = [make_queue(name=queue.name) for queue in three]
    async with running(make_worker(other, started.functions)), took(at_most=2.0):
        await until(lambda: len(started.order) == 6)
    await worker.stop()


async def test_process_that_is_cancelled_leaves_nothing_behind(three: list[RedisQueue]) -> None:
    worker = make_worker(three, {"nothing": nothing})
    for turns in range(0, 30, 3):
        task = asyncio.create_task(worker.process())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    for queue in three:
        assert await queue.count("active") == 0
    await worker.stop()


async def test_a_stop_gives_back_what_runs_to_each_queue_and_claims_nothing_more(
    three: list[RedisQueue],
) -> None:
    started = Started()
    for queue in three:
        await fill(queue, 3, "long")
    worker = make_worker(dict.fromkeys(three, 1), started.functions, concurrency=5)
    async with running(worker):
        await until(lambda: sum(started.now.values()) == 5)
        async with took(at_most=2.0):
            await worker.stop()
    for queue in three:
        assert (await queue.count("queued"), await queue.count("active")) == (3, 0)
        assert (await queue.info())["workers"] == {}


async def test_a_stop_while_no_queue_waits_for_work_yet_leaves_no_claim_behind(
    three: list[RedisQueue], make_queue: MakeQueue
) -> None:
    """A claim that waits in the name of a worker that is gone would take the next job with it."""
    for turns in range(0, 60, 3):
        worker = make_worker(three, {"nothing": nothing})
        task = asyncio.create_task(worker.start())
        await until(lambda: any(fetcher._loops for fetcher in _fetchers(worker)))  # noqa: B023
        for _ in range(turns):
            await asyncio.sleep(0)
        async with took(at_most=0.8):
            await worker.stop()
            await task
        await is_blocking(three[0], 0)


def _fetchers(worker: Worker[Any]) -> list[Any]:
    return worker._parts.fetchers if worker._parts is not None else []


async def test_the_grace_period_is_one_for_all_queues(three: list[RedisQueue]) -> None:
    started = Started()
    for queue in three:
        await fill(queue, 1, "long")
    worker = make_worker(three, started.functions, shutdown_grace_period_s=10)
    async with running(worker):
        await until(lambda: sum(started.now.values()) == 3)
        asyncio.get_running_loop().call_later(0.2, started.on.set)
        async with took(at_least=0.1, at_most=2.0):
            await worker.stop()
    for queue in three:
        assert await queue.count("incomplete") == 0


async def test_a_worker_of_several_queues_can_be_started_again(three: list[RedisQueue]) -> None:
    worker = make_worker(three, {"name": name_of_queue})
    for _ in range(2):
        async with running(worker):
            for queue in three:
                assert await queue.apply("name") == queue.name


# Servers that are away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_queue_whose_server_is_away_does_not_hold_up_the_others(
    how: str, position: int, make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server, started = make_server(), Started()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    queues = [there, away] if position else [away, there]
    client = make_queue(name="there")
    async with running(make_worker(queues, started.functions, concurrency=2)):
        await fill(away, 3)
        await fill(there, 3)
        await until(lambda: len(started.order) == 6)
        getattr(server, how)()
        started.order.clear()
        await fill(client, 1_000)
        await until(lambda: len(started.order) == 1_000, timeout=10)
        for _ in range(5):
            async with took(at_most=1.0):
                await client.apply("short")
        if how == "kill":
            server.start()
        else:
            server.resume()
        back = make_queue(server.url(), name="away")
        await until(lambda: _takes(back), timeout=20)


async def _takes(queue: Queue) -> bool:
    try:
        await queue.apply("short", timeout=2)
    except (UnreachableError, TimeoutError):
        return False
    return True


async def test_a_server_that_goes_while_its_claims_are_under_way_gives_its_slots_to_the_others(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server = make_server()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    began = asyncio.Event()

    async def brief(ctx: Any) -> None:
        began.set()
        await asyncio.sleep(0)

    await fill(away, 5_000, "brief")
    async with running(make_worker([away, there], {"brief": brief}, concurrency=4)):
        await began.wait()
        server.pause()
        async with took(at_most=3.0):
            await make_queue(name="there").apply("brief")
        server.resume()
        await until(lambda: _count(away, "incomplete", 0), timeout=30)


async def test_jobs_of_a_server_that_is_away_are_settled_when_it_is_back(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server = make_server(appendonly="yes", appendfsync="always")
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    started = Started()
    job = await enqueue(away, "long", timeout=0)
    async with running(make_worker([away, there], started.functions, concurrency=2)):
        await until(lambda: started.now["away"] == 1)
        server.pause()
        started.on.set()
        await make_queue(name="there").apply("short")
        server.resume()
        end = await ended(make_queue(server.url(), name="away"), job)
        assert (end.status, end.attempts) == (Status.COMPLETE, 1)


async def test_hooks_that_wait_for_a_server_that_is_away_take_no_slot_from_the_others(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    """What comes after a job waits until its result is accepted."""
    server, started = make_server(), Started()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    after: list[str] = []
    worker = make_worker(
        [away, there],
        started.functions,
        concurrency=2,
        after_process=lambda ctx: after.append(ctx["queue"].name),
    )
    async with running(worker):
        await fill(away, 2, "long")
        await until(lambda: started.now["away"] == 2)
        server.pause()
        started.on.set()
        for _ in range(3):
            async with took(at_most=3.0):
                await make_queue(name="there").apply("short")
        assert "away" not in after
        server.resume()
        await until(lambda: after.count("away") == 2)
        await until(lambda: worker._parts is not None and worker._parts.fetchers[0]._slots.idle)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_server_that_is_away_at_the_start_is_joined_when_it_comes(
    how: str, make_server: MakeServer, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    getattr(server, how)()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    async with running(make_worker([away, there], {"name": name_of_queue})):
        async with took(at_most=5.0):
            assert await make_queue(name="there").apply("name") == "there"
        if how == "kill":
            await until(lambda: "The queue away cannot be used yet, trying again" in caplog.text)
            server.start()
        else:
            server.resume()
        assert await make_queue(server.url(), name="away").apply("name") == "away"


async def test_a_stop_before_a_server_has_come_ends_at_once(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server = make_server()
    server.pause()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    async with running(make_worker([away, there], {"name": name_of_queue})) as worker:
        await make_queue(name="there").apply("name")
        async with took(at_most=2.0):
            await worker.stop()
    assert (await there.info())["workers"] == {}
    server.resume()


async def test_where_no_server_is_there_the_start_is_an_error(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server = make_server()
    server.kill()
    queues = [make_queue(server.url(), name=name) for name in ("a", "b")]
    worker = make_worker(queues, {"nothing": nothing})
    with pytest.raises(UnreachableError):
        await worker.start()


async def test_a_stop_while_a_server_is_away_ends_in_bounded_time(
    make_server: MakeServer, make_queue: MakeQueue
) -> None:
    server, started = make_server(), Started()
    there, away = make_queue(name="there"), make_queue(server.url(), name="away")
    worker = make_worker([away, there], started.functions)
    async with running(worker):
        await fill(away, 1, "long")
        job = await enqueue(there, "long", timeout=0)
        await until(lambda: sum(started.now.values()) == 2)
        server.pause()
        async with took(at_most=15.0):
            await worker.stop()
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")
    assert (await there.info())["workers"] == {}


# What cannot be --------------------------------------------------------------------------------------------


def wrong(make: MakeQueue) -> list[tuple[dict[str, Any], str]]:
    a, b = make(name="a"), make(name="b")
    return [
        ({"queue": a, "queues": [a, b]}, "queue and queues are both given"),
        ({}, "queue must be a Queue, got None"),
        ({"queues": []}, "queues must hold at least one queue"),
        ({"queues": {}}, "queues must hold at least one queue"),
        ({"queues": a}, "queues must be a collection, such as a list, got RedisQueue"),
        ({"queues": "redis://localhost"}, "queues must be a collection"),
        ({"queues": [a, "b"]}, "queues holds queues and Share"),
        ({"queues": [(a, 3), (b, 1)]}, "queues holds queues and Share"),
        ({"queues": [a, a]}, "queues has RedisQueue<.*name: 'a'> twice"),
        ({"queues": [a, make(name="a")]}, "queues has RedisQueue<.*name: 'a'> twice"),
        ({"queues": {a: 3, make(name="a"): 1}}, "queues has RedisQueue<.*name: 'a'> twice"),
        ({"queues": {a: 0, b: 1}}, "the weight of RedisQueue<.*'a'> must be a number above 0, got 0"),
        ({"queues": {a: -1, b: 1}}, "must be a number above 0, got -1"),
        ({"queues": {a: "3", b: 1}}, "must be a number above 0, got '3'"),
        ({"queues": {a: True, b: 1}}, "must be a number above 0, got True"),
        ({"queues": {a: float("inf"), b: 1}}, "must be a number above 0, got inf"),
        ({"queues": {a: float("nan"), b: 1}}, "must be a number above 0, got nan"),
        ({"queues": {a: None, b: 1}}, "must be a number above 0, got None"),
        ({"queues": {"a": 1}}, "queue must be a Queue, got 'a'"),
        ({"queues": [Share(a, weight=2), b]}, "weights to some and none to RedisQueue<.*'b'>"),
        (
            {"queues": [a, b], "cron_jobs": [CronJob(nothing, "* * * * *", queue=make(name="c"))]},
            "none of the",
        ),
        ({"queue": a, "functions": None}, "functions must be a collection"),
    ]


def test_wrong_queues_are_refused_with_what_was_expected(redis_url: str) -> None:
    def make(name: str) -> RedisQueue:
        return RedisQueue.from_url(redis_url, name=name)

    for settings, says in wrong(make):
        with pytest.raises(ValueError, match=says):
            Worker(**{"functions": [nothing], **settings})
    for limit in (0, -1, 1.5, "2", True):
        with pytest.raises(
            ValueError, match=r"the limit of RedisQueue<.*> must be a whole number of at least 1"
        ):
            Share(make("a"), limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue must be a Queue, got 'a'"):
        Share("a")  # type: ignore[arg-type]


def test_queues_of_one_name_on_different_servers_are_two(redis_url: str) -> None:
    queues = [RedisQueue.from_url(redis_url), RedisQueue.from_url("redis://127.0.0.1:1")]
    worker: Worker[Context] = Worker(queues=queues, functions=[])
    assert worker.queues == tuple(queues)


# Settings and the command line -----------------------------------------------------------------------------


def test_settings_with_queues_get_no_default_queue(redis_url: str) -> None:
    queues = [RedisQueue.from_url(redis_url, name=name) for name in "ab"]
    settings = check({"functions": [], "queues": queues})
    assert "queue" not in settings
    assert queues_of(settings) == queues
    assert Worker(**settings).queues == tuple(queues)
    assert queues_of(check({"functions": [], "queue": queues[0]})) == queues[:1]


async def test_a_worker_process_serves_several_queues(
    redis_url: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAQ_TEST_URL", redis_url)
    process = saq("tests.worker.app.several", url=redis_url)
    try:
        for name in ("a", "b"):
            assert await make_queue(name=name).apply("add", a=1, b=2, timeout=20) == 3
        assert await asyncio.to_thread(check_health, "tests.worker.app.several") == 0
    finally:
        process.close()
