"""`saq demo`: what it finds and counts, how it looks, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import io
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from saq.demo import main, work
from saq.demo.report import reason_of
from saq.terminal import screen
from saq.terminal.screen import Column, Screen

PATIENCE = 30.0
CTX: Any = {}
#: asyncio's debug mode says on stderr what took long: not what these tests are about.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of every kind, three of which nobody wants."""
    top = tmp_path / "files"
    (top / "inner" / "deep").mkdir(parents=True)
    (top / "long.txt").write_text("whale whale whale ship ship the sea\n" * 10)
    (top / "inner" / "short.txt").write_text("no end of line")
    (top / "inner" / "deep" / "copy.txt").write_text("no end of line")
    (top / "empty").write_bytes(b"")
    (top / "binary.bin").write_bytes(b"\x7fELF\0\0\0" * 100)
    (top / "Ünïcödé \x1b[31m 漢字.txt").write_text("grün grün\n")
    (top / "nowhere").symlink_to(tmp_path / "missing")
    for name in (".git", "__pycache__", "venv", "cache"):
        (top / name).mkdir()
        (top / name / "unwanted.txt").write_text("unwanted\n")
    (top / "venv" / "pyvenv.cfg").touch()
    (top / "cache" / "CACHEDIR.TAG").touch()
    os.mkfifo(top / "pipe")
    return top


# What it works on -------------------------------------------------------------------------------------------


def test_finds_files_but_no_caches_pipes_and_the_like(folder: Path):
    assert work.find_files(str(folder), 100) == (
        [
            "binary.bin",
            "empty",
            "long.txt",
            "nowhere",
            "Ünïcödé \x1b[31m 漢字.txt",
            "inner/short.txt",
            "inner/deep/copy.txt",
        ],
        False,
        [],
    )


def test_stops_at_the_limit(folder: Path):
    assert work.find_files(str(folder), 2) == (["binary.bin", "empty"], True, [])


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"one", 1), (b"one\n", 1), (b"one\ntwo", 2), (b"\0\n", None), (b"x" * 200_000, 1)],
)
async def test_fingerprint(tmp_path: Path, content: bytes, lines: int | None):
    path = tmp_path / "file"
    path.write_bytes(content)
    found = work.Fingerprint(*await work.fingerprint(CTX, path=str(path)))
    assert found == (len(content), lines, hashlib.sha256(content).hexdigest(), False)


async def test_a_huge_file_is_digested_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "DIGEST_AT_MOST", 100_000)
    monkeypatch.setattr(work, "WORDS_AT_MOST", 10)
    path = tmp_path / "file"
    path.write_bytes(b"word " * 100_000)
    found = work.Fingerprint(*await work.fingerprint(CTX, path=str(path)))
    assert found == (500_000, 1, hashlib.sha256(b"word " * 20_000).hexdigest(), True)
    assert work.words(CTX, path=str(path)) == ["word"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", []),
        (b"Sea sea SHIPS ships whale 12345", ["ships", "whale"]),
        (b"\0 word", None),
        (b"\xffword", ["word"]),
    ],
)
def test_words(tmp_path: Path, content: bytes, words: list[str] | None):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert work.words(CTX, path=str(path)) == words


async def test_what_cannot_be_read_says_why(folder: Path):
    with pytest.raises(work.CannotRead, match="No such file"):
        await work.fingerprint(CTX, path=str(folder / "nowhere"))
    with pytest.raises(work.CannotRead, match="Is a directory"):
        work.words(CTX, path=str(folder))
    # It was a file when it was found. Nobody will ever write into that pipe.
    assert await asyncio.wait_for(work.fingerprint(CTX, path=str(folder / "pipe")), 5)


def test_reasons():
    assert reason_of("Traceback …\nsaq.demo.work.CannotRead: Permission denied\n") == (
        "Permission denied",
        True,
    )
    assert reason_of("Traceback …\nValueError: x\n") == ("ValueError: x", False)
    assert reason_of(None) == ("no error was recorded", False)


