"""The sidecar: the parent of one embedded server, from its start to its end.

A program of its own, run as ``python -I -S sidecar.py DIRECTORY SOCKET PROGRAM LOCK`` where LOCK
is an inherited descriptor that holds ``keeper.lock``. Owns the server process: starts it,
starts it again when it dies, stops it when nobody holds ``users.lock``, tidies up. Must import
nothing but a few modules of the standard library, as it lives as long as the server does, and
speaks no Redis except one word of good-bye. See the package's docstring for the locks.

It ignores SIGTERM, SIGINT and SIGHUP: it ends with the last user and not before. When a whole
group of processes is told to stop (a service manager does that), the server goes down as well;
it is up again at once, so that the workers can finish and settle their jobs, and goes away
with the last of them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False  # For type checkers it is true; importing typing would cost a megabyte.
if TYPE_CHECKING:
    from typing import NoReturn

# How long a server may take to stop (it flushes its append-only file) before it is killed.
STOP_SECONDS = 20.0
KILL_SECONDS = 5.0

# A server that dies this soon again and again is given up; the next ensure() tells the reason.
SHORT_LIFE_SECONDS = 5.0
SHORT_LIVES = 5

# What keeper.lock says after a sidecar that ended by its own decision; server.py reads it.
GAVE_UP = b"gave up\n"

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TO_DEFAULT = (*_IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


def options(directory: str, socket_path: str) -> list[str]:
    """The server's whole configuration."""
    settings = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": directory,
        "daemonize": "no",
        "logfile": "",  # To our standard output, which is the log: nothing gets lost early.
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Plain commands rather than a snapshot, whose format differs: what Valkey 9 wrote,
        # Redis 7 can read, when PATH has another server the next time.
        "aof-use-rdb-preamble": "no",
        "maxmemory-policy": "noeviction",
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def log(text: str) -> None:
    """To standard error, which is the log file that the server writes to as well."""
    stamp = time.strftime("%d %b %Y %H:%M:%S")
    try:
        print(f"{os.getpid()}:sidecar {stamp} {text}", file=sys.stderr, flush=True)
    except OSError:
        pass  # A full disk must not end the one who watches.


def note(descriptor: int, text: bytes) -> None:
    os.ftruncate(descriptor, 0)
    try:
        os.pwrite(descriptor, text, 0)
    except OSError as error:
        # A full disk. All that depends on it is what another sidecar, if we were killed, knows.
        log(f"cannot note {text!r}: {error}")


