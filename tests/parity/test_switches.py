"""Which self runs: setup.py, the files on disk and the dispatcher agree, and the switches switch."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest

from saq import _speedups, cli
from tests.parity.selves import CODEC, PLAIN, required

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(_speedups.__file__).parent
#: Not kernels: the dispatcher, and what stands in for `cython`.
OTHERS = {"__init__.py", "_cython.py"}


def run(code: str, **switches: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with exactly these switches."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_SPEEDUPS")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment | switches, capture_output=True, text=True, timeout=60
    )


REPORT = "import saq._speedups as s; print(s.COMPILED, s.FILE)"
#: As if the kernels were not compiled.
HIDE = "import sys; sys.modules['saq._speedups._codec_c'] = None; "


def listed() -> dict[str, str]:
    """The extensions of setup.py by their source; without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "KERNELS"
    ]
    return {source: name for name, source in ast.literal_eval(value)}


# The list ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the sources are elsewhere")
def test_setup_lists_the_kernels_that_there_are() -> None:
    on_disk = {path.name for path in (ROOT / "saq/_speedups").glob("*.py")} - OTHERS
    assert listed() == {
        f"saq/_speedups/{name}": f"saq._speedups.{name.removesuffix('.py')}_c" for name in on_disk
    }


def test_the_dispatcher_picks_from_the_kernels_that_there_are() -> None:
    """Both branches of it name every kernel, and nothing else."""
    tree = ast.parse(Path(_speedups.__file__).read_text("utf-8"))
    named = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "saq._speedups"
        for alias in node.names
    ]
    kernels = {path.stem for path in FOLDER.glob("_*.py") if path.name not in OTHERS}
    assert set(named) == kernels | {f"{name}_c" for name in kernels}
    assert {named.count(name) for name in kernels} == {2}


def test_the_dispatcher_hands_on_every_kernel() -> None:
    assert set(_speedups.__all__) == {*CODEC, *PLAIN, "COMPILED", "FIELD_TYPES", "FILE"}
    for names, module in ((CODEC, _speedups.codec), (PLAIN, _speedups.plain)):
        public = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        }
        assert public == set(names)
        for name in names:
            assert getattr(_speedups, name) is getattr(module, name)


# At run time ------------------------------------------------------------------------------------------------


def is_compiled(suffix: str = "_c") -> bool:
    return find_spec(f"saq._speedups._codec{suffix}") is not None


def test_in_ci_the_compiled_kernels_run() -> None:
    if required():
        assert _speedups.COMPILED, f"SAQ_REQUIRE_SPEEDUPS is set, and {_speedups.FILE} runs"
    elif not is_compiled():
        pytest.skip("NOT COMPARED: the kernels are not compiled here")


def test_both_can_be_imported_side_by_side() -> None:
    if not is_compiled():
        pytest.skip("NOT COMPARED: the kernels are not compiled here")
    for name in ("_codec", "_plain"):
        pure = importlib.import_module(f"saq._speedups.{name}")
        compiled = importlib.import_module(f"saq._speedups.{name}_c")
        assert str(pure.__file__).endswith(".py")
        assert str(compiled.__file__).endswith(tuple(EXTENSION_SUFFIXES))


def test_what_runs_is_what_is_said() -> None:
    report = run(REPORT).stdout.split()
    assert report[0] == str(is_compiled())
    assert report[1].endswith(tuple(EXTENSION_SUFFIXES) if is_compiled() else ".py")
    assert _speedups.FILE in cli.version()
    assert f"speedups {'compiled' if _speedups.COMPILED else 'uncompiled'}" in cli.version()


@pytest.mark.parametrize("value", ["1", "yes"])
def test_no_speedups(value: str) -> None:
    assert run(REPORT, SAQ_NO_SPEEDUPS=value).stdout.split()[0] == "False"


@pytest.mark.parametrize("value", ["", "0"])
def test_a_switch_that_is_off(value: str) -> None:
    report = run(REPORT, SAQ_NO_SPEEDUPS=value, SAQ_REQUIRE_SPEEDUPS=value)
    assert report.stdout.split()[0] == str(is_compiled())


def test_without_the_compiled_kernels_the_uncompiled_run() -> None:
    assert run(HIDE + REPORT).stdout.split()[0] == "False"


def test_required_and_not_there() -> None:
    report = run(HIDE + REPORT, SAQ_REQUIRE_SPEEDUPS="1")
    assert report.returncode == 1
    assert "SAQ_REQUIRE_SPEEDUPS is set and the compiled kernels are missing" in report.stderr


def test_both_switches() -> None:
    report = run(REPORT, SAQ_NO_SPEEDUPS="1", SAQ_REQUIRE_SPEEDUPS="1")
    assert report.returncode == 1
    assert "contradict each other" in report.stderr


def test_it_works_without_cython() -> None:
    """`import cython` is for the compiler; whoever runs the uncompiled self need not have it."""
    hide = "import sys; sys.modules['cython'] = sys.modules['Cython'] = None; "
    work = "import saq._speedups as s; print(s.COMPILED, s.split_netstrings(b'1:a'), s.load_plain(b'[1]'))"
    assert run(hide + work, SAQ_NO_SPEEDUPS="1").stdout == "False [b'a'] [1]\n"


# At build time ----------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What setup.py needs, apart from everything."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("the sources are elsewhere")
    shutil.copytree(
        ROOT / "saq",
        tmp_path / "saq",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "demo", "web"),
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def build(source: Path, **switches: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_SPEEDUPS")}
    ended = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=source,
        env=environment | switches,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended, sorted(
        path.name.partition(".")[0] for path in source.rglob("*_c.*") if path.suffix in (".so", ".pyd")
    )


def test_building_with_both_switches(source: Path) -> None:
    ended, built = build(source, SAQ_NO_SPEEDUPS="1", SAQ_REQUIRE_SPEEDUPS="1")
    assert ended.returncode != 0
    assert "contradict each other" in ended.stderr
    assert built == []


def test_building_nothing(source: Path) -> None:
    ended, built = build(source, SAQ_NO_SPEEDUPS="1")
    assert ended.returncode == 0, ended.stderr
    assert built == []


@pytest.mark.skipif(sys.platform == "win32", reason="CC does not choose the compiler there")
def test_without_a_compiler_nothing_is_built(source: Path) -> None:
    if find_spec("Cython") is None:
        pytest.skip("there is no Cython here")
    ended, built = build(source, CC="no-such-compiler")
    assert ended.returncode == 0, ended.stderr
    assert built == []


@pytest.mark.skipif(sys.platform == "win32", reason="CC does not choose the compiler there")
def test_without_a_compiler_although_required(source: Path) -> None:
    ended, built = build(source, CC="no-such-compiler", SAQ_REQUIRE_SPEEDUPS="1")
    assert ended.returncode != 0
    assert built == []
