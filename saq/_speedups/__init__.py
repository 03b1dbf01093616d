"""The kernels of the hot path: one source, compiled where there is a compiler.

Owns the choice between the compiled self of each kernel module and its uncompiled source. The kernels are
functions of builtins; they know neither asyncio nor Redis.
"""

from __future__ import annotations

from saq._speedups._codec import (
    join_netstrings,
    new_key,
    pack_header,
    split_netstrings,
    unpack_header,
)

COMPILED = False

__all__ = [
    "COMPILED",
    "join_netstrings",
    "new_key",
    "pack_header",
    "split_netstrings",
    "unpack_header",
]
