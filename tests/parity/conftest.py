"""One fixture over both selves of the kernels.

The compiled self is skipped where it does not exist, which the summary says, and never with
SAQ_REQUIRE_SPEEDUPS=1: CI sets that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.selves import Kernels, load, outcome, required


def compiled_self() -> Kernels:
    """The compiled self; ends the test if there is none."""
    try:
        return load("_c")
    except ImportError as error:
        if required():
            pytest.fail(f"SAQ_REQUIRE_SPEEDUPS is set, and the kernels are not compiled: {error}")
        pytest.skip(f"NOT COMPARED: the kernels are not compiled here ({error})")


@pytest.fixture(scope="session", params=["pure", "compiled"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Each self in turn."""
    return load("") if request.param == "pure" else compiled_self()


Same = Callable[..., None]


@pytest.fixture(scope="session")
def same() -> Same:
    """Calls a kernel of both selves by name, and asserts that the same comes of it."""
    pure, compiled = load(""), compiled_self()

    def same(name: str, *arguments: Any) -> None:
        expected = outcome(getattr(pure, name), *arguments)
        assert outcome(getattr(compiled, name), *arguments) == expected

    return same
