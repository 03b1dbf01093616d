"""A server that is there and does not do as it is told: it is told on, waited for, and nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError

from saq.errors import ServerError
from saq.job import Job, Status
from saq.queue.backend import Finding
from saq.queue.redis import RedisQueue, RefusedError, UnreachableError
from saq.queue.redis.keys import EXPLAINED
from tests.conftest import MakeServer
from tests.faults.conftest import MakeQueue, Work
from tests.servers import Server
from tests.suspensions.promises import end_leases
from tests.worker.support import ended, enqueue, make_worker, running, took, until

#: How a server comes not to do what it is told, and how that ends.
Refusal = Callable[[Server, Redis], Callable[[], Any]]


def be_a_replica(server: Server, raw: Redis) -> Callable[[], Any]:
    """Of nobody who is there."""
    raw.config_set("replica-read-only", "yes")
    raw.replicaof("127.0.0.1", 1)
    return lambda: raw.replicaof("NO", "ONE")


def have_no_replica(server: Server, raw: Redis) -> Callable[[], Any]:
    raw.config_set("min-replicas-to-write", 1)
    return lambda: raw.config_set("min-replicas-to-write", 0)


def fail_to_save(server: Server, raw: Redis) -> Callable[[], Any]:
    """A snapshot cannot be written: in the place of its file is a directory."""
    (server.home / "dump.rdb").mkdir()
    raw.config_set("save", "3600 1")
    raw.bgsave()
    return lambda: raw.config_set("stop-writes-on-bgsave-error", "no")


def have_no_memory(server: Server, raw: Redis) -> Callable[[], Any]:
    raw.config_set("maxmemory", 1)
    return lambda: raw.config_set("maxmemory", 0)


#: What is said, and whether a caller waits a while for the end of it.
REFUSALS = [
    pytest.param(be_a_replica, r"READONLY.*primary", True, id="READONLY"),
    pytest.param(have_no_replica, r"NOREPLICAS.*min-replicas-to-write", True, id="NOREPLICAS"),
    pytest.param(fail_to_save, r"MISCONF.*disk", False, id="MISCONF"),
    pytest.param(have_no_memory, r"OOM.*maxmemory", False, id="OOM"),
]


@pytest.mark.parametrize(("refuse", "said", "waits"), REFUSALS)
async def test_a_refusal_is_told_and_nothing_is_lost(
    refuse: Refusal,
    said: str,
    waits: bool,
    make_server: MakeServer,
    make_queue: MakeQueue,
    work: Work,
):
    server = make_server()
    raw = server.client()
    queue, client = make_queue(server.url()), make_queue(server.url())
    go_on, started, ceased, runs = asyncio.Event(), asyncio.Event(), asyncio.Event(), Counter[str]()

    async def held(ctx: Any) -> str:
        runs[ctx["job"].key] += 1
        started.set()
        await go_on.wait()
        return "kept"

    await work({"held": held}, queue=queue, concurrency=1)
    await client.connect()
    running = await enqueue(client, "held", key="running", timeout=0)
    await started.wait()
    behind = await enqueue(client, "held", key="behind", timeout=0)
    cease = refuse(server, raw)
    await until(lambda: is_refused(raw))
    # A caller is told: after a while, where it may end by itself.
    with pytest.raises(RefusedError, match=said):
        await client._session.run("pause", "on", patience=0.1)
    go_on.set()
    if waits:
        enqueuing = asyncio.create_task(client.enqueue("held", key="new"))
        await until(lambda: client._session.wire._failing)
    else:
        with pytest.raises(RefusedError, match=said):
            await client.enqueue("held", key="new")
        enqueuing = asyncio.create_task(enqueue_when(ceased, client))
    assert not raw.hexists("saq:{default}:jobs", "new"), "what is refused is not done"
    cease()
    ceased.set()
    async with took(at_most=5):
        assert await enqueuing is not None
        for job in (running, behind, "new"):
            end = await ended(client, job)
            assert (end.status, end.result, end.attempts) == (Status.COMPLETE, "kept", 1)
    assert runs == {"running": 1, "behind": 1, "new": 1}


async def enqueue_when(event: asyncio.Event, client: RedisQueue) -> Job | None:
    await event.wait()
    return await client.enqueue("held", key="new")


def is_refused(raw: Redis) -> bool:
    try:
        raw.set("probe", 1)
        raw.delete("probe")
    except Exception:
        return True
    return False


async def test_a_result_is_settled_while_there_is_no_memory(
    make_server: MakeServer, make_queue: MakeQueue, work: Work
):
    """What ends a job makes room: it must not wait for room."""
    server = make_server()
    queue, client = make_queue(server.url()), make_queue(server.url())
    go_on, started = asyncio.Event(), asyncio.Event()

    async def held(ctx: Any) -> str:
        started.set()
        await go_on.wait()
        return "kept"

    await work({"held": held}, queue=queue)
    job = await enqueue(client, "held", timeout=0)
    await started.wait()
    server.client().config_set("maxmemory", 1)
    go_on.set()
    assert (await ended(client, job)).result == "kept"


async def test_a_worker_starts_works_and_stops_while_there_is_no_memory(
    make_server: MakeServer, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
):
    """Only workers make room: one that cannot start then would leave it as it is."""
    server = make_server()
    queue, client = make_queue(server.url()), make_queue(server.url())

    async def quick(ctx: Any) -> str:
        return "quick"

    job = await enqueue(client, "quick")
    server.client().config_set("maxmemory", 1)
    async with running(make_worker(queue, {"quick": quick})) as worker:
        assert (await ended(client, job)).result == "quick"
        assert worker.id in (await client.info())["workers"]
    assert (await client.info())["workers"] == {}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "OOM" in r.getMessage()]


async def test_a_server_that_loads_its_data_is_waited_for(
    make_server: MakeServer, make_queue: MakeQueue, work: Work
):
    server = make_server(appendonly="yes")
    raw = server.client()
    with raw.pipeline(transaction=False) as pipe:
        for n in range(8_000):  # after each 1,000 it answers, that it still loads
            pipe.hset("ballast", str(n), "")
        pipe.execute()
    queue, client = make_queue(server.url()), make_queue(server.url())

    async def quick(ctx: Any) -> str:
        return "quick"

    await work({"quick": quick}, queue=queue)
    assert await client.apply("quick") == "quick"
    server.kill()
    server.options["key-load-delay"] = 50  # microseconds for each entry of the log
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    await until(lambda: is_loading(raw))
    async with took(at_most=10):
        assert await client.apply("quick") == "quick"
    await starting


def is_loading(raw: Redis) -> bool:
    try:
        raw.ping()
    except BusyLoadingError:
        return True
    except ConnectionError:
        return False
    raise AssertionError("it has loaded too fast for this test")


async def test_a_server_without_room_for_a_connection_is_told_as_such(
    make_server: MakeServer, make_queue: MakeQueue
):
    server = make_server()
    raw = server.client()
    queue, late = make_queue(server.url()), make_queue(server.url())
    await queue.connect()
    raw.config_set("maxclients", 1)
    with pytest.raises(UnreachableError, match=r"no room for another connection.*maxclients"):
        await late.enqueue("f")
    # Who was there before waits for a place.
    queue._session.wire.abort()
    enqueuing = asyncio.create_task(queue.enqueue("f", key="k"))
    await until(lambda: queue._session.wire._failing)
    raw.config_set("maxclients", 100)
    async with took(at_most=5):
        assert await enqueuing is not None
    assert await late.enqueue("f", key="k") is None


# -- rights -------------------------------------------------------------------------------------------------


def url_with(server: Server, *rights: str) -> str:
    """The address for a user with these rights."""
    server.client().execute_command("ACL", "SETUSER", "bob", "reset", "on", ">secret", *rights)
    return server.url().replace("redis://", "redis://bob:secret@")


async def test_what_the_advice_grants_is_enough(make_server: MakeServer, make_queue: MakeQueue, work: Work):
    async def quick(ctx: Any) -> str:
        await ctx["job"].update(progress=0.5)
        return "quick"

    server = make_server()
    rights = ["~saq:*", "resetchannels", "&saq:*", "+@all", "-@dangerous"]
    if server.client().info("server")["redis_version"].startswith("6."):
        rights.append("+client")
    url = url_with(server, *rights)
    queue, client = make_queue(url), make_queue(url)
    await work({"quick": quick}, queue=queue)
    assert await client.apply("quick") == "quick"
    await client.enqueue("quick", key="later", scheduled=4_000_000_000)
    assert await client.abort(Job("quick", key="later", queue=client), "no")
    assert len([job async for job in client.iter_jobs()]) == 2
    assert (await client.info())["workers"]
    await client.sweep()


@pytest.mark.parametrize("command", ["client", "evalsha", "zadd", "hset", "time"])
async def test_a_right_that_is_missing_is_told(command: str, make_server: MakeServer, make_queue: MakeQueue):
    server = make_server()
    queue = make_queue(url_with(server, "~saq:*", "resetchannels", "&saq:*", "+@all", f"-{command}"))
    with pytest.raises(ServerError, match=r"lacks that right.*ACL SETUSER") as refused:
        await queue.enqueue("f")
    assert f"+{command}" in str(refused.value) or f"'{command}" in str(refused.value)
    allowed = make_queue(server.url())
    assert await allowed.enqueue("f", key="k")
    assert [job.key for job in (await allowed.step((), 2)).jobs] == ["k"]


async def test_that_one_may_not_subscribe_is_told(
    make_server: MakeServer, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("saq.queue.redis.inbox.PATIENCE", 0.1)
    queue = make_queue(url_with(make_server(), "~saq:*", "resetchannels", "&saq:*", "+@all", "-subscribe"))
    with pytest.raises(RefusedError, match=r"'subscribe'.*lacks that right"):
        await queue.apply("f")


async def test_keys_out_of_bounds_are_told(make_server: MakeServer, make_queue: MakeQueue):
    queue = make_queue(url_with(make_server(), "~other:*", "+@all"))
    with pytest.raises(RefusedError, match="lacks that right"):
        await queue.enqueue("f")


# -- what others do to the server ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in EXPLAINED if "<" not in name])
async def test_a_key_of_the_wrong_type_is_told_and_mended(
    name: str, server: Server, redis_url: str, make_queue: MakeQueue
):
    """Somebody else has put something in its place. When what is advised is done, nothing is lost."""
    raw, full = server.client(), f"saq:{{default}}:{name}"
    queue = make_queue()
    await queue.enqueue_many(Job("f", key=key, retries=3) for key in "abcd")
    held = (await queue.step((), 1)).jobs
    await held[0].update(progress=0.5)
    saved = raw.dump(full)
    raw.delete(full)
    raw.lpush(full, "none of ours is a list")
    calls: list[Any] = [
        queue.enqueue("f", key="new"),
        queue.step([queue.settle(held[0], Status.COMPLETE, result=1)], 0),
        queue.step((), 1),
    ]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(error, Exception):
            assert isinstance(error, RefusedError)
            assert error.code == "WRONGTYPE"
            assert "saq repair" in str(error)
    found = [finding async for finding in queue.repair() if isinstance(finding, Finding)]
    assert [finding.key for finding in found if finding.kind == "type"] == [name]
    raw.delete(full)
    if saved is not None:
        raw.restore(full, 0, saved)
    await queue.disconnect()
    healthy = make_queue()
    async for _ in healthy.repair():
        pass
    end_leases(raw, "saq:{default}:")
    for _ in range(10):
        jobs = (await healthy.step((), 10)).jobs
        await healthy.step([healthy.settle(job, Status.COMPLETE) for job in jobs], 0)
    ends = [job.status for job in await healthy.jobs("abcd") if job]
    assert ends == [Status.COMPLETE] * 4
    assert await healthy.count("incomplete") == 0


@pytest.mark.parametrize(
    "command",
    ["SCRIPT FLUSH", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"],
)
async def test_a_worker_goes_on_whatever_is_done_again_and_again(
    command: str, server: Server, redis_url: str, make_queue: MakeQueue, work: Work
):
    raw = server.client()
    runs: Counter[int] = Counter()
    disturbed = 0

    async def note(ctx: Any, *, n: int) -> int:
        runs[n] += 1
        return n

    queue, client = make_queue(), make_queue()
    await work({"note": note}, queue=queue, concurrency=5)
    await client.connect()
    assert await client.apply("note", n=-1) == -1
    for n in range(0, 100, 5):
        waiting = [asyncio.create_task(client.apply("note", n=n + i)) for i in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
            raw.execute_command(*command.split())
            disturbed += 1
        assert await asyncio.gather(*waiting) == list(range(n, n + 5))
    assert disturbed == 60
    assert runs == dict.fromkeys(range(-1, 100), 1)