# How it looks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "width", "end", "fitted"),
    [
        ("short", 5, False, "short"),
        ("longer", 5, False, "long…"),
        ("longer", 5, True, "…nger"),
        ("漢字漢字", 5, False, "漢字…"),
        ("漢字漢字", 6, True, "…漢字"),
    ],
)
def test_fit(text: str, width: int, end: bool, fitted: str):
    assert screen.fit(text, width, keep_end=end) == fitted
    assert screen.width_of(fitted) <= width


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_size(number: float, text: str):
    assert screen.size(number) == text


def test_bar():
    assert [screen.bar(done, 10, 4) for done in (0, 5, 9, 10, 11)] == ["░░░░", "██░░", "███░", "████", "████"]


COLUMNS = [
    Column("File", keep_end=True, least=6),
    Column("Size", right=True),
    Column("Words", least=5, optional=True),
]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (30, ["File         Size  Words", "a/long/name  1 kB  one, two", "b             1 B"]),
        (22, ["File     Size  Words", "…g/name  1 kB  one, t…", "b         1 B"]),
        (14, ["File      Size", "…ng/name  1 kB", "b          1 B"]),
        (10, ["File    Size", "…/name  1 kB", "b        1 B"]),
    ],
)
def test_table(width: int, lines: list[str]):
    rows = [["a/long/name", "1 kB", "one, two"], ["b", "1 B", ""]]
    assert screen.table(COLUMNS, rows, width) == lines


def test_without_a_terminal_there_are_only_plain_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screen, "PLAIN_EVERY", 0.0)
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    shown = Screen(stream)
    shown.status("███░ 3 of 4 …")
    shown.say(shown.style("漢 done", "bold"))
    shown.end_status()
    stream.seek(0)
    assert stream.read() == "###. 3 of 4 ~\n? done\n"


# The command ------------------------------------------------------------------------------------------------


def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """`saq demo` in a process of its own; ``code`` is what happens to it before."""
    program = f"import sys\n{code}\nfrom saq.cli import main\nsys.exit(main(['demo', *sys.argv[1:]]))"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )


