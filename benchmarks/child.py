"""A contender's process, seen from the harness.

Owns starting it, the lines exchanged with it, what it weighs, and ending it with all that it has forked. Must
not know what the lines mean.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.environments import Environment
from benchmarks.registry import Arm
from benchmarks.workloads import CPU_ROUNDS, SEED

_PROC = Path("/proc")


class ChildFailed(Exception):
    """The process ended, said something wrong or nothing at all. The message ends with its last words."""


class Child:
    """A worker or a client of an arm, in a process of its own."""

    def __init__(self, role: str, arm: Arm, environment: Environment, url: str, **config: Any) -> None:
        self.role = role
        self.arm = arm
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._rest = b""
        said = {"url": url, "options": arm.options, "seed": SEED, "cpu_rounds": CPU_ROUNDS, **config}
        self._process = subprocess.Popen(
            [*environment.command, str(arm.contender.adapter), role, json.dumps(said)],
            env=os.environ | environment.env | arm.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def send(self, **what: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ChildFailed(self._story("is gone")) from error

    def read(self, timeout: float) -> dict[str, Any]:
        """The next line that it says."""
        said = self.poll(timeout)
        if said is None:
            raise ChildFailed(self._story(f"said nothing for {timeout:.0f} s"))
        return said

    def poll(self, timeout: float) -> dict[str, Any] | None:
        """The next line, or None if there is none in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise ChildFailed(self._story("has ended"))
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def expect(self, event: str, timeout: float) -> dict[str, Any]:
        """The next line, which has to be of this kind."""
        said = self.read(timeout)
        if said.get("event") != event:
            raise ChildFailed(self._story(f"said {said} instead of {event!r}"))
        if "error" in said:
            raise ChildFailed(self._story(said["error"]))
        return said

    def ask(self, patience: float, do: str, **arguments: Any) -> dict[str, Any]:
        """Has a client carry out a command, which may take so many seconds."""
        self.send(do=do, **arguments)
        return self.expect("answer", patience)

    def ask_report(self, timeout: float) -> dict[str, Any]:
        """Has a worker tell what has run."""
        self.send(do="report")
        return self.expect("report", timeout)

    def memory(self) -> int:
        """Bytes that it and its children occupy, what they share counted once."""
        return sum(map(_memory, [self._process.pid, *_descendants(self._process.pid)]))

    def kill(self) -> None:
        """Ends it, and all it has forked, at once."""
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        self._errors.close()

    def _story(self, what: str) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 1500))
        words = self._errors.read().decode(errors="replace").strip()
        return f"the {self.role} of {self.arm.name} {what}" + (f"\n{words}" if words else "")


def _descendants(pid: int) -> list[int]:
    """The children of a process, and theirs; on Linux."""
    try:
        lists = (_PROC / str(pid) / "task").glob("*/children")
        children = [int(child) for path in lists for child in path.read_text().split()]
    except OSError:
        return []
    return [below for child in children for below in (child, *_descendants(child))]


def _memory(pid: int) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout
        return int(said or 0) * 1024
    except (OSError, ValueError):
        return 0
