"""What the processes of a run write down: lines in files that outlive them.

Owns the format. A line is written with one `write` to a file opened for appending: a process that is killed
leaves whole lines, and several processes may share a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

#: Bound here: some workers run with a clock that is an hour off, and the journals need one for all.
clock = time.time


class Entry(NamedTuple):
    """What happened, to which job, when (wall clock, seconds), and more."""

    what: str
    key: str
    at: float
    more: dict[str, Any]


class Journal:
    """Writes entries."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, key: str, **more: Any) -> None:
        """Writes one entry; it is in the file when this returns."""
        os.write(self._file, orjson.dumps([what, key, clock(), more]) + b"\n")


def read(folder: Path, kind: str) -> Iterator[Entry]:
    """The entries of all files of a kind."""
    for path in sorted(folder.glob(f"{kind}*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                yield Entry(*orjson.loads(line))
