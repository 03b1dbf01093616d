"""The servers the tests stand on: each life they can have, on the kind that is chosen."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.conftest import SERVER_KIND
from tests.servers import Server, ServerFailed, ServerNotFound, find_server, server_version

MakeServer = Callable[..., Server]


def test_it_answers_and_goes_away_with_its_directory():
    with Server(SERVER_KIND) as server:
        assert server.client().ping()
        assert server.running
        process, home = psutil.Process(server.pid), server.home
    assert not server.running
    assert not process.is_running()
    assert not home.exists()


def test_port_and_socket_reach_the_same_server(make_server: MakeServer):
    server = make_server(unix=True)
    server.client(db=3).set("a", 1)
    with redis.Redis.from_url(server.url(3, unix=True)) as client:
        assert client.get("a") == b"1"


def test_a_socket_alone(make_server: MakeServer):
    server = make_server(unix=True, tcp=False)
    assert server.url().startswith("unix://")
    assert server.client().ping()


def test_options_reach_it(make_server: MakeServer):
    server = make_server(maxmemory_policy="noeviction", maxmemory="3mb", save=[60, 1])
    found = server.client(decode_responses=True).config_get("*")
    assert found["maxmemory"] == str(3 * 1024 * 1024)
    assert found["maxmemory-policy"] == "noeviction"
    assert found["save"] == "60 1"


def test_a_password_is_in_its_address(make_server: MakeServer):
    server = make_server(requirepass="p@ss/word", unix=True)
    assert server.client().ping()
    with redis.Redis.from_url(server.url(unix=True)) as client:
        assert client.ping()


def test_killed_and_started_again_it_keeps_place_and_data(make_server: MakeServer):
    server = make_server(appendonly="yes", appendfsync="always")
    url, pid = server.url(), server.pid
    server.client().set("a", 1)
    server.kill()
    assert not server.running
    with pytest.raises(ServerFailed):
        server.pid  # noqa: B018
    server.start()
    assert server.url() == url
    assert server.pid != pid
    assert server.client().get("a") == b"1"


def test_stopped_and_started_again_without_persistence_it_is_empty(make_server: MakeServer):
    server = make_server()
    server.client().set("a", 1)
    server.stop()
    server.stop()
    server.start()
    assert server.client().get("a") is None


def test_paused_it_does_not_answer_until_it_is_resumed(make_server: MakeServer):
    server = make_server()
    client = server.client(socket_timeout=0.1, retry=None)
    client.ping()
    server.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    assert client.ping()


def test_paused_it_can_be_stopped_and_killed(make_server: MakeServer):
    for end in (Server.stop, Server.kill):
        server = make_server()
        server.pause()
        end(server)
        assert not server.running


def test_one_that_cannot_start_says_why():
    server = Server(SERVER_KIND, maxmemory="much")
    home = server.home
    with pytest.raises(ServerFailed, match="maxmemory"), server:
        pass
    assert not home.exists()


def test_a_taken_port_is_replaced_by_another(make_server: MakeServer):
    first = make_server()
    second = Server(SERVER_KIND)
    second.port = first.port
    with second:
        assert second.port != first.port
        assert second.client().ping()


def test_the_shared_one_is_empty(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_the_shared_one_is_empty_again(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can await a strange process")
def test_it_does_not_outlive_a_killed_test_run():
    script = f"""
import sys
from tests.servers import Server
server = Server({SERVER_KIND!r}, unix=True).start()
print(server.pid, server.home, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as child:
        assert child.stdout is not None
        home = child.stdout.readline().split()[1]
        # The server, and the guard, whose last act is to remove the directory.
        ends = [os.pidfd_open(process.pid) for process in psutil.Process(child.pid).children()]
        assert len(ends) == 2
        child.kill()
    for end in ends:
        assert select.select([end], [], [], 10) == ([end], [], [])
        os.close(end)
    assert not os.path.exists(home)


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerNotFound, match="PATH"):
        find_server("path")
    with pytest.raises(ServerNotFound, match="embedded"):
        find_server("nonsense")
    with pytest.raises(ServerNotFound, match="no-such-server"):
        find_server(str(tmp_path / "no-such-server"))


def test_a_server_on_path_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "redis-server").symlink_to(find_server(SERVER_KIND))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server("path") == tmp_path / "redis-server"


def test_the_version_is_read_from_the_binary():
    name, number = server_version(find_server(SERVER_KIND)).split()
    assert name in ("Redis", "Valkey")
    assert tuple(map(int, number.split("."))) >= (6, 2)