def assert_nothing_is_left(output: str) -> None:
    """No process that knows the server's directory, and no directory."""
    found = re.search(r"a private one, in (\S+)", output)
    assert found is not None, output
    directory = found[1]
    assert not os.path.exists(directory)
    deadline = time.monotonic() + 5
    while left := processes_with(directory):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def processes_with(text: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if text in command:
                found.append(command)
    return found


def test_once(folder: Path):
    done = run(folder, "--once", "--port", 0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    out = done.stdout
    assert f"7 files below {folder}" in out
    assert re.search(r"^  web     http://127\.0\.0\.1:\d+/$", out, re.MULTILINE)
    assert re.search(r"^  long\.txt +360 B +10  [0-9a-f]{12}  whale, ship$", out, re.MULTILINE)
    assert re.search(r"^  binary\.bin +700 B  binary  [0-9a-f]{12}$", out, re.MULTILINE)
    assert re.search(r"^  Ünïcödé �\[31m 漢字\.txt +12 B +1  [0-9a-f]{12}  grün$", out, re.MULTILINE)
    assert re.search(r"^  6 files in all +1\.1 kB +13$", out, re.MULTILINE)
    assert "1 file is a copy of another" in out
    assert "Could not be read: 1 file; its jobs failed, as they should" in out
    assert "    nowhere: No such file or directory" in out
    late = re.search(r"scheduled  two seconds ahead; it started (\d+) ms after its time", out)
    assert late is not None
    assert int(late[1]) < 1000
    assert "complete at attempt 2" in out
    assert re.search(r"cron       [1-9]\d* ticks? of", out)
    assert "14 jobs for 7 files in" in out
    assert "\x1b" not in out
    assert_nothing_is_left(out)


def test_on_a_server_of_ones_own_nothing_is_left(folder: Path, redis_url: str):
    """And without aiohttp it goes on, too."""
    done = run(folder, "--once", "--url", redis_url, code="sys.modules['aiohttp'] = None")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'web     not shown: it needs aiohttp (pip install "saq[web]")' in done.stdout
    with Redis.from_url(redis_url) as redis:
        assert redis.keys("*") == []


def test_a_job_that_should_succeed_and_fails(folder: Path):
    broken = (
        "from saq.demo import work\ndef words(ctx, *, path): raise ValueError('broken')\nwork.words = words"
    )
    done = run(folder, "--once", "--port", 0, code=broken)
    assert done.returncode == 1
    assert "This should have worked, and did not:" in done.stdout
    assert "words binary.bin: ValueError: broken" in done.stdout
    assert "and 2 more" in done.stdout
    assert_nothing_is_left(done.stdout)


def test_nobody_listens_to_it(folder: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "saq", "demo", folder, "--once"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            env=ENVIRONMENT,
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing"], 2, "there is no folder 'missing'"),
        (["file"], 2, "'file' is not a folder; give it the folder that the file is in"),
        (["hidden"], 2, "there are no files below 'hidden'"),
        (["full", "--url", "http://localhost"], 2, "no backend goes by the URL 'http://localhost'"),
        (["full", "--url", "redis://:secret@127.0.0.1:1"], 1, "cannot reach Redis at redis://127.0.0.1:1/0"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "hidden" / ".git").mkdir(parents=True)
    (tmp_path / "hidden" / ".git" / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("saq demo: ")
    assert message in error
    assert "secret" not in error


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "65536"], ["--files", "0"], ["a", "b"]])
def test_bad_options(arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


# Ctrl-C -----------------------------------------------------------------------------------------------------


class Terminal:
    """`saq demo` on a terminal."""

    def __init__(self, columns: int, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environ = {n: v for n, v in ENVIRONMENT.items() if n not in ("COLUMNS", "NO_COLOR")}
        command = [sys.executable, "-m", "saq", "demo", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env={**environ, "TERM": "xterm"}
        )
        os.close(slave)
        self.output = ""

    def wait_for(self, pattern: str) -> None:
        """Reads until that was printed."""
        deadline = time.monotonic() + PATIENCE
        while re.search(pattern, self.output) is None:
            assert self._read(deadline), f"no {pattern!r} in\n{self.output}"

    def end(self) -> int:
        """Reads all that comes; returns the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            self.output += os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # what Linux says when the other side has closed it
            return False
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.mark.parametrize("columns", [60, 120])
def test_goes_on_until_ctrl_c(folder: Path, columns: int):
    with socket.create_server(("127.0.0.1", 0)) as taken, contextlib.ExitStack() as stack:
        port = taken.getsockname()[1]
        terminal = Terminal(columns, folder, "--port", port)
        stack.callback(terminal.close)
        terminal.wait_for("The worker goes on")
        terminal.wait_for("cron: [3-9] ticks")
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.end()
    output = terminal.output
    assert code == 0, output
    assert f"(port {port} is not free)" in output
    assert "the web page is at http://127.0.0.1:" in output
    assert "Goodbye." in output
    # The changing line never wraps, and the cursor is back in the end.
    drawn = re.findall(r"\r([^\r\n]*)\x1b\[K", output)
    assert len(drawn) > 5
    assert max(screen.width_of(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in drawn) < columns
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") > 0
    assert_nothing_is_left(output)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_once_is_interrupted(folder: Path, signum: signal.Signals):
    with contextlib.ExitStack() as stack:
        terminal = Terminal(100, folder, "--once", "--port", 0)
        stack.callback(terminal.close)
        terminal.wait_for("1 scheduled")
        terminal.process.send_signal(signum)
        code = terminal.end()
    assert code == 130
    assert re.search(r"Interrupted: \d+ of \d+ jobs had ended\.", terminal.output)
    assert_nothing_is_left(terminal.output)
