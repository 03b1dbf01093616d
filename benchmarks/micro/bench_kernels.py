"""Every kernel, compiled and uncompiled, by pytest-benchmark: `make bench`."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.micro.inputs import CASES, selves


@pytest.mark.parametrize("which", [0, 1], ids=["compiled", "pure"])
@pytest.mark.parametrize(("name", "kernel", "arguments"), CASES, ids=[name for name, _, _ in CASES])
def test_kernel(benchmark: Any, which: int, name: str, kernel: str, arguments: tuple[Any, ...]) -> None:
    benchmark.group = name
    try:
        function = selves(kernel, arguments)[which]
    except ImportError:
        pytest.skip("the kernels are not compiled here")
    benchmark(function)
