"""The examples do what they say: a worker and a client, each in a process of its own, on a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0


class Running:
    """A worker process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until it has printed that."""
        deadline = time.monotonic() + PATIENCE
        while (match := re.search(pattern, self.output())) is None:
            assert self.process.poll() is None, f"the worker has ended:\n{self.output()}"
            assert time.monotonic() < deadline, f"no {pattern!r} in\n{self.output()}"
            time.sleep(0.02)
        return match

    def stop(self) -> str:
        """Ctrl-C; returns all that it printed."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self.output()
        return self.output()


def environment(url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    return {**inherited, "REDIS_URL": url, "PYTHONUNBUFFERED": "1"}


@contextmanager
def worker(url: str, tmp_path: Path, *arguments: str) -> Iterator[Running]:
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "saq", *arguments],
            cwd=ROOT,
            env=environment(url),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            yield Running(process, log)
        finally:
            process.kill()


def client(url: str, name: str) -> str:
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"],
        cwd=ROOT,
        env=environment(url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def promised(name: str) -> str:
    """What the README says that the client prints."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- output: {re.escape(name)} -->\n```text\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    return found[1]


def test_simple(redis_url: str, tmp_path: Path):
    with worker(redis_url, tmp_path, "examples.simple.settings", "--web", "--port", "0", "-v") as running:
        page = running.wait_for(r"http://127\.0\.0\.1:\d+")[0]
        with urllib.request.urlopen(page, timeout=PATIENCE) as response:
            assert response.status == 200
        assert client(redis_url, "simple") == promised("examples/simple.py")
        running.wait_for(r"(?m)^tick$")
        lines = running.stop().splitlines()
    assert lines.count("starting greet") == 2
    assert lines.count("finished greet complete") == 2
    assert lines.count("finished add complete") == 2
    assert lines.count("goodbye") == 1


def test_simple_needs_no_server(tmp_path: Path):
    url = f"embedded://{tmp_path}/server"
    with worker(url, tmp_path, "examples.simple.settings") as running:
        assert client(url, "simple") == promised("examples/simple.py")
        running.stop()


def test_map_many(redis_url: str, tmp_path: Path):
    with worker(redis_url, tmp_path, "examples.map_many.settings") as running:
        lines = client(redis_url, "map_many").splitlines()
        assert lines == [
            "1000 results, their sum is 7.485",
            "result: 0.5",
            "failed: ZeroDivisionError: division by zero",
            "result: 0.25",
            "10000 jobs enqueued",
        ]
        with Redis.from_url(redis_url, decode_responses=True) as redis:
            deadline = time.monotonic() + PATIENCE
            while redis.exists("saq:{map_many}:jobs"):
                assert time.monotonic() < deadline, "they are not all done"
                time.sleep(0.02)
            stats = redis.hgetall("saq:{map_many}:stats")
        running.stop()
    assert (stats["enqueued"], stats["complete"], stats["failed"]) == ("11003", "11002", "1")


def test_correlation_id(redis_url: str, tmp_path: Path):
    with worker(redis_url, tmp_path, "examples.correlation_id.settings") as running:
        lines = client(redis_url, "correlation_id").splitlines()
        assert lines == ["order request-1", "invoice request-1", "order request-2", "invoice request-2"]
        printed = running.stop()
    assert "[request-1] invoice for a book" in printed
    assert "[request-2] invoice for a pen" in printed


def test_sync_functions(redis_url: str, tmp_path: Path):
    with worker(redis_url, tmp_path, "examples.sync_functions.settings") as running:
        digest, alive, calls = client(redis_url, "sync_functions").splitlines()
        running.stop()
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert alive == "the loop is free"
    found = re.fullmatch(r"20 calls of a second each, in 20 threads: (\d+) s", calls)
    assert found is not None, calls
    assert int(found[1]) < 15
