"""Copies of this project to measure: a revision of it, and the working tree.

Owns making them: each below a folder of its own, with kernels compiled by the running interpreter, whose
installed dependencies it uses. Must not measure anything.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.environments import AGENT, Environment

ROOT = Path(__file__).parent.parent.parent
#: What is built and run of the working tree.
PARTS = ("saq", "setup.py", "pyproject.toml", "README.md", "LICENSE")
#: Seconds that a build may take.
PATIENCE = 300
#: Neither switch of the kernels: what can be compiled is.
_PLAIN = {"SAQ_NO_SPEEDUPS": "", "SAQ_REQUIRE_SPEEDUPS": ""}


class NoCopy(Exception):
    """A revision cannot be had or cannot be run here. The message says which one and why."""


class Copy(NamedTuple):
    """A copy that can be run.

    Args:
        title: what it is a copy of.
        compiled: whether its kernels are.
    """

    title: str
    environment: Environment
    compiled: bool


def copies(revision: str, folder: Path) -> tuple[Copy, Copy, Copy]:
    """The revision, the working tree, and the revision once more.

    Raises:
        NoCopy: there is no such revision, or one of them cannot be run.
    """
    commit = _commit(revision)
    # Names of one length: nothing differs but what is in them.
    base, head, again = (folder / name for name in ("base", "head", "copy"))
    _extract(commit, base)
    _copy_tree(head)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_build, (base, head)))
    shutil.copytree(base, again)
    title = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
    return probe(title, base), probe("the working tree", head), probe(title, again)


def _commit(revision: str) -> str:
    wanted = f"{revision}^{{commit}}"
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", wanted).decode().strip()
    except subprocess.CalledProcessError:
        raise NoCopy(
            f"there is no revision {revision!r} in this checkout: name a branch, a tag or a commit "
            "(git log --oneline); in a shallow clone, git fetch --unshallow first"
        ) from None


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise NoCopy("git is not on PATH, and another revision cannot be had without it") from error


def _extract(commit: str, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="data")


def _copy_tree(folder: Path) -> None:
    """What is not committed counts as well; what git ignores does not, such as kernels built long ago."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS)
    for name in listed.split(b"\0"):
        source = ROOT / os.fsdecode(name)
        if name and source.is_file():
            target = folder / os.fsdecode(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _build(folder: Path) -> None:
    """Compiles the kernels in their place. A revision from before there were any has none."""
    if not (folder / "setup.py").exists():
        return
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | _PLAIN, capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        raise NoCopy(f"the kernels of {folder.name} cannot be built:\n{done.stderr[-1500:]}")


def probe(title: str, folder: Path) -> Copy:
    """What lies in a folder, ready to be run. Raises ``NoCopy`` if it cannot be imported."""
    script = (
        "import json, saq, sys; speedups = sys.modules.get('saq._speedups'); "
        "print(json.dumps([saq.__file__, bool(getattr(speedups, 'COMPILED', False))]))"
    )
    env = _PLAIN | {"PYTHONPATH": os.pathsep.join([str(AGENT), str(folder)])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=os.environ | env, capture_output=True, text=True
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:]
        raise NoCopy(f"{title} cannot be imported with what is installed here: {' '.join(reason)}")
    path, compiled = json.loads(done.stdout)
    if not Path(path).is_relative_to(folder):
        raise NoCopy(f"{title} is not what would be measured: {path} gets imported in its place")
    return Copy(title, Environment((sys.executable,), env, {}), compiled)
