"""Builds the compiled kernels of ``saq._speedups``; everything else is in pyproject.toml.

A kernel is one Python source that is compiled under a second name, so that its uncompiled self
can always be imported beside it. Without Cython, without a compiler or on another interpreter
than CPython the installation is pure, and works. Two switches in the environment:

SAQ_NO_SPEEDUPS=1       compile nothing
SAQ_REQUIRE_SPEEDUPS=1  a kernel that cannot be compiled is an error
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# (name of the extension, its source); a source that is not there is skipped.
KERNELS = [
    ("saq._speedups._codec_c", "saq/_speedups/_codec.py"),
    ("saq._speedups._plain_c", "saq/_speedups/_plain.py"),
]

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    # Annotations are documentation: as C types a float would lose what a Python object keeps.
    "annotation_typing": False,
    # Kernels keep nothing but the prefix of new keys, in one object; tests/parity runs them in threads.
    "freethreading_compatible": True,
}


def wanted(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


NO, REQUIRE = wanted("SAQ_NO_SPEEDUPS"), wanted("SAQ_REQUIRE_SPEEDUPS")
if NO and REQUIRE:
    raise SystemExit("SAQ_NO_SPEEDUPS and SAQ_REQUIRE_SPEEDUPS contradict each other: unset one.")


def extensions() -> list[Extension]:
    if NO:
        return []
    if sys.implementation.name != "cpython" or find_spec("Cython") is None:
        if REQUIRE:
            raise SystemExit("SAQ_REQUIRE_SPEEDUPS needs CPython and Cython.")
        return []
    root = Path(__file__).parent
    return [
        Extension(name, [source], optional=not REQUIRE)
        for name, source in KERNELS
        if (root / source).exists()
    ]


class BuildKernels(build_ext):  # type: ignore[misc]
    """Translates when it compiles, so that neither metadata nor an sdist holds generated C."""

    def build_extension(self, ext: Any) -> None:
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError as CythonError

        try:
            [translated] = cythonize(
                [Extension(ext.name, list(ext.sources))],
                build_dir="build/cython",
                force=True,  # by its age alone it would not see that a directive has changed
                compiler_directives=DIRECTIVES,
            )
        except CythonError as error:  # one that `optional` knows how to forgive
            raise CompileError(str(error)) from error
        ext.sources = translated.sources
        super().build_extension(ext)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
