"""The server that the contenders share, one after the other.

Owns what is asked of Redis itself: its processor time, its counters, its memory, who is connected, and how
many jobs of a contender are not finished. Processes and directories of servers are those of
`tests/servers.py`.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.registry import Contender
from tests.servers import Server, find_server, server_version

PROXY = Path(__file__).parent / "proxy.py"
#: Nothing is written to disk: every contender gets the same, and the disk is not what is measured.
OPTIONS: dict[str, Any] = {"save": "", "appendonly": "no"}


class Reading(NamedTuple):
    """What the server has counted so far."""

    cpu: float
    commands: int
    received: int
    sent: int
    memory: int

    def since(self, before: Reading) -> dict[str, float]:
        """The differences, as they stand in a sample."""
        return {name: getattr(self, name) - getattr(before, name) for name in self._fields}


class Target:
    """A private server, and a connection for asking it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.binary = find_server(kind)
        self.version = server_version(self.binary)
        self.server = Server(kind, **OPTIONS)

    def __enter__(self) -> Target:
        self.server.__enter__()
        self._client = self.server.client()
        self._functions = int(str(self._client.info("server")["redis_version"]).split(".")[0]) >= 7
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @property
    def url(self) -> str:
        return self.server.url()

    def flush(self, scripts: bool = True) -> None:
        """Forgets everything; scripts and functions as well, unless a client that is there relies on them."""
        # Valkey frees in the background otherwise, and the next reading would show what is still to be freed.
        self._do("FLUSHALL SYNC")
        if scripts:
            self._do("SCRIPT FLUSH SYNC")
        if scripts and self._functions:
            self._do("FUNCTION FLUSH SYNC")
        self._do("MEMORY PURGE")

    def read(self) -> Reading:
        """The counters. Asking adds a few kilobytes sent."""
        info = self._client.info("all")
        user = info.get("used_cpu_user_main_thread", info["used_cpu_user"])
        system = info.get("used_cpu_sys_main_thread", info["used_cpu_sys"])
        return Reading(
            cpu=float(user) + float(system),
            commands=int(info["total_commands_processed"]),
            received=int(info["total_net_input_bytes"]),
            sent=int(info["total_net_output_bytes"]),
            memory=int(info["used_memory"]),
        )

    def connections(self) -> int:
        """Connections of others than the harness."""
        return int(self._client.info("clients")["connected_clients"]) - 1

    def pending(self, contender: Contender) -> int:
        """Jobs of a contender that are not finished."""
        return sum(int(self._do(command)) for command in contender.pending)

    def _do(self, command: str) -> Any:
        words = command.split()
        return self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    def settle(self, contender: Contender, timeout: float) -> int:
        """Asks until no job is pending, without a pause in between; returns the time, in monotonic ns.

        It is asked from the moment at which the last job has run: what is late by this is one round trip.

        Raises:
            TimeoutError: some jobs do not end.
        """
        deadline = time.monotonic() + timeout
        while (left := self.pending(contender)) != 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"all jobs have run, and {left} are not finished after {timeout:.0f} s")
        return time.monotonic_ns()

    @contextlib.contextmanager
    def monitor(self) -> Iterator[Monitor]:
        """Writes down every command that is executed. The server is slower meanwhile."""
        monitor = Monitor(self.server.port)
        try:
            yield monitor
        finally:
            monitor.close()

    @contextlib.contextmanager
    def delayed(self, seconds: float) -> Iterator[str]:
        """The URL of the server behind a network that adds so much to each round trip."""
        process = subprocess.Popen(
            [sys.executable, "-I", str(PROXY), str(self.server.port), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.communicate()

    def facts(self) -> dict[str, Any]:
        """What it is, for a report."""
        return {"kind": self.kind, "version": self.version, "options": OPTIONS}


@dataclass
class Monitor:
    """What MONITOR says, as (when, whether in a script, command)."""

    port: int
    seen: list[tuple[float, bool, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port))
        self._socket.sendall(b"MONITOR\r\n")
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # +1700000000.123456 [0 127.0.0.1:50000] "PING"
        # +1700000000.123456 [0 lua] "GET" "key"
        try:
            for line in self._file:
                words = line[1:].split(b" ", 4)
                if len(words) >= 4:
                    name = words[3].strip().strip(b'"').decode(errors="replace").lower()
                    self.seen.append((float(words[0]), words[2] == b"lua]", name))
        except (OSError, ValueError):
            pass

    def count(self, begin: float, end: float) -> dict[str, Any]:
        """Requests by clients and operations in scripts between two times of the clock on the wall."""
        # The harness asks for the state of things meanwhile; contenders ask for INFO only as they connect.
        here = [
            (inner, name)
            for at, inner, name in self.seen
            if begin <= at <= end and name not in ("info", "monitor")
        ]
        return {
            "requests": sum(not inner for inner, _ in here),
            "operations": len(here),
            "by_name": dict(Counter(name for inner, name in here if not inner).most_common()),
        }

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._file.close()
        self._socket.close()
