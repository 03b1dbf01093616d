"""Commands that tests run as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
APP = "tests.worker.app.settings"


class Command:
    """A process, what it says, and its end. `saq(...)` starts one."""

    def __init__(self, *words: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.began = time.monotonic()
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": "", **(env or {})}
        self._process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=variables,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def text(self) -> str:
        """All that it has said."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def children(self) -> list[psutil.Process]:
        """Its worker processes, without what multiprocessing itself starts."""
        if not self.running:
            return []
        found = []
        for child in psutil.Process(self.pid).children():
            try:
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue  # it ended while it was looked at
        return found

    async def says(self, pattern: str, timeout: float = 15.0) -> str:
        """Waits until it says something that matches."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.text(), re.MULTILINE)):
            assert self.running, f"it ended with {self._process.returncode} and said:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {timeout:g} s; it said:\n{self.text()}"
            await asyncio.sleep(0.01)
        return match[0]

    async def end(self, timeout: float = 15.0) -> int:
        """Waits for its end; its exit code, negative if a signal ended it."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end in {timeout:g} s; it said:\n{self.text()}"
            await asyncio.sleep(0.01)
        return int(self._process.returncode)

    def close(self) -> None:
        """Kills it with all its children."""
        family = [psutil.Process(self.pid)] if self.running else []
        for parent in list(family):
            family += parent.children(recursive=True)
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self._process.wait()
        self._output.close()


def saq(*words: str, url: str = "", settings: dict[str, Any] | None = None, **kwargs: Any) -> Command:
    """`python -m saq` with these words; `url` and `settings` reach tests.worker.app."""
    env = {"SAQ_TEST_URL": url, "SAQ_TEST_SETTINGS": json.dumps(settings or {})}
    return Command("-m", "saq", *words, env=env, **kwargs)
