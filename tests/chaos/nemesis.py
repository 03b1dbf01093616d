"""What breaks things, by a seeded schedule.

Owns the faults. Each is one method, and says in the end how often it happened.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from tests.chaos.worker import LEASE
from tests.servers import Server


class Process:
    """A process of the run that is started again when it ends."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        self.name = name
        self._folder = folder
        self._command = command
        self._starts = 0
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self.popen is not None and self.popen.poll() is None:
            return
        self._starts += 1
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *self._command], stdout=log, stderr=log, start_new_session=True
            )

    def send(self, signum: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(signum)

    def end(self, signum: signal.Signals, timeout: float) -> int | None:
        """Ends it and returns its exit code; killed if it does not end in time, None then."""
        if self.popen is None:
            return 0
        self.send(signum)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return None


class Nemesis:
    """Chooses a fault every now and then, and makes it happen."""

    def __init__(self, server: Server, workers: list[Process], seed: int, hard: bool) -> None:
        self.happened: Counter[str] = Counter()
        self._server = server
        self._workers = workers
        self._random = random.Random(seed)
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._paused = False
        self._faults: dict[Callable[[], None], float] = {
            self.kill_a_worker: 6,
            self.freeze_a_worker: 2,
            self.stop_a_worker: 2,
            self.flush_scripts: 2,
            self.kill_connections: 3,
            self.kill_subscriptions: 2,
            self.pause_server: 1,
            self.squeeze_memory: 1,
        }
        if hard:
            self._faults[self.kill_server] = 1.5

    def run(self, seconds: float, every: float) -> None:
        """Breaks things for so long."""
        end = time.monotonic() + seconds
        next_fault = time.monotonic() + every
        while time.monotonic() < end:
            now = time.monotonic()
            # A client that asks a frozen server would wait for it: what else is due comes after.
            for due in [item for item in self._later if item[0] <= now]:
                if not self._paused or due[1] == self._resume_server:
                    self._later.remove(due)
                    due[1]()
            if now >= next_fault:
                next_fault = now + self._random.uniform(0.3, 1.7) * every
                fault = self._random.choices(list(self._faults), list(self._faults.values()))[0]
                if self._paused and "worker" not in fault.__name__:
                    continue  # who asks a server that is frozen waits for it
                fault()
                self.happened[fault.__name__.replace("_", " ")] += 1
            for worker in self._workers:
                worker.start()
            time.sleep(0.02)

    def heal(self) -> None:
        """Ends every fault that still lasts."""
        if self._paused:
            self._resume_server()
        for _, action in self._later:
            action()
        self._later = []
        for worker in self._workers:
            worker.send(signal.SIGCONT)
            worker.start()

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _client(self) -> redis.Redis:
        return self._server.client()

    def kill_a_worker(self) -> None:
        self._random.choice(self._workers).send(signal.SIGKILL)

    def freeze_a_worker(self) -> None:
        worker = self._random.choice(self._workers)
        worker.send(signal.SIGSTOP)
        self._in(self._random.uniform(0.5, 2.0) * LEASE, lambda: worker.send(signal.SIGCONT))

    def stop_a_worker(self) -> None:
        worker = self._random.choice(self._workers)
        worker.send(signal.SIGTERM)
        if self._random.random() < 0.5:
            self._in(0.1, lambda: worker.send(signal.SIGTERM))

    def flush_scripts(self) -> None:
        self._client().script_flush()

    def kill_connections(self) -> None:
        self._client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def kill_subscriptions(self) -> None:
        self._client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def pause_server(self) -> None:
        self._server.pause()
        self._paused = True
        self._in(self._random.uniform(0.2, 3.0), self._resume_server)

    def _resume_server(self) -> None:
        self._server.resume()
        self._paused = False

    def squeeze_memory(self) -> None:
        used = int(self._client().info("memory")["used_memory"])
        self._client().config_set("maxmemory", max(1, used // 2))
        self._in(self._random.uniform(0.2, 1.0), self._loosen_memory)

    def _loosen_memory(self) -> None:
        self._client().config_set("maxmemory", 0)

    def kill_server(self) -> None:
        self._server.kill()
        time.sleep(self._random.uniform(0.0, 0.5))
        self._server.start()
