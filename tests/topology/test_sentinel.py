"""A primary, a replica and three sentinels: while all is well, and while the primary becomes another one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from saq import Job, Status
from saq.errors import ServerError, UsageError
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue, UnreachableError
from saq.queue.redis.sentinel import SentinelLink
from tests.conftest import MakeServer
from tests.ports import free_port
from tests.servers import Server
from tests.topology.conftest import MakeQueue, Work
from tests.topology.operations import use_by_hand, work_and_wait
from tests.topology.servers import SentinelServer, Watched
from tests.worker.support import ended, enqueue, took, until


@pytest.fixture
def failing() -> Iterator[Watched]:
    """One whose servers may be killed."""
    with Watched() as watched:
        yield watched


def names_of(server: Server) -> list[str]:
    """The connections of queues that lead there."""
    clients = server.client().client_list()
    return sorted(client["name"] for client in clients if client["name"].startswith("saq"))


async def nothing_left(queue: Queue) -> bool:
    return await queue.count("incomplete") == 0


def replicated(server: Server, tag: str = "") -> bool:
    """Whether the replica has all that was written by now."""
    raw = server.client(socket_timeout=3)
    try:
        raw.set(f"probe{tag}", 1)
        return raw.wait(1, 2_000) == 1
    except RedisError:
        return False


# -- while all is well --------------------------------------------------------------------------------------


async def test_everything_works_by_the_name_of_the_service(watched: Watched, make_queue: MakeQueue):
    await work_and_wait(lambda: make_queue(watched.url))
    await use_by_hand(lambda: make_queue(watched.url))


async def test_a_client_of_the_users_own(watched: Watched):
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    sentinel = Sentinel(hosts, sentinel_kwargs={"password": "theirs"}, password="ours")
    queue = RedisQueue(sentinel.master_for(watched.service))
    assert await queue.enqueue("f", key="k")
    assert await queue.redis.exists("saq:{default}:jobs"), "the client itself is left as it was"
    job = await queue.dequeue(5)
    assert job is not None
    await job.finish(Status.COMPLETE)
    assert f":{watched.primary.port}/0 (primary of 'jobs')" in repr(queue)
    await queue.disconnect()


async def test_another_database(watched: Watched, make_queue: MakeQueue):
    queue = make_queue(watched.url.replace("/jobs", "/jobs/3"))
    assert await queue.enqueue("f")
    assert watched.primary.client(db=3).exists("saq:{default}:jobs")


async def test_one_sentinel_that_answers_is_enough(watched: Watched, make_queue: MakeQueue):
    nobody = f"127.0.0.1:{free_port()}"
    last = f"127.0.0.1:{watched.sentinels[2].port}"
    queue = make_queue(watched.url.replace(watched.hosts, f"{nobody},{last}"))
    assert await queue.enqueue("f")


async def test_a_sentinel_that_hangs_delays_nothing(watched: Watched, make_queue: MakeQueue):
    watched.sentinels[0].pause()
    try:
        async with took(at_most=1):
            assert await make_queue(watched.url).enqueue("f")
    finally:
        watched.sentinels[0].resume()


async def test_a_replica_is_no_place_for_a_queue(watched: Watched):
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    with pytest.raises(UsageError, match="master_for"):
        RedisQueue(Sentinel(hosts).slave_for(watched.service))


# -- a failover ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["kill", "pause", "asked for"])
async def test_a_failover_in_the_middle_of_work_loses_nothing_that_was_replicated(
    how: str, failing: Watched, make_queue: MakeQueue, work: Work
):
    """Enqueued, claimed, running, settled: whatever had reached the replica has one end, and only one."""
    queue, client = make_queue(failing.url), make_queue(failing.url)
    runs: dict[str, int] = {}

    async def note(ctx: Any) -> str:
        key = ctx["job"].key
        runs[key] = runs.get(key, 0) + 1
        await asyncio.sleep(0.005)
        return key

    await work({"note": note}, queue=queue, concurrency=10, lease=1.5)
    sure: list[str] = []
    failed_over = asyncio.Event()

    async def produce() -> None:
        n = 0
        after = 0
        while after < 200:
            keys = [f"{n + i}" for i in range(10)]
            n += 10
            try:
                await client.enqueue_many(Job("note", key=key, retries=2) for key in keys)
            except ServerError:
                continue  # they may be there or not
            if failed_over.is_set():
                after += 10
                sure.extend(keys)
            elif n % 50 == 0 and await asyncio.to_thread(replicated, failing.primary):
                sure.extend(keys)

    producing = asyncio.create_task(produce())
    await until(lambda: len(sure) >= 100)
    waiting = asyncio.create_task(client.wait(sure[-1], 30))
    if how == "kill":
        failing.primary.kill()
    elif how == "pause":
        failing.primary.pause()
    else:
        await asyncio.to_thread(failing.sentinels[0].client().execute_command, "SENTINEL", "FAILOVER", "jobs")
    await asyncio.to_thread(failing.wait_for_failover)
    await until(
        lambda: str(failing.replica.port) in repr(queue) and str(failing.replica.port) in repr(client)
    )
    failed_over.set()
    await asyncio.wait_for(producing, 30)
    assert await waiting is not None
    for key in sure:
        job = await ended(client, key, 20)
        assert (job.status, job.result) == (Status.COMPLETE, key)
    await until(lambda: nothing_left(client))  # of what is not sure, too
    assert set(sure) <= runs.keys()
    # All have come along.
    await until(lambda: names_of(failing.replica).count("saq") == 2)
    await until(lambda: {"saq-inbox", "saq-marker"} <= set(names_of(failing.replica)))


async def test_a_job_that_runs_keeps_its_lease(failing: Watched, make_queue: MakeQueue, work: Work):
    queue, client = make_queue(failing.url), make_queue(failing.url)
    go_on = asyncio.Event()

    async def hold(ctx: Any) -> str:
        await go_on.wait()
        return "kept"

    await work({"hold": hold}, queue=queue, lease=2)
    waiting = asyncio.create_task(client.apply("hold"))
    await until(lambda: client.count("active"))
    (key,) = [job.key async for job in client.iter_jobs()]
    assert await asyncio.to_thread(replicated, failing.primary)
    failing.primary.kill()
    await asyncio.to_thread(failing.wait_for_failover)
    raw = failing.replica.client()

    def renewed() -> bool:
        (active,) = raw.zrange("saq:{default}:active", 0, 0, withscores=True)
        seconds, micros = raw.time()
        return float(active[1]) > seconds * 1000 + micros / 1000 + 1_000

    await until(renewed)
    go_on.set()
    assert await waiting == "kept"
    job = await client.job(key)
    assert job is not None
    assert job.attempts == 1


async def test_an_idle_worker_follows(failing: Watched, make_queue: MakeQueue, work: Work):
    async def f(ctx: Any) -> int:
        return 1

    queue, client = make_queue(failing.url), make_queue(failing.url)
    await work({"f": f}, queue=queue)
    assert await client.apply("f") == 1
    failing.primary.kill()
    await asyncio.to_thread(failing.wait_for_failover)
    assert await asyncio.wait_for(client.apply("f"), 10) == 1
    job = await enqueue(client, "f", scheduled=(await client.server_time()) + 1)
    assert (await ended(client, job)).result == 1


async def test_writes_that_no_replica_has_are_refused_until_the_failover(make_queue: MakeQueue):
    """A primary that was cut off takes nothing in: the job goes to the one in its place."""
    with Watched(min_replicas_to_write=1, min_replicas_max_lag=1) as watched:
        queue = make_queue(watched.url)
        assert await queue.enqueue("f", key="a")
        watched.replica.pause()
        await until(lambda: watched.primary.client().info("replication").get("min_slaves_good_slaves") == 0)
        enqueuing = asyncio.create_task(queue.enqueue("f", key="b"))
        await until(lambda: queue._session.wire._failing)
        watched.replica.resume()
        assert await enqueuing is not None
        assert [job.key async for job in queue.iter_jobs()] == ["a", "b"]


async def test_a_sentinel_that_knows_of_no_failover_is_not_believed(failing: Watched, make_queue: MakeQueue):
    """It names the primary of before, and is not asked last."""
    # What sentinels tell each other, they tell through the servers: this one does not hear it.
    for server in (failing.primary, failing.replica):
        server.client().execute_command("ACL", "SETUSER", "deaf", "on", ">deaf", "+ping", "+info")
    alone = [
        f"sentinel monitor jobs 127.0.0.1 {failing.primary.port} 99",
        "sentinel auth-user jobs deaf",
        "sentinel auth-pass jobs deaf",
    ]
    with SentinelServer(str(failing.primary.binary), alone) as cut_off:
        link = make_queue(
            failing.url.replace(failing.hosts, f"127.0.0.1:{cut_off.port},{failing.hosts}")
        )._link
        assert isinstance(link, SentinelLink)
        assert await link._find() == ("127.0.0.1", failing.primary.port)
        failing.primary.pause()  # it would tell the fourth one
        await asyncio.to_thread(failing.wait_for_failover)
        await until(lambda: names(failing.sentinels[0], failing.replica))
        assert names(cut_off, failing.primary)
        for _ in range(10):
            assert await link._find() == ("127.0.0.1", failing.replica.port)


def names(sentinel: Server, server: Server) -> bool:
    said: Any = sentinel.client().execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "jobs")
    return int(said[1]) == server.port


# -- what is said -------------------------------------------------------------------------------------------


async def refused(url: str, **kwargs: Any) -> str:
    """What is said of it, the same at whatever is called first."""
    said = set()
    for call in ("connect", "enqueue", "wait"):
        queue = Queue.from_url(url, **kwargs)
        with pytest.raises(UnreachableError) as unreachable:
            await getattr(queue, call)(*([] if call == "connect" else ["f"]))
        said.add(str(unreachable.value))
        await queue.disconnect()
    assert "secret" not in "".join(said)
    return min(said)


async def test_no_sentinel_that_answers(watched: Watched):
    nobody, hangs = free_port(), free_port()
    said = await refused(f"redis+sentinel://:secret@127.0.0.1:{nobody},127.0.0.1:{hangs}/jobs")
    for port in (nobody, hangs):
        assert f"127.0.0.1:{port}: Error" in said, "each, and why"
    assert "no sentinel of 'jobs' could be asked" in said
    assert "running" in said


async def test_a_service_that_nobody_knows(watched: Watched):
    said = await refused(watched.url.replace("/jobs", "/jbos"))
    assert "know no service 'jbos': they watch 'jobs'" in said


async def test_a_wrong_password_of_the_sentinels(watched: Watched):
    said = await refused(watched.url.replace("theirs", "secret"))
    assert said.count("it refused the credentials") == 3
    assert "sentinel_password" in said


async def test_a_wrong_password_of_the_servers(watched: Watched):
    said = await refused(watched.url.replace("ours", "secret"))
    assert f"127.0.0.1:{watched.primary.port}" in said
    assert "it refused the credentials" in said


async def test_a_server_in_the_place_of_a_sentinel(redis_url: str):
    said = await refused(redis_url.replace("redis://", "redis+sentinel://").replace("/0", "/jobs"))
    assert "it is a Redis server, not a sentinel" in said


async def test_a_primary_that_is_down(failing: Watched):
    failing.replica.kill()
    failing.primary.kill()
    said = await refused(failing.url)
    assert f"redis://127.0.0.1:{failing.primary.port}/0 (primary of 'jobs')" in said
    assert "The sentinels replace a primary that is down" in said


async def test_a_server_that_is_no_primary(make_server: MakeServer, failing: Watched):
    """The sentinels have not noticed yet that somebody has made another server the primary."""
    failing.primary.client().replicaof("127.0.0.1", make_server().port)
    said = await refused(failing.url)
    assert f"127.0.0.1:{failing.primary.port}, which the sentinels name" in said
    assert "is a replica at present" in said
