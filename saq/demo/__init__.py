"""`saq demo`: a server, a worker and real jobs, from nothing.

Owns its command line, the private server it runs on, and its exit codes. What happens is in ``show.py``, what
the jobs do in ``work.py``, what is said in ``report.py``, how it is drawn in ``screen.py``.

    0    what should work has worked, or Ctrl-C ended a demo that goes on
    1    a job that should have succeeded failed, or the server did
    2    the folder or an option cannot be right
    130  Ctrl-C, before a `--once` was done
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from saq.arguments import port
from saq.demo.show import INTERRUPTED, Demo, LogLines, Plan
from saq.demo.work import Found, find_files
from saq.errors import SaqError
from saq.queue.embedded import EmbeddedServer
from saq.queue.embedded.binary import version_of
from saq.queue.embedded.server import KEEPER_LOCK
from saq.terminal.screen import Screen, plural, printable
from saq.utils import redact_url
from saq.worker.process import run_loop

#: Seconds that the server has to end, after its last user has left.
END_SERVER = 15.0

DESCRIPTION = """\
Starts a private server, a worker and the web page, and works through every file below a folder: one job for
its size, lines and SHA-256, one for its most frequent words. Besides, one job is scheduled, one fails once
and is retried, and a cron job ticks. It goes on until Ctrl-C, and leaves nothing behind.
"""


class Options(argparse.Namespace):
    """What was asked for on the command line."""

    folder: str
    once: bool
    port: int
    concurrency: int
    files: int
    rows: int
    url: str | None
    verbose: bool


def build_parser() -> argparse.ArgumentParser:
    """The parser of `saq demo`."""
    parser = argparse.ArgumentParser(prog="saq demo", description=DESCRIPTION)
    parser.add_argument("folder", nargs="?", default=".", help="whose files to work through [.]")
    parser.add_argument("--once", action="store_true", help="end when all jobs are done")
    parser.add_argument("--port", type=port, default=8080, help="of the web page, if it is free [8080]")
    parser.add_argument("--concurrency", type=_count, default=10, help="how many jobs run at once [10]")
    parser.add_argument("--files", type=_count, default=2000, help="how many files at the most [2000]")
    parser.add_argument("--rows", type=_count, default=12, help="how many of them to show [12]")
    parser.add_argument("--url", help="a server of yours, redis://host:port, rather than a private one")
    parser.add_argument("--verbose", "-v", action="store_true", help="show what the worker logs")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = build_parser().parse_args(arguments, namespace=Options())
    screen = Screen(sys.stdout)
    try:
        found = _files_of(options)
    except _BadInput as error:
        print(f"saq demo: {error}", file=sys.stderr)
        return 2
    logger = logging.getLogger("saq")
    handler, level, propagate = LogLines(screen, options.verbose), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    logger.propagate = False
    try:
        return _run(options, found, screen)
    except SaqError as error:
        screen.end_status()
        print(f"saq demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:  # before the demo listens for it, or after
        screen.end_status()
        return INTERRUPTED
    except BrokenPipeError:  # `saq demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _BadInput(Exception):
    """The folder cannot be right."""


def _files_of(options: Options) -> Found:
    folder, named = options.folder, printable(options.folder)
    if not os.path.lexists(folder):
        raise _BadInput(f"there is no folder {named!r}")
    if not os.path.isdir(folder):
        raise _BadInput(f"{named!r} is not a folder; give it the folder that the file is in")
    try:
        found = find_files(folder, options.files)
    except OSError as error:
        raise _BadInput(f"the folder {named!r} cannot be read: {error.strerror}") from None
    if not found.names:
        raise _BadInput(
            f"there are no files below {named!r}; hidden folders, caches and the like do not count"
        )
    return found


def _run(options: Options, found: Found, screen: Screen) -> int:
    if found.more:
        screen.say(f"There are more files than {len(found.names):,}: the first are taken (--files).")
    if found.closed:
        names = ", ".join(printable(name) for name in found.closed[:3])
        more = ", …" if len(found.closed) > 3 else ""
        screen.say(f"{plural(len(found.closed), 'folder')} cannot be looked into: {names}{more}")
    if options.url is not None:
        code = run_loop(_show(_plan(options, found, options.url, redact_url(options.url)), screen))
        last_words = "The worker has ended, and what it left on the server is gone."
    else:
        with _PrivateServer() as server:
            code = run_loop(_show(_plan(options, found, server.url, server.words), screen))
        last_words = "Worker and server have ended, and their files are gone."
        if not server.ended:
            last_words = f"The worker has ended. The server has not: another process uses {server.url}"
    if not options.once:
        screen.say(f"{screen.style('Goodbye.', 'bold')} {last_words}")
    return code


def _plan(options: Options, found: Found, url: str, server: str) -> Plan:
    return Plan(
        folder=os.path.abspath(options.folder),
        names=found.names,
        url=url,
        server=server,
        private=options.url is None,
        once=options.once,
        port=options.port,
        concurrency=options.concurrency,
        rows=options.rows,
    )


async def _show(plan: Plan, screen: Screen) -> int:
    return await Demo(plan, screen).run()


class _PrivateServer:
    """A server in a directory of its own, which goes with it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="saq-demo-"))
        self.url = f"embedded://{self.directory}"
        self.words = ""
        self.ended = True
        self._server: EmbeddedServer | None = None

    def __enter__(self) -> Self:
        try:
            self._server = EmbeddedServer(self.url).start()
        except BaseException:
            self._close()
            raise
        program = self._server.server_binary
        version = version_of(program)
        number = "" if isinstance(version, str) else " " + ".".join(map(str, version))
        self.words = f"{program.name}{number}, a private one, in {self.directory}"
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        # A second Ctrl-C must not leave a server behind: this takes a moment only.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._server is not None:
            self._server.close()
            self.ended = _has_ended(self._server.directory)
        if self.ended:
            shutil.rmtree(self.directory, ignore_errors=True)
        signal.signal(signal.SIGINT, before)


def _has_ended(directory: Path) -> bool:
    """Waits for the end of the server, which comes by itself when nobody uses it any more."""
    import fcntl  # not on Windows, where there is no such server

    deadline = time.monotonic() + END_SERVER
    with open(directory / KEEPER_LOCK, "rb") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.01)
    return False
