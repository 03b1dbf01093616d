"""What of the `cython` module the kernels use, for where they are not compiled.

Owns no behaviour: everything here does nothing, or is a Python type. The compiler knows these names by itself
and never looks in here; what it makes of them is in the Cython manual, "pure Python mode".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Any = TypeVar("_Any")

#: False here, True in a compiled kernel.
compiled: bool = False

#: Lengths, positions and digits: nothing that a user gives is ever kept in one of these.
Py_ssize_t = int
uint = int
bint = bool


def cfunc(function: _Any) -> _Any:
    """Called from the same module only."""
    return function


def inline(function: _Any) -> _Any:
    """Small, and worth to be put where it is called."""
    return function


def locals(**types: object) -> Callable[[_Any], _Any]:
    """The C types of local variables."""
    return cfunc


def returns(kind: object) -> Callable[[_Any], _Any]:
    """The C type of what is returned."""
    return cfunc
