"""The use of an embedded server: joining those who use it, starting it, leaving.

Owns the locks of this process on the directories of its servers, one open file per server
however many handles there are, and the start of a sidecar where there is none. Must not stop a
server or send it a signal: that is the sidecar's. See the package's docstring for the locks.

Everything here is synchronous and needs no event loop; ``ensure`` takes a millisecond when the
server runs and some 50 when it has to be started.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from saq.errors import EmbeddedServerError
from saq.queue.embedded import binary, place

KEEPER_LOCK = "keeper.lock"
LOG = "server.log"

_SUPPORTED = os.name == "posix"
_SIDECAR = Path(__file__).with_name("sidecar.py")
_LOG_BYTES = 1 << 20
_PROBE_SECONDS = 1.0
_POLL_SECONDS = 0.005


class EmbeddedServer:
    """One use of an embedded server, from ``start`` to ``close``, and again if you like.

    To make one starts nothing: where the server is, or will be, is known from the URL alone.
    """

    def __init__(self, url: str) -> None:
        self.directory: Path = place.directory_of(url)
        if not _SUPPORTED:
            raise EmbeddedServerError(
                "the embedded server needs unix sockets and file locks, which this system does "
                "not have: start a Redis or Valkey server elsewhere (on Windows, in WSL or "
                "Docker) and give its redis:// URL"
            )
        self._socket_path: Path | None = None
        self._use: _Use | None = None
        self._answer: _Answer | None = None

    def start(self, timeout: float = 30.0) -> Self:
        """Uses the server, and starts it if it does not run.

        ``timeout`` is for how long, in seconds, it may neither answer nor be loading its data.
        Called again, it only makes sure that the server is there. Any thread may call it.
        """
        deadline = time.monotonic() + timeout
        with _guard:
            before = use = self._use
            try:
                if use is None or not use.is_in_place():
                    use = _Use.join(self.directory, deadline)
                self._answer = use.find_or_start(timeout)
            except BaseException as error:
                if use is not None and use is not before:
                    use.release()
                if isinstance(error, OSError):
                    raise EmbeddedServerError(
                        f"the embedded server in {self.directory} cannot be used: {error}"
                    ) from error
                raise
            if before is not None and before is not use:
                before.release()
            self._use = use
            self._socket_path = use.socket_path
        return self

    def close(self) -> None:
        """Ends this use. The server ends soon after the last use of the last process."""
        with _guard:
            use, self._use = self._use, None
            if use is not None:
                use.release()

    @property
    def socket_path(self) -> Path:
        if self._socket_path is None:
            self._socket_path = place.socket_of(self.directory)
        return self._socket_path

    @property
    def redis_url(self) -> str:
        """For ``Redis.from_url``. Stays the same if the server is started again."""
        return "unix://" + quote(os.fsencode(self.socket_path))

    @property
    def server_binary(self) -> Path:
        """The program that ran when ``start`` was last called."""
        return self._known().program

    @property
    def pid(self) -> int:
        """The server's process when ``start`` was last called; another one after a crash."""
        return self._known().pid

    def _known(self) -> _Answer:
        if self._answer is None:
            raise EmbeddedServerError(
                f"the embedded server in {self.directory} has not been asked: call start() first"
            )
        return self._answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "not in use" if self._use is None else f"pid {self.pid}"
        return f"<EmbeddedServer {self.directory} ({state})>"


