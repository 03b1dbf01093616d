"""What a URL may say, and what is said of one that cannot be right. No password is ever shown."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis

from saq.errors import InvalidUrlError, UsageError
from saq.queue.base import Queue
from saq.queue.redis import RedisQueue, UnreachableError
from tests.conftest import MakeServer
from tests.topology.conftest import MakeQueue
from tests.topology.operations import use_by_hand, work_and_wait


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://host", "redis://host:6379/0"),
        ("valkey://host:1/2", "redis://host:1/2"),
        ("redis://host?db=3", "redis://host:6379/3"),
        ("redis://[::1]:7/1", "redis://[::1]:7/1"),
        ("rediss://host:1", "rediss://host:1/0"),
        ("valkeys://host:1", "rediss://host:1/0"),
        ("unix:///a/b.sock", "unix:///a/b.sock"),
        ("unix://user:secret@/a/b.sock?db=2", "unix:///a/b.sock"),
        ("redis+sentinel://host/jobs", "redis+sentinel://host:26379/jobs"),
        ("redis+sentinel://a:1,b,[::1]:3/jobs/4", "redis+sentinel://a:1,b:26379,[::1]:3/jobs"),
        ("valkey+sentinel://:secret@a:1/jobs?sentinel_password=secret", "redis+sentinel://a:1/jobs"),
        ("rediss+sentinel://a:1/my%2Fjobs", "rediss+sentinel://a:1/my/jobs"),
        ("redis+cluster://127.0.0.1", "redis+cluster://127.0.0.1:6379"),
        ("redis+cluster://user:secret@127.0.0.1:1,127.0.0.2:2/0", "redis+cluster://127.0.0.1:1,127.0.0.2:2"),
        ("valkeys+cluster://127.0.0.1:1", "rediss+cluster://127.0.0.1:1"),
    ],
)
def test_where_a_url_leads(url: str, address: str):
    assert repr(Queue.from_url(url)) == f"RedisQueue<{address}, name: 'default'>"


def test_who_is_who():
    """The servers have their users, and the sentinels theirs."""
    link: Any = RedisQueue.from_url(
        "rediss+sentinel://bob:b%40b@a:1/jobs/2?sentinel_username=guard&sentinel_password=g%2Fg"
        "&ssl_ca_certs=/ca.pem&socket_connect_timeout=7"
    )._link
    ours, theirs = link._settings, link._sentinels["a:1"]._settings
    assert (ours["username"], ours["password"], ours["db"]) == ("bob", "b@b", 2)
    assert (theirs["username"], theirs["password"]) == ("guard", "g/g")
    assert "db" not in theirs or not theirs["db"]
    for settings in (ours, theirs):
        assert settings["ssl_ca_certs"] == "/ca.pem"
        assert settings["socket_connect_timeout"] == 7
    assert link.speaks_tls
    assert link._sentinels["a:1"].speaks_tls
    link = RedisQueue.from_url("redis+sentinel://bob:secret@a:1/jobs")._link
    settings = link._sentinels["a:1"]._settings
    assert not settings.get("username")
    assert not settings.get("password")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redsi://:secret@host", "no backend goes by the URL 'redsi://***@host': use redis://"),
        ("://user:secret@host", "no backend"),
        ("user:secret@host:6379", "no backend goes by the URL '***@host:6379'"),
        ("redis+cluster:secret@host", "no backend"),
        ("http://host/?password=secret", "no backend goes by the URL 'http://host/?password=***'"),
        ("redis+sentinels://host/jobs", "no backend"),
        ("unix+cluster:///a", "no backend"),
        ("redis://:sec#ret@host", "its parts cannot be told apart"),
        ("redis://:secret@host:port", "A port is a number"),
        ("redis://:secret@host:1,other:2", "sentinels go by redis+sentinel://"),
        ("redis://host/one", "names the database 'one': it is a number"),
        ("redis://host?socket_timeout=soon", "the option socket_timeout"),
        ("redis://:secret@host?sokcet_timeout=1", "the option sokcet_timeout does not exist there"),
        ("redis://host?ssl_ca_certs=/ca.pem", "the option ssl_ca_certs does not exist there"),
        ("unix://", "names no socket"),
        ("redis+sentinel://:secret@a:1,b:2", "names no service"),
        ("redis+sentinel://:secret@a:1/", "redis+sentinel://host:port,host:port/service"),
        ("redis+sentinel://:secret@a:1,:2/jobs", "names ':2' where host:port was expected"),
        ("redis+sentinel://:secret@/jobs", "names '' where host:port was expected"),
        ("redis+sentinel://a:1/jobs/one", "names the database 'one'"),
        ("redis+sentinel://a:1/jobs?sentinel_nothing=1", "the option nothing"),
        ("redis+cluster://:secret@127.0.0.1:1/1", "names a database: a Cluster has none but 0"),
        ("redis+cluster://127.0.0.1:1?db=1", "a Cluster has none but 0"),
        ("redis+cluster://127.0.0.1:one", "names '127.0.0.1:one' where host:port was expected"),
        ("redis+cluster://127.0.0.1?nothing=1", "the option nothing does not exist there"),
    ],
)
def test_what_is_said_of_a_url_that_cannot_be_right(url: str, says: str):
    with pytest.raises(InvalidUrlError) as refused:
        Queue.from_url(url)
    assert says in str(refused.value)
    shown = "".join(traceback.format_exception(refused.value, limit=0))
    assert "secret" not in shown
    assert "sec" not in shown.replace("seconds", "")


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (redis.Redis(), "a client of redis.asyncio, this one is of redis.client.Redis"),
        ("redis://localhost", "got builtins.str"),
        (None, "got builtins.NoneType"),
    ],
)
def test_what_is_said_of_another_client(client: Any, says: str):
    with pytest.raises(UsageError, match=says):
        RedisQueue(client)


# -- unix sockets -------------------------------------------------------------------------------------------


async def test_everything_works_by_a_socket(make_server: MakeServer, make_queue: MakeQueue):
    server = make_server(tcp=False, unix=True, requirepass="s/e@c")
    await work_and_wait(lambda: make_queue(server.url()))
    await use_by_hand(lambda: make_queue(server.url(db=3)))
    queue = RedisQueue(aioredis.Redis(unix_socket_path=str(server.socket), password="s/e@c"))
    assert await queue.enqueue("f")
    assert repr(queue) == f"RedisQueue<unix://{server.socket}, name: 'default'>"
    await queue.disconnect()


async def test_a_socket_that_is_not_there(make_queue: MakeQueue):
    with pytest.raises(
        UnreachableError, match=r"unix:///nowhere/sock.*No such file.*Is a server running there"
    ):
        await make_queue("unix:///nowhere/sock").enqueue("f")
