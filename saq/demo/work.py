"""What the demo works on, and the functions its worker runs.

Owns the choice of files and what is done with each. Must not print, and must not know who asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from saq.types import Context

#: An async function sees to the other jobs after each bite.
BITE = 65_536
#: Of a file that is larger, only so much is digested …
DIGEST_AT_MOST = 16 * 1024 * 1024
#: … and of a longer text, only the words of so much are counted.
WORDS_AT_MOST = 2 * 1024 * 1024
#: Seconds that a job may take: a disk may be slow.
TIMEOUT = 60

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "build", "dist"})
#: A folder that holds one of these is a virtual environment or a cache.
MARKERS = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})

_WORD = re.compile(r"[^\W\d_]{4,}")


class CannotRead(Exception):
    """The file is there, or was, but cannot be read. The message says why."""


class Fingerprint(NamedTuple):
    """What ``fingerprint`` returns, read back: it travels as a list."""

    size: int
    #: None for a binary file.
    lines: int | None
    sha256: str
    #: Whether the file was too large to be digested as a whole.
    partial: bool


class Watched(Context):
    """The context, and what the demo has put there to see the clock tick."""

    ticks: list[float]
    ticked: asyncio.Event


class Found(NamedTuple):
    """The files below a folder.

    Args:
        names: relative to the folder.
        more: whether there are more than were asked for.
        closed: folders that could not be looked into.
    """

    names: list[str]
    more: bool
    closed: list[str]


def find_files(folder: str, limit: int) -> Found:
    """Files below a folder, in order, without hidden folders, caches, and what was installed or built.

    Raises OSError if the folder itself cannot be read. Links to folders are not followed. A link that leads
    nowhere counts as a file, one that cannot be read; pipes, sockets and devices do not.
    """
    names: list[str] = []
    closed: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, below)) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            if not below:
                raise
            closed.append(below)
            continue
        if below and not MARKERS.isdisjoint(entry.name for entry in entries):
            continue
        inner: list[str] = []
        for entry in entries:
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in SKIPPED_FOLDERS:
                    inner.append(name)
            elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                if len(names) == limit:
                    return Found(names, True, closed)
                names.append(name)
        waiting += reversed(inner)
    return Found(names, False, closed)


def _bites(path: str, limit: int) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0, opener=_never_waiting) as file:
            while limit > 0 and (bite := file.read(min(BITE, limit))):
                limit -= len(bite)
                yield bite
    except OSError as error:
        raise CannotRead(error.strerror or type(error).__name__) from None


def _never_waiting(path: str, flags: int) -> int:
    # It may have become a pipe since it was found: nobody would ever write into that.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise CannotRead(error.strerror or type(error).__name__) from None


async def fingerprint(ctx: Context, *, path: str) -> list[Any]:
    """Size, lines and SHA-256 of a file: an async function, which gives way after each bite."""
    digest, read, lines, last = hashlib.sha256(), 0, 0, b"\n"
    binary = False
    for bite in _bites(path, DIGEST_AT_MOST):
        binary = binary or (not read and b"\0" in bite)
        digest.update(bite)
        read += len(bite)
        lines += bite.count(b"\n")
        last = bite[-1:]
        await asyncio.sleep(0)
    if last != b"\n":
        lines += 1  # the last line has no end of its own
    size = max(_size(path), read)
    return [size, None if binary else lines, digest.hexdigest(), size > read]


def words(ctx: Context, *, path: str) -> list[str] | None:
    """The most frequent words of a text, None for a binary file: a sync function, run in a thread."""
    data = b"".join(_bites(path, WORDS_AT_MOST))
    if b"\0" in data[:BITE]:
        return None
    counts = Counter(_WORD.findall(data.decode("utf-8", "replace").lower()))
    return [word for word, _ in counts.most_common(5)]


async def later(ctx: Context) -> str:
    """Runs at its time; the demo looks at how late it was."""
    return "on time"


async def stumble(ctx: Context) -> str:
    """Fails once, on purpose, and is retried."""
    if ctx["job"].attempts == 1:
        raise RuntimeError("the first attempt fails on purpose")
    return "back on its feet"


async def tick(ctx: Watched) -> None:
    """Enqueued by the clock."""
    ctx["ticks"].append(time.time())
    ctx["ticked"].set()
