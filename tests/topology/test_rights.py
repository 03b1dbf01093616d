"""A user of the server with the documented rights, and with all of them but one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from saq.errors import ServerError
from saq.queue.redis import RedisQueue, UnreachableError
from saq.queue.redis.rights import RIGHTS
from saq.queue.redis.scripts import load
from tests.conftest import SERVER_KIND
from tests.servers import Server
from tests.topology.conftest import MakeQueue
from tests.topology.operations import use_by_hand, work_and_wait
from tests.topology.servers import Cluster, Watched
from tests.worker.support import took, until

ROOT = Path(__file__).parents[2]
#: Without these, nothing is refused but a part of what one may ask.
OPTIONAL = ("+client|unblock", "+config|get", "+info")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with Server(SERVER_KIND) as server:
        yield server


def allow(server: Server, *rights: str) -> str:
    """The address for a user with these rights and no others."""
    server.flush()
    server.client().script_flush()
    server.client().execute_command("ACL", "LOG", "RESET")
    server.client().execute_command("ACL", "SETUSER", "bob", "reset", "on", ">secret", *rights)
    return server.url().replace("redis://", "redis://bob:secret@")


def test_the_documented_rights_are_these():
    text = (ROOT / "docs/deployment.md").read_text()
    _, listed = re.findall(r"ACL SETUSER saq on '>[^']*' (.*?)\n```", text, re.DOTALL)
    assert listed.replace("\\\n", " ").replace("'", "").split() == list(RIGHTS)


def test_they_are_all_that_the_scripts_call():
    called = set()
    for script in (ROOT / "saq/queue/redis/lua").glob("*.lua"):
        called |= set(re.findall(r"call\('([A-Z]+)'", load(script.stem).source))
    listed = {right[1:].upper() for right in RIGHTS if right.startswith("+")}
    assert called <= listed


async def test_they_are_enough(guarded: Server, make_queue: MakeQueue):
    url = allow(guarded, *RIGHTS)
    await use_by_hand(lambda: make_queue(url))
    await work_and_wait(lambda: make_queue(url))
    raw = guarded.client(protocol=2)
    raw.response_callbacks.clear()  # redis-py has an idea of its own of what comes
    log = cast("list[list[bytes]]", raw.execute_command("ACL", "LOG"))
    refused = {entry[entry.index(b"object") + 1].decode().partition("|")[0] for entry in log}
    assert refused <= {"client", "config", "info"}, "CLIENT SETINFO is redis-py's own, and not missed"


@pytest.mark.parametrize("right", [right for right in RIGHTS if right != "resetchannels"])
async def test_without_one_of_them_it_is_named(
    right: str, guarded: Server, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
):
    """By a worker as it starts, before it has changed anything, and by what needs it."""
    monkeypatch.setattr("saq.queue.redis.inbox.PATIENCE", 0.5)
    url = allow(guarded, *(other for other in RIGHTS if other != right))
    # Redis before 7 does not say which subcommand.
    named = re.escape(right) if right != "+client|setname" else r"\+client"
    if right != "+subscribe":
        with pytest.raises(ServerError, match=named) as refused:
            await make_queue(url).check()
        assert "ACL SETUSER" in str(refused.value)
        assert not guarded.client().dbsize(), "and nothing was changed"
    with pytest.raises(ServerError, match=named) as refused:
        await everything(make_queue, url)
    assert "ACL SETUSER" in str(refused.value)
    assert "secret" not in str(refused.value)


async def everything(make_queue: MakeQueue, url: str) -> None:
    queues: list[RedisQueue] = []

    def make() -> RedisQueue:
        queues.append(make_queue(url))
        return queues[-1]

    await use_by_hand(make)
    await work_and_wait(make)


@pytest.mark.parametrize("may_unblock", [True, False])
async def test_a_wait_that_is_given_up_holds_nothing_up(
    may_unblock: bool, guarded: Server, make_queue: MakeQueue
):
    more = ["+client|unblock"] if may_unblock else []
    queue = make_queue(allow(guarded, *RIGHTS, *more))
    blocked = partial(blocked_clients, guarded)
    async with took(at_most=3):
        assert await queue.dequeue(0.05) is None
        await until(lambda: blocked() == 0)
        waiting = asyncio.create_task(queue.dequeue(10))
        await until(lambda: blocked() == 1)
        assert await queue.enqueue("f")
        assert await waiting is not None


def blocked_clients(server: Server) -> int:
    return int(server.client().info("clients")["blocked_clients"])


async def test_what_one_can_do_without(guarded: Server, make_queue: MakeQueue):
    assert await make_queue(allow(guarded, *RIGHTS)).check() == []
    (said,) = await make_queue(allow(guarded, *RIGHTS, *OPTIONAL)).check()
    assert "appendonly" in said


# -- more than one server -----------------------------------------------------------------------------------

#: Of a user of the sentinels.
OF_SENTINELS = ("+sentinel", "+client|setname", "+subscribe", "+ping", "resetchannels", "&+switch-master")


def allow_on(servers: Iterable[Server], user: str, *rights: str) -> None:
    for server in servers:
        raw = server.client(password=server.options.get("requirepass"))
        raw.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", *rights)


async def test_sentinels_and_their_servers(watched: Watched, make_queue: MakeQueue):
    allow_on([watched.primary], "bob", *RIGHTS)
    allow_on(watched.sentinels, "guard", *OF_SENTINELS)
    url = (
        f"redis+sentinel://bob:secret@{watched.hosts}/{watched.service}"
        "?sentinel_username=guard&sentinel_password=secret"
    )
    await use_by_hand(lambda: make_queue(url))
    await work_and_wait(lambda: make_queue(url))
    queue = make_queue(url)
    await queue.connect()
    await until(lambda: sum(len(subscribers(one)) for one in watched.sentinels) >= 1)
    allow_on(watched.sentinels, "guard", *OF_SENTINELS, "-sentinel")
    with pytest.raises(
        UnreachableError, match=r"lacks that right: `ACL SETUSER <user> \+sentinel"
    ) as refused:
        await make_queue(url).enqueue("f")
    assert "secret" not in str(refused.value)


def subscribers(sentinel: Server) -> list[str]:
    clients = sentinel.client().client_list()
    return [client["name"] for client in clients if client["sub"] == "1" and client["name"] == "saq-sentinel"]


async def test_a_cluster(cluster: Cluster, make_queue: MakeQueue):
    url = cluster.url.replace("://", "://bob:secret@")
    allow_on(cluster.nodes, "bob", *RIGHTS, "+cluster|slots")
    await use_by_hand(lambda: make_queue(url))
    await work_and_wait(lambda: make_queue(url))
    allow_on(cluster.nodes, "bob", *RIGHTS)
    with pytest.raises(UnreachableError, match=r"lacks that right: `ACL SETUSER <user> \+cluster"):
        await make_queue(url).enqueue("f")
