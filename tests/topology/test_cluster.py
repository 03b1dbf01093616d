"""A Cluster of three nodes: while all is well, while the slot of a queue moves, and while its node dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import ResponseError

from saq import Job, Status
from saq.errors import ServerError
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue, RefusedError, UnreachableError
from tests.ports import free_port
from tests.servers import Server
from tests.topology.conftest import MakeQueue, Work
from tests.topology.operations import use_by_hand, work_and_wait
from tests.topology.servers import Cluster, Move
from tests.topology.test_sentinel import names_of, nothing_left, replicated
from tests.worker.support import ended, enqueue, until


@pytest.fixture
def moving() -> Iterator[Cluster]:
    """One whose slots may be moved."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def doubled() -> Iterator[Cluster]:
    """One with a replica for each node, whose nodes may be killed."""
    with Cluster(replicas=3) as cluster:
        yield cluster


def owner_and_other(cluster: Cluster, queue: str = "default") -> tuple[Server, Server]:
    owner = cluster.owner(queue)
    return owner, next(node for node in cluster.nodes if node is not owner)


# -- while all is well --------------------------------------------------------------------------------------


async def test_everything_works_wherever_the_queue_lies(cluster: Cluster, make_queue: MakeQueue):
    owners: set[int] = set()
    for name in ("0", "1", "3"):
        make = partial(make_queue, cluster.url, name=name)
        await use_by_hand(make)
        if not owners:
            await work_and_wait(make)
        owner = cluster.owner(name)
        assert all(b"{%s}" % name.encode() in key for key in cast("list[bytes]", owner.client().keys("*")))
        owner.flush()
        owners.add(owner.port)
    assert len(owners) == 3


@pytest.mark.parametrize("name", ["", "a{b}c", "{}", "ü", "}{"])
async def test_any_name_is_one_slot(name: str, cluster: Cluster, make_queue: MakeQueue):
    await use_by_hand(lambda: make_queue(cluster.url, name=name))
    assert sum(bool(node.client().dbsize()) for node in cluster.nodes) == 1


