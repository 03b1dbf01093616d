"""Where a contender runs: an environment of its own, made on first use.

Owns making environments and saying why one cannot be had. They lie in `benchmarks/.environments`, one for
each set of requirements and version of the interpreter, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.registry import Contender

HERE = Path(__file__).parent
ROOT = HERE.parent
FOLDER = HERE / ".environments"
AGENT = HERE / "agent"
#: Seconds that an installation may take.
PATIENCE = 600


class Unavailable(Exception):
    """A contender cannot be had here. The message says why, and what would help."""


@dataclass(frozen=True)
class Environment:
    """How to start a contender's adapter.

    Args:
        command: what to run, up to the adapter itself.
        env: environment variables beside those of the arm.
        versions: what is installed, by name.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    versions: dict[str, str]


def environment(contender: Contender, say: Callable[[str], None]) -> Environment:
    """The environment of a contender; the first call installs what it needs.

    Raises:
        Unavailable: it cannot be had.
    """
    make = {"checkout": _checkout, "python": _python, "node": _node, "ruby": _ruby}[contender.kind]
    return make(contender, say)


def _checkout(contender: Contender, say: Callable[[str], None]) -> Environment:
    """The running interpreter, with this project as it is in the checkout."""
    probe = "import json, saq._speedups as s, saq, sys; print(json.dumps([s.COMPILED, saq.__version__]))"
    env = {"PYTHONPATH": os.pathsep.join([str(AGENT), str(ROOT)]), **contender.arms[0].env}
    try:
        said = _run([sys.executable, "-c", probe], env=env)
        compiled, version = json.loads(said)
    except (subprocess.CalledProcessError, ValueError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        raise Unavailable(f"it cannot be imported here: {_last_line(reason)}") from error
    versions = {"saq": version, "kernels": "compiled" if compiled else "uncompiled"}
    versions |= _freeze(sys.executable, ("redis", "hiredis", "uvloop", "orjson"))
    return Environment((sys.executable,), env, versions)


def _python(contender: Contender, say: Callable[[str], None]) -> Environment:
    requirements = contender.folder / "requirements.txt"
    home = _home(contender, requirements.read_text() + sys.version)
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        say(f"making the environment of {contender.name}")
        shutil.rmtree(home, ignore_errors=True)
        try:
            _run([sys.executable, "-m", "venv", str(home)])
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            _run([*pip, "-r", str(requirements)])
        except BaseException as error:
            shutil.rmtree(home, ignore_errors=True)
            if not isinstance(error, subprocess.SubprocessError | OSError):
                raise
            reason = _last_line(getattr(error, "stderr", None) or str(error))
            raise Unavailable(f"pip could not install {requirements.name}: {reason}") from error
        (home / ".complete").touch()
    return Environment((str(python),), {"PYTHONPATH": str(AGENT)}, _freeze(str(python)))


def _node(contender: Contender, say: Callable[[str], None]) -> Environment:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("node and npm are not on PATH")
    package = contender.folder / "package.json"
    version = _run([node, "--version"]).strip()
    home = _home(contender, package.read_text() + version)
    if not (home / ".complete").exists():
        say(f"making the environment of {contender.name}")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        shutil.copy(package, home)
        try:
            _run([npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=home)
        except BaseException as error:
            shutil.rmtree(home, ignore_errors=True)
            if not isinstance(error, subprocess.SubprocessError | OSError):
                raise
            reason = _last_line(getattr(error, "stderr", None) or str(error))
            raise Unavailable(f"npm could not install {package.name}: {reason}") from error
        (home / ".complete").touch()
    versions = {"node": version}
    for found in sorted((home / "node_modules").glob("*/package.json")):
        if found.parent.name in json.loads(package.read_text())["dependencies"]:
            versions[found.parent.name] = json.loads(found.read_text())["version"]
    return Environment((node,), {"BENCH_ENVIRONMENT": str(home)}, versions)


def _ruby(contender: Contender, say: Callable[[str], None]) -> Environment:
    ruby = shutil.which("ruby")
    if ruby is None:
        raise Unavailable("ruby is not on PATH (Debian: apt install ruby-sidekiq)")
    probe = 'require "sidekiq"; require "redis"; puts Sidekiq::VERSION, Redis::VERSION, RUBY_VERSION'
    try:
        sidekiq, redis, version = _run([ruby, "-e", probe]).split()
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise Unavailable(
            "ruby is there and cannot load sidekiq "
            "(Debian: apt install ruby-sidekiq, or gem install sidekiq -v '~> 6.5')"
        ) from error
    return Environment((ruby,), {}, {"ruby": version, "sidekiq": sidekiq, "redis (gem)": redis})


def _home(contender: Contender, what: str) -> Path:
    FOLDER.mkdir(exist_ok=True)
    ignore = FOLDER / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return FOLDER / f"{contender.name}-{hashlib.sha256(what.encode()).hexdigest()[:10]}"


def _freeze(python: str, only: tuple[str, ...] = ()) -> dict[str, str]:
    """What is installed beside an interpreter."""
    code = (
        "import json, platform, importlib.metadata as m; "
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    )
    # Isolated: what PYTHONPATH of ours holds is not installed there.
    found = json.loads(_run([python, "-I", "-c", code]))
    return {name: found[name] for name in sorted(found) if not only or name.lower() in only}


def _run(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    return subprocess.run(
        command,
        env=os.environ | (env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
