"""A process of a run, and how each of its lives ended.

Owns starting, signalling and ending it. Must not judge: what an exit code may be, the verdict knows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

#: In the environment of every process of a run, its folder: what is left over is found by it.
MARK = "SAQ_CHAOS_FOLDER"


class Life(NamedTuple):
    """One life of a process: when it began and ended (wall clock), and its exit code."""

    name: str
    pid: int
    began: float
    ended: float
    code: int


class Process:
    """A process that is started again when it ends.

    Args:
        folder: for its log.
        name: what it is called in the end.
        command: the words after `python -m`.
        environment: what it gets beside our own.
        children: how many processes of its own do its work; 0: it does it itself.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        command: list[str],
        environment: dict[str, str] | None = None,
        children: int = 0,
    ) -> None:
        self.name = name
        self.children = children
        self.lives: list[Life] = []
        self._folder = folder
        self._command = command
        self._environment = {**os.environ, MARK: str(folder), **(environment or {})}
        self._popen: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self.running:
            return
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self._began = time.time()

    @property
    def running(self) -> bool:
        """Whether it runs; if it does not any more, its end is written down."""
        popen = self._popen
        if popen is None:
            return False
        code = popen.poll()
        if code is None:
            return True
        self.lives.append(Life(self.name, popen.pid, self._began, time.time(), code))
        self._popen = None
        return False

    @property
    def pid(self) -> int:
        """Of the process itself; 0 if it does not run."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def ended(self) -> float:
        """When its latest life ended."""
        return self.lives[-1].ended if self.lives else 0.0

    @property
    def code(self) -> int:
        """How its latest life ended."""
        return self.lives[-1].code if self.lives else 0

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.time() - self._began

    def working(self) -> list[int]:
        """The processes that do its work: itself, or its children as far as they have been started."""
        if not self.running:
            return []
        if not self.children:
            return [self.pid]
        found = []
        for child in _family(self.pid):
            try:
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.Error:
                continue  # it ended while it was looked at
        return found

    def send(self, signum: signal.Signals) -> bool:
        """Sends a signal to the process alone. Whether it ran."""
        if not self.running:
            return False
        os.kill(self.pid, signum)
        return True

    def wait(self, timeout: float) -> bool:
        """Waits for its end, and whether it came in time; if not, it is killed with all its children."""
        if not self.running:
            return True
        popen = self._popen
        assert popen is not None
        in_time = True
        try:
            popen.wait(timeout)
        except subprocess.TimeoutExpired:
            in_time = False
            for child in _family(popen.pid):
                child.kill()
            popen.kill()
            popen.wait()
        assert not self.running
        return in_time

    def log(self) -> str:
        """All that it has said, in all of its lives."""
        path = self._folder / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


def left_over(folder: Path) -> list[str]:
    """Processes of this run that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                found.append(f"{process.pid}: {' '.join(process.cmdline())[:100]}")
        except psutil.Error:
            continue  # another user's, or it has ended
    return found


def signal_pid(pid: int, signum: signal.Signals) -> bool:
    """Sends a signal to a process that may have ended. Whether it had not."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
