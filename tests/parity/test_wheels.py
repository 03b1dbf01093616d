"""What can be built is built and installed: an sdist, and from it wheels, each in a clean environment.

Without an index, so that it works anywhere: tools and dependencies are those of this interpreter, lent to the
clean environment by a path file. Its own packages come first, and editable installations are not lent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("setup.py", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the sources are elsewhere"),
    pytest.mark.skipif(
        not all(map(find_spec, ("pip", "setuptools", "wheel", "Cython"))),
        reason="a tool to build with is missing",
    ),
]


def run(*command: str | Path, cwd: Path, **switches: str) -> str:
    """Runs it without our switches; what it says. Fails the test if it fails."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_SPEEDUPS") and not name.startswith("PYTHON")
    }
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | switches,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tree with nothing built in it."""
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT / "saq", tree / "saq", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    for name in PARTS:
        shutil.copy(ROOT / name, tree / name)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", code, cwd=tree)
    (found,) = folder.iterdir()
    return found


Build = Callable[..., Path]


@pytest.fixture
def build(sdist: Path, tmp_path: Path) -> Build:
    """Makes a wheel of the sdist, with these switches."""

    def build(**switches: str) -> Path:
        folder = tmp_path / "wheel"
        pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", "--no-cache-dir")
        run(
            *pip,
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            folder,
            sdist,
            cwd=tmp_path,
            **switches,
        )
        (found,) = folder.iterdir()
        return found

    return build


def install(wheel: Path, folder: Path) -> Path:
    """A clean environment with the wheel in it; its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", python, "install")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    (site / "lent.pth").write_text(
        sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n"
    )
    return python


REPORT = "import saq, saq._speedups as s; print(s.COMPILED); print(s.FILE); print(saq.__file__)"


def check(python: Path, compiled: bool) -> None:
    """What runs there is the installed one, compiled or not, and works."""
    folder = python.parents[1]
    said = run(python, "-c", REPORT, cwd=folder).splitlines()
    assert said[0] == str(compiled)
    assert all(Path(line).resolve().is_relative_to(folder.resolve()) for line in said[1:])
    version = run(python.with_name("saq" + python.suffix), "--version", cwd=folder)
    assert f"speedups {'compiled' if compiled else 'uncompiled'}: {said[1]}" in version
    # Its data came along: scripts, and the files of the web interface.
    files = (
        "from importlib.resources import files as f; print(*(p.name for p in f(%r).joinpath(%r).iterdir()))"
    )
    assert "step.lua" in run(python, "-c", files % ("saq.queue.redis", "lua"), cwd=folder)
    assert run(python, "-c", files % ("saq.web", "static"), cwd=folder).strip()


def test_the_sdist_holds_sources_alone(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"setup.py", "saq/_speedups/_codec.py", "saq/_speedups/_plain.py", "saq/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith((".c", ".so", ".pyd", ".pyc"))]


@pytest.mark.slow
def test_a_compiled_wheel(build: Build, tmp_path: Path) -> None:
    """The parity tests run on it where it is installed, as `cibuildwheel` does it."""
    # Unoptimized, which takes a fifth of the time to compile. It has no meaning to other compilers.
    wheel = build(SAQ_REQUIRE_SPEEDUPS="1", CFLAGS="-O0")
    assert not wheel.name.endswith("-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        built = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
        # The uncompiled self comes along, for those who switch the compiled one off.
        assert "saq/_speedups/_codec.py" in archive.namelist()
    assert len(built) == 2
    python = install(wheel, tmp_path / "venv")
    check(python, compiled=True)
    assert run(python, "-c", REPORT, cwd=tmp_path, SAQ_NO_SPEEDUPS="1").splitlines()[0] == "False"

    shutil.copytree(ROOT / "tests", tmp_path / "there/tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "there/pyproject.toml")
    said = run(
        *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/parity/test_parity.py"),
        "tests/parity/test_switches.py",
        cwd=tmp_path / "there",
        SAQ_REQUIRE_SPEEDUPS="1",
        HYPOTHESIS_STORAGE_DIRECTORY=str(tmp_path / "hypothesis"),
    )
    assert " passed" in said
    assert "NOT COMPARED" not in said


def test_a_pure_wheel(build: Build, tmp_path: Path) -> None:
    wheel = build(SAQ_NO_SPEEDUPS="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    check(install(wheel, tmp_path / "venv"), compiled=False)


@pytest.mark.skipif(sys.platform == "win32", reason="CC does not choose the compiler there")
def test_a_wheel_without_a_compiler(build: Build, tmp_path: Path) -> None:
    wheel = build(CC="no-such-compiler")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".pyd", ".c"))]
    check(install(wheel, tmp_path / "venv"), compiled=False)
