"""The kernels of the hot path: one source, compiled where there is a compiler.

Owns the choice between the compiled self of each kernel module (`_codec_c`) and its uncompiled source
(`_codec`). The kernels are functions of builtins; they know neither asyncio nor Redis.

    SAQ_NO_SPEEDUPS=1       use the uncompiled selves
    SAQ_REQUIRE_SPEEDUPS=1  an ImportError rather than that
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


_NO, _REQUIRE = _is_set("SAQ_NO_SPEEDUPS"), _is_set("SAQ_REQUIRE_SPEEDUPS")
if _NO and _REQUIRE:
    raise ImportError("SAQ_NO_SPEEDUPS and SAQ_REQUIRE_SPEEDUPS contradict each other: unset one")

#: Whether the compiled selves run.
COMPILED = False

if not TYPE_CHECKING and not _NO:
    try:
        from saq._speedups import _codec_c as codec
        from saq._speedups import _plain_c as plain

        COMPILED = True
    except ImportError as error:
        if _REQUIRE:
            raise ImportError(
                "SAQ_REQUIRE_SPEEDUPS is set and the compiled kernels are missing: install from source "
                f"with a C compiler and Cython, or unset it ({error})"
            ) from error
        from saq._speedups import _codec as codec
        from saq._speedups import _plain as plain
else:
    from saq._speedups import _codec as codec
    from saq._speedups import _plain as plain

#: Where the kernels that run come from.
FILE = codec.__file__

FIELD_TYPES = codec.FIELD_TYPES
dump_plain = plain.dump_plain
join_netstrings = codec.join_netstrings
key_of = codec.key_of
load_plain = plain.load_plain
new_key = codec.new_key
pack_end = codec.pack_end
pack_enqueue = codec.pack_enqueue
pack_value = codec.pack_value
split_netstrings = codec.split_netstrings
unpack_claims = codec.unpack_claims
unpack_payload = codec.unpack_payload
unpack_record = codec.unpack_record
unpack_value = codec.unpack_value

__all__ = [
    "COMPILED",
    "FIELD_TYPES",
    "FILE",
    "dump_plain",
    "join_netstrings",
    "key_of",
    "load_plain",
    "new_key",
    "pack_end",
    "pack_enqueue",
    "pack_value",
    "split_netstrings",
    "unpack_claims",
    "unpack_payload",
    "unpack_record",
    "unpack_value",
]