class Sidecar:
    """Two threads, one for each thing to wait for: an end of the server, an end of its use."""

    def __init__(self, directory: str, socket_path: str, program: str, keeper: int) -> None:
        self.directory = directory
        self.socket_path = socket_path
        self.program = program
        self.keeper = keeper
        # All files are opened through it: if the directory is removed and made again while we
        # run, the new one has other users, another sidecar and another server.
        self.folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        # Guards ``stopping`` against a server being started: once it is set, none is.
        self.guard = threading.Lock()
        self.stopping = threading.Event()
        self.gone = threading.Event()
        # Pid and session of the server that we started, if we did.
        self.server: tuple[int, int] | None = None

    def run(self) -> None:
        """Returns when nobody uses the server any more and it has ended."""
        threading.Thread(target=self._supervise_or_die, daemon=True).start()
        # An open file of our own: one that a user opened would share that user's lock.
        users = self._open("users.lock")
        fcntl.flock(users, fcntl.LOCK_EX)
        # Until this process ends, whoever wants to use the server waits.
        with self.guard:
            self.stopping.set()
        log("nobody uses the server any more")
        self._stop()

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT, 0o600, dir_fd=self.folder)

    def _supervise_or_die(self) -> None:
        try:
            self._supervise()
        except BaseException:
            if self.stopping.is_set():
                self.gone.set()
                return
            import traceback

            traceback.print_exc()
            self._give_up()

    def _supervise(self) -> None:
        short_lives = failures = 0
        while True:
            lock = self._open("server.lock")
            # Blocks for as long as a server lives: ours, one that a sidecar before us left
            # behind, or a process that such a server forked to rewrite its file.
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self.guard:
                if self.stopping.is_set():
                    self.gone.set()
                    return
                first = self.server is None
                started = time.monotonic()
                pid = self._spawn(lock)
            os.close(lock)
            _, status = os.waitpid(pid, 0)
            if self.stopping.is_set():
                continue
            lived = time.monotonic() - started
            code = os.waitstatus_to_exitcode(status)
            log(f"the server, pid {pid}, ended after {lived:.1f} s with {code}")
            short = lived < SHORT_LIFE_SECONDS
            short_lives = short_lives + 1 if short else 0
            failures = failures + 1 if code > 0 else 0
            # A killed server has a negative code. A positive one is its own decision: an option
            # or a file that it does not like, which will not get better by itself.
            if failures > 1 or (failures and first and short) or short_lives >= SHORT_LIVES:
                self._give_up()
            if short_lives > 1:
                time.sleep(0.05 * 2**short_lives)

    def _give_up(self) -> NoReturn:
        """Leaves the server to those who need it: they may try again, and tell the reason.

        A sidecar that does not supervise must not hold the lock that says it does.
        """
        log("giving up")
        note(self.keeper, GAVE_UP)
        os._exit(1)

    def _spawn(self, lock: int) -> int:
        """Starts the server, which inherits ``lock``, and notes its pid and session there."""
        # Emptied first: if we are killed before we can note the pid, there must be none.
        os.ftruncate(lock, 0)
        os.set_inheritable(lock, True)
        pid = os.posix_spawn(
            self.program,
            [self.program, *options(self.directory, self.socket_path)],
            # A server refuses to start in a locale that the system does not have.
            {**os.environ, "LC_ALL": "C"},
            # What we ignore would stay ignored, and a server that ignores SIGCHLD cannot see
            # the end of the process that rewrites its file.
            setsigdef=_TO_DEFAULT,
            setsigmask=(),
        )
        session = os.getsid(0)
        self.server = (pid, session)
        note(lock, b"%d %d\n" % (pid, session))
        log(f"started {self.program}, pid {pid}")
        return pid

    def _stop(self) -> None:
        if not self._is_in_place():
            # Its data are gone. Stopping in good order, it would also remove the socket by its
            # name, and that may be the socket of another server by now.
            log("the directory has been removed: killing the server")
            self._signal(signal.SIGKILL)
            self.gone.wait(KILL_SECONDS)
            return
        if not self._signal(signal.SIGTERM):
            self._say_goodbye()
        if not self.gone.wait(STOP_SECONDS):
            log(f"the server has not stopped for {STOP_SECONDS:.0f} s: killing it")
            self._signal(signal.SIGKILL)
            if not self.gone.wait(KILL_SECONDS):
                log("the server is still there: leaving it to the next user")
                return
        try:
            os.unlink(self.socket_path)
        except FileNotFoundError:
            pass
        folder = os.path.dirname(self.socket_path)
        if folder != self.directory:
            try:
                os.rmdir(folder)
            except OSError:
                pass

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.directory), os.fstat(self.folder))
        except OSError:
            return False

    def _signal(self, number: int) -> bool:
        """Sends a signal to the server, if it is certain which process that is."""
        try:
            pid, session = self.server or self._noted()
            # The number may be used again by now, but never in the same session.
            if os.getsid(pid) != session:
                return False
            os.kill(pid, number)
        except (OSError, ValueError):
            return False
        return True

    def _noted(self) -> tuple[int, int]:
        """What the sidecar before us noted about the server that it left behind."""
        with open(self._open("server.lock"), "rb") as file:
            pid, session = map(int, file.read().split())
        return pid, session

    def _say_goodbye(self) -> None:
        """Asks the server to stop, where the way by its pid is closed."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(KILL_SECONDS)
            try:
                connection.connect(self.socket_path)
                connection.sendall(b"SHUTDOWN\r\n")
                connection.recv(100)
            except OSError:
                pass  # Gone already, or it ended without an answer, as it should.


def main(arguments: list[str]) -> None:
    directory, socket_path, program, descriptor = arguments
    # The one who started us waits for this process and gets no child that it has to reap.
    if os.fork():
        os._exit(0)
    os.setsid()
    lock = int(descriptor)
    # The server must not inherit it: it would look as if a sidecar were there.
    os.set_inheritable(lock, False)
    note(lock, b"%d\n" % os.getpid())
    # Both are inherited through exec, so they are whatever the user's thread had.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    Sidecar(directory, socket_path, program, lock).run()
    # In this order: whoever gets in as a user must find that there is no sidecar.
    os.close(lock)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