async def test_one_node_that_answers_is_enough(cluster: Cluster, make_queue: MakeQueue):
    for node in cluster.nodes:
        queue = make_queue(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{node.port}")
        assert await queue.enqueue("f")


async def test_a_client_of_the_users_own(cluster: Cluster):
    nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
    queue = RedisQueue(RedisCluster(startup_nodes=nodes))
    assert await queue.enqueue("f", key="k")
    assert await queue.redis.exists("saq:{default}:jobs"), "the client itself is left as it was"
    job = await queue.dequeue(5)
    assert job is not None
    await job.finish(Status.COMPLETE)
    assert f":{cluster.owner('default').port}/0 (slot {cluster.slot('default')} of the Cluster)" in repr(
        queue
    )
    await queue.disconnect()


async def test_four_connections_all_to_one_node(cluster: Cluster, make_queue: MakeQueue, work: Work):
    go_on = asyncio.Event()

    async def f(ctx: Any) -> int:
        await go_on.wait()
        return 1

    queue = make_queue(cluster.url)
    await work({"f": f}, queue=queue, lease=0.5, concurrency=60)
    waiting = [asyncio.create_task(queue.apply("f")) for _ in range(50)]
    owner = cluster.owner("default")
    await until(lambda: names_of(owner) == ["saq", "saq-inbox", "saq-leases", "saq-marker"])
    go_on.set()
    assert await asyncio.gather(*waiting) == [1] * 50
    assert [names_of(node) for node in cluster.nodes if node is not owner] == [[], []]


# -- a slot on its way --------------------------------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_slot_moves_under_load_key_by_key(moving: Cluster, make_queue: MakeQueue, work: Work):
    """Each job runs once, and ends once: while the keys lie on two nodes, nothing is done at all."""
    queue, client = make_queue(moving.url), make_queue(moving.url)
    runs: dict[str, int] = {}

    async def note(ctx: Any, *, n: int) -> int:
        key = ctx["job"].key
        runs[key] = runs.get(key, 0) + 1
        await asyncio.sleep(0.005)
        return n

    await work({"note": note}, queue=queue, concurrency=10)
    keys: list[str] = []
    over = asyncio.Event()

    async def produce() -> None:
        while not over.is_set() or len(keys) < 300:
            n = len(keys)
            jobs = await client.enqueue_many(Job("note", {"n": n + i}, key=f"{n + i}") for i in range(10))
            assert all(jobs), "none is a duplicate of itself"
            keys.extend(job.key for job in jobs if job)
            assert await client.apply("note", n=n, timeout=20) == n

    producing = asyncio.create_task(produce())
    await until(lambda: len(keys) >= 50, 30)
    there, here = owner_and_other(moving)
    for source, target in ((there, here), (here, there)):
        move = Move(moving, "default", source, target)
        await asyncio.to_thread(move.begin)
        await asyncio.sleep(0)
        while some := await asyncio.to_thread(move.keys, 5):
            await asyncio.to_thread(move.carry, *some)
            before = set(await asyncio.to_thread(target.client().keys, "*"))
            await asyncio.sleep(0.005)
            assert set(await asyncio.to_thread(target.client().keys, "*")) == before, "nothing begins there"
        await asyncio.to_thread(move.end)
        await until(partial(has_moved, target, keys, len(keys)), 20)
    over.set()
    await asyncio.wait_for(producing, 20)
    for n, key in enumerate(keys):
        job = await ended(client, key)
        assert (job.status, job.result, job.attempts) == (Status.COMPLETE, n, 1)
    assert {runs[key] for key in keys} == {1}
    await until(lambda: {"saq", "saq-inbox", "saq-marker"} <= set(names_of(there)))
    await until(lambda: not names_of(here))


def has_moved(target: Server, keys: list[str], there: int) -> bool:
    return len(keys) > there + 20 and names_of(target).count("saq") == 2


async def test_jobs_that_run_and_jobs_that_are_waited_for_move_along(
    moving: Cluster, make_queue: MakeQueue, work: Work
):
    queue, client = make_queue(moving.url), make_queue(moving.url)
    go_on = asyncio.Event()

    async def hold(ctx: Any) -> str:
        await go_on.wait()
        return "kept"

    await work({"hold": hold}, queue=queue, lease=1.5)
    waiting = asyncio.create_task(client.apply("hold"))
    await until(lambda: client.count("active"))
    source, target = owner_and_other(moving)
    move = Move(moving, "default", source, target)
    move.begin()
    await asyncio.sleep(1)  # no lease is renewed meanwhile
    move.carry(*move.keys(100))
    move.end()
    await asyncio.sleep(1)
    go_on.set()
    assert await waiting == "kept"
    assert {job.attempts async for job in client.iter_jobs()} == {1}


async def test_an_idle_worker_moves_along(moving: Cluster, make_queue: MakeQueue, work: Work):
    async def f(ctx: Any) -> int:
        return 1

    queue, client = make_queue(moving.url), make_queue(moving.url)
    await work({"f": f}, queue=queue)
    assert await client.apply("f") == 1
    source, target = owner_and_other(moving)
    move = Move(moving, "default", source, target)
    move.begin()
    move.carry(*move.keys(100))
    move.end()
    assert await asyncio.wait_for(client.apply("f"), 10) == 1
    job = await enqueue(client, "f", scheduled=(await client.server_time()) + 0.5)
    assert (await ended(client, job)).result == 1


async def test_a_slot_moves_at_once(moving: Cluster, make_queue: MakeQueue, work: Work):
    """As Valkey does it since 9: with all its keys, in one moment."""

    async def note(ctx: Any, *, n: int) -> int:
        return n

    source, target = owner_and_other(moving)
    queue, client = make_queue(moving.url), make_queue(moving.url)
    await work({"note": note}, queue=queue)
    count, goal = 0, 100
    while count < goal:
        assert await client.apply("note", n=count, key=f"{count}", timeout=20) == count
        count += 1
        if count == 50:
            slot = moving.slot("default")
            words = ("SLOTSRANGE", slot, slot, "NODE", moving.id_of(target))
            try:
                source.client().execute_command("CLUSTER", "MIGRATESLOTS", *words)
            except ResponseError as error:
                pytest.skip(f"this server moves its slots key by key: {error}")
        if count == goal and names_of(target).count("saq") < 2:
            goal += 20
    jobs = await client.jobs(f"{n}" for n in range(count))
    assert [(job.result, job.attempts) for job in jobs if job] == [(n, 1) for n in range(count)]


def carry_all(move: Move) -> None:
    move.carry(*move.keys(1000))
    move.end()


async def test_a_look_at_everything_misses_nothing_that_moves(moving: Cluster, make_queue: MakeQueue):
    """SCAN names no key: it would show what is left on one node, and the beginning of another."""
    queue, client = make_queue(moving.url), make_queue(moving.url)
    await queue.enqueue_many(Job("f", key=f"{n}") for n in range(300))
    while jobs := (await queue.step((), 100)).jobs:
        await queue.step([queue.settle(job, Status.COMPLETE, result=1) for job in jobs], 0)
    source, target = owner_and_other(moving)
    move = Move(moving, "default", source, target)
    found: set[str] = set()
    async for job in client.iter_jobs([Status.COMPLETE], batch_size=20):
        found.add(job.key)
        if len(found) == 10:  # in the middle of it
            move.begin()
            move.carry(*move.keys(150))
            asyncio.get_running_loop().call_later(0.3, carry_all, move)
    assert found == {f"{n}" for n in range(300)}


async def test_a_move_that_does_not_end_is_told(
    moving: Cluster, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("saq.queue.redis.wire.MOVE_PATIENCE", 0.1)
    queue = make_queue(moving.url)
    assert await queue.enqueue("f", key="a")
    source, target = owner_and_other(moving)
    move = Move(moving, "default", source, target)
    move.begin()
    with pytest.raises(RefusedError, match=r"ASK.*on its way to another node.*end that move, or undo it"):
        await queue.enqueue("f", key="b")
    move.carry(*move.keys(100))
    move.end()
    assert await queue.enqueue("f", key="c")
    assert [job.key async for job in queue.iter_jobs()] == ["a", "c"], "what was refused is not done"


# -- a node that dies ---------------------------------------------------------------------------------------


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["kill", "pause", "asked for"])
async def test_another_node_takes_over(how: str, doubled: Cluster, make_queue: MakeQueue, work: Work):
    queue, client = make_queue(doubled.url), make_queue(doubled.url)
    for one in (queue, client):
        one._session.wire.silence = 1.0  # a node that hangs need not do so for longer here

    async def note(ctx: Any) -> str:
        await asyncio.sleep(0.005)
        return str(ctx["job"].key)

    await work({"note": note}, queue=queue, concurrency=10, lease=1.5)
    owner = doubled.owner("default")
    replica = doubled.nodes[doubled.nodes.index(owner) + 3]
    sure: list[str] = []
    taken_over = asyncio.Event()

    async def produce() -> None:
        n, after = 0, 0
        while after < 200:
            keys = [f"{n + i}" for i in range(10)]
            n += 10
            try:
                await client.enqueue_many(Job("note", key=key, retries=2) for key in keys)
            except ServerError:
                continue  # they may be there or not
            if taken_over.is_set():
                after += 10
                sure.extend(keys)
            elif n % 50 == 0 and await asyncio.to_thread(replicated, owner, "{default}"):
                sure.extend(keys)

    producing = asyncio.create_task(produce())
    await until(lambda: len(sure) >= 100)
    if how == "kill":
        owner.kill()
    elif how == "pause":
        owner.pause()
    else:
        await asyncio.to_thread(replica.client().execute_command, "CLUSTER", "FAILOVER")
    raw = replica.client()
    await until(lambda: raw.info("replication")["role"] == "master", 30)
    await until(lambda: all(str(replica.port) in repr(one) for one in (queue, client)), 30)
    taken_over.set()
    await asyncio.wait_for(producing, 30)
    for key in sure:
        job = await ended(client, key, 20)
        assert (job.status, job.result) == (Status.COMPLETE, key)
    await until(lambda: nothing_left(client))
    await until(lambda: names_of(replica).count("saq") == 2)
    await until(lambda: {"saq-inbox", "saq-marker"} <= set(names_of(replica)))


# -- what is said -------------------------------------------------------------------------------------------


async def refused(url: str) -> str:
    """What is said of it, the same at whatever is called first."""
    said = ""
    for call in ("connect", "enqueue", "wait"):
        queue = Queue.from_url(url)
        with pytest.raises(UnreachableError) as unreachable:
            await getattr(queue, call)(*([] if call == "connect" else ["f"]))
        said = str(unreachable.value)
        assert "secret" not in said
        await queue.disconnect()
    return said


async def test_no_node_that_answers():
    ports = [free_port() for _ in range(5)]
    said = await refused(f"redis+cluster://:secret@{','.join(f'127.0.0.1:{port}' for port in ports)}")
    assert "no node of the Cluster could be asked" in said
    for port in ports:
        assert f"127.0.0.1:{port}: Error" in said, "each, and why"


async def test_a_node_that_is_down_and_has_no_replica(moving: Cluster):
    queue = Queue.from_url(moving.url)
    assert await queue.enqueue("f")
    owner = moving.owner("default")
    owner.kill()
    for said in (await refused(moving.url), await why(queue)):
        assert f"redis://127.0.0.1:{owner.port}/0 (slot {moving.slot('default')} of the Cluster)" in said
        assert "Error 111" in said
        assert "if it has a replica" in said
    await queue.disconnect()


async def why(queue: Queue) -> str:
    with pytest.raises(UnreachableError) as unreachable:
        await queue.enqueue("f")
    return str(unreachable.value)


async def test_a_slot_that_no_node_serves(moving: Cluster):
    slot = moving.slot("default")
    moving.owner("default").client().execute_command("CLUSTER", "DELSLOTS", slot)
    said = await refused(f"redis+cluster://127.0.0.1:{moving.owner('default').port}")
    assert f"no node of the Cluster serves slot {slot}, in which this queue lies" in said
    assert "--cluster fix" in said


async def test_a_server_of_its_own(redis_url: str):
    said = await refused(redis_url.replace("redis://", "redis+cluster://"))
    assert "it is a server of its own: use redis:// for the URL" in said


async def test_a_wrong_password(moving: Cluster):
    for node in moving.nodes:
        node.client().config_set("requirepass", "right")
    said = await refused(moving.url.replace("://", "://:secret@"))
    assert said.count("it refused the credentials") == 3


async def test_a_node_by_the_url_of_a_single_server(cluster: Cluster, make_queue: MakeQueue):
    _, other = owner_and_other(cluster)
    queue = make_queue(other.url())
    with pytest.raises(RefusedError, match=r"MOVED.*use redis\+cluster://"):
        await queue.enqueue("f")