def ensure(url: str, *, timeout: float = 30.0) -> EmbeddedServer:
    """Finds or starts the server that ``url`` names. Close what it returns."""
    return EmbeddedServer(url).start(timeout)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server says about itself."""

    program: Path
    pid: int
    loading: bool


class _Use:
    """This process's shared lock on one directory, for all its handles there."""

    def __init__(self, directory: Path, socket_path: Path, users: int) -> None:
        self.directory = directory
        self.socket_path = socket_path
        self.users = users
        self.count = 0

    @classmethod
    def join(cls, directory: Path, deadline: float) -> _Use:
        """Takes part in the use of a directory. Waits while its server is being stopped."""
        place.prepare(directory)
        use = _uses.get(directory)
        if use is None or not use.is_in_place():
            # If there is one, its directory was removed and made again. Its handles keep it.
            socket_path = place.socket_of(directory)
            use = cls(directory, socket_path, _join_users(directory, deadline))
            _uses[directory] = use
        use.count += 1
        return use

    def is_in_place(self) -> bool:
        """Whether the directory is still the one that was joined."""
        return _is_at(self.users, self.directory / place.USERS_LOCK)

    def release(self) -> None:
        self.count -= 1
        if self.count:
            return
        with contextlib.suppress(OSError, EmbeddedServerError):
            self.leave_a_sidecar()
        if _uses.get(self.directory) is self:
            del _uses[self.directory]
        # Closed, never unlocked: a forked child that has a copy goes on using the server.
        os.close(self.users)

    def find_or_start(self, timeout: float) -> _Answer:
        """Waits until a sidecar and a server are there; starts them if nobody has."""
        # Here, as it needs fcntl: on Windows this module can at least be imported.
        from saq.queue.embedded.sidecar import GAVE_UP

        self.socket_path = place.socket_of(self.directory)
        deadline = time.monotonic() + timeout
        log_offset: int | None = None
        while True:
            keeper = _try_lock(self.directory / KEEPER_LOCK)
            if keeper is not None:
                try:
                    # If it was killed rather than giving up, another one may fare better.
                    if log_offset is not None and os.pread(keeper, 100, 0) == GAVE_UP:
                        raise EmbeddedServerError(
                            f"the embedded server in {self.directory} could not be started"
                            + self.last_words(log_offset)
                        )
                    log_offset = self.start_sidecar(keeper)
                finally:
                    # The sidecar has it now, or nobody has.
                    os.close(keeper)
            answer = _ask(self.socket_path)
            if answer is not None and not answer.loading:
                return answer
            if answer is not None:  # Loading: that may take its time, but it gets on.
                deadline = time.monotonic() + timeout
            elif time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded server in {self.directory} has not answered for {timeout:g} s "
                    f"at {self.socket_path}" + self.last_words(log_offset)
                )
            time.sleep(_POLL_SECONDS)

    def leave_a_sidecar(self) -> None:
        """If the sidecar was killed, nobody would stop the server after us: start another."""
        if not self.is_in_place():
            return  # The directory was removed: a server there is not the one we used.
        keeper = _try_lock(self.directory / KEEPER_LOCK)
        if keeper is None:
            return
        try:
            if _ask(self.socket_path) is not None:
                self.start_sidecar(keeper)
        finally:
            os.close(keeper)

    def start_sidecar(self, keeper: int) -> int:
        """Starts the sidecar, which inherits ``keeper``; returns where its log begins."""
        left_behind = _ask(self.socket_path)
        if left_behind is not None and os.access(left_behind.program, os.X_OK):
            # The sidecar was killed and its server lives: no need for another program.
            program = left_behind.program
        else:
            program = binary.find(self.directory)
        place.prepare_socket(self.socket_path, self.directory)
        os.ftruncate(keeper, 0)  # What the sidecar before said does not count any more.
        path = self.directory / LOG
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_BYTES:
                path.replace(self.directory / f"{LOG}.old")
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            offset = os.fstat(log).st_size
            # It forks at once and this process ends: the sidecar is not our child. Its own
            # session, so that Ctrl-C in our terminal does not reach it.
            command = [_python(), "-I", "-S", str(_SIDECAR), str(self.directory)]
            with subprocess.Popen(
                [*command, str(self.socket_path), str(program), str(keeper)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                pass_fds=(keeper,),
                start_new_session=True,
            ) as process:
                failed = process.wait()
        finally:
            os.close(log)
        if failed:
            raise EmbeddedServerError(
                f"the sidecar of the embedded server in {self.directory} could not be started"
                + self.last_words(offset)
            )
        return offset

    def last_words(self, offset: int | None) -> str:
        """The end of the log, from ``offset`` on, to be shown in an error."""
        path = self.directory / LOG
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(offset or 0, size - 8192))
                lines = file.read().decode(errors="replace").splitlines()[-15:]
        except OSError as error:
            return f"; its log cannot be read: {error}"
        if not lines:
            return f"; its log, {path}, says nothing about it"
        return f". The end of its log, {path}:\n" + "\n".join(f"  {line}" for line in lines)


def _ask(socket_path: Path) -> _Answer | None:
    """What the server at this socket says, or None if there is none or it says nothing."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PROBE_SECONDS)
            connection.connect(os.fsencode(socket_path))
            # A loading server answers the first with an error, but the second it answers.
            connection.sendall(b"PING\r\nINFO server\r\n")
            reader = connection.makefile("rb")
            with reader:
                ping = reader.readline()
                header = reader.readline()
                if not header.startswith(b"$"):
                    return None
                body = reader.read(int(header[1:]))
    except OSError:
        return None
    fields = dict(line.split(b":", 1) for line in body.splitlines() if b":" in line)
    try:
        return _Answer(
            program=Path(os.fsdecode(fields[b"executable"])),
            pid=int(fields[b"process_id"]),
            loading=ping.startswith(b"-LOADING"),
        )
    except (KeyError, ValueError):
        return None  # Cut off in the middle: it is ending.


def _join_users(directory: Path, deadline: float) -> int:
    path = directory / place.USERS_LOCK
    while True:
        users = _try_lock(path, shared=True)
        if users is not None:
            if _is_at(users, path):
                return users
            # Removed, with its directory, between opening and locking: nobody else looks at it.
            os.close(users)
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded server in {directory} is being stopped and does not end; look "
                f"into {directory / LOG} and, if it hangs, kill it"
            )
        time.sleep(_POLL_SECONDS)


def _try_lock(path: Path, *, shared: bool = False) -> int | None:
    """An open, locked descriptor, or None if somebody else has a lock that is in the way."""
    import fcntl  # Not on Windows.

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedServerError(f"cannot open {path}: {error}") from error
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise EmbeddedServerError(
            f"cannot lock {path}: {error}; the directory must be on a local file system"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _python() -> str:
    """An interpreter for the sidecar, which needs nothing but the standard library."""
    if sys.executable and not getattr(sys, "frozen", False):
        return sys.executable
    # In a frozen application sys.executable is the application: it would start itself.
    found = shutil.which("python3")
    if found is None:
        raise EmbeddedServerError(
            "the embedded server needs a Python interpreter for its sidecar, and there is no python3 on PATH"
        )
    return found


# One at a time, threads and forks alike: a child forked between the taking of a lock and its
# handing over would hold a copy of it for as long as it lives.
_guard = threading.RLock()
_uses: dict[Path, _Use] = {}


def _leave_sidecars() -> None:
    with _guard:
        for use in list(_uses.values()):
            with contextlib.suppress(OSError, EmbeddedServerError):
                use.leave_a_sidecar()


if _SUPPORTED:
    os.register_at_fork(
        before=_guard.acquire,
        after_in_parent=_guard.release,
        after_in_child=_guard.release,
    )
atexit.register(_leave_sidecars)
