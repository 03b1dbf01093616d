"""The kernels, compiled against uncompiled.

Owns the ceiling of each. The inputs and the measuring are those of `benchmarks/micro`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from benchmarks.micro.inputs import CASES, selves
from benchmarks.micro.ratio import CEILING, measure
from benchmarks.progress import Progress
from saq import _speedups

Selves = Callable[[str, tuple[Any, ...]], tuple[Callable[[], Any], Callable[[], Any]]]
#: Samples of each self; noise only adds, and the least of them counts.
ROUNDS = 100
#: A compiled kernel takes at most so much of the time of its uncompiled self: half as much again as measured,
#: and never more than what makes a kernel worth having.
CEILINGS = {
    "new_key": 0.55,
    "pack_enqueue, 50 jobs": 0.7,
    "pack_end, a result": 0.72,
    "unpack_payload": 0.72,
    "key_of": 0.55,
    "dump_plain": 0.65,
    "load_plain": 0.7,
}


def check(progress: Progress, strict: bool, selves: Selves = selves) -> bool:
    """Whether each kernel keeps its ceiling. ``selves`` finds what is compared."""
    if not _speedups.COMPILED:
        print(f"kernels: not compiled here, nothing to compare{': --strict asks for it' if strict else ''}")
        return not strict
    above = []
    progress.begin([0.3] * len(CASES))
    gc.disable()  # it would strike whoever allocates next
    try:
        for name, kernel, arguments in CASES:
            ceiling = CEILINGS.get(name, CEILING)
            progress.show("kernel", name, f"ceiling {ceiling:g}")
            compiled, pure = measure(*selves(kernel, arguments), ROUNDS)
            if compiled > ceiling * pure:
                above.append(f"{name}: {compiled / pure:.2f} of its uncompiled self (ceiling {ceiling:g})")
            progress.done()
            gc.collect()
    finally:
        gc.enable()
        progress.end()
    for line in above:
        print(f"  ✗ {line}")
    print(f"kernels: {len(CASES) - len(above)} of {len(CASES)} keep their ceiling")
    return not above
