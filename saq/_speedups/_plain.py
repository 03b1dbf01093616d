"""JSON for the values that nearly all values are: plain builtin types.

Owns the decision whether orjson writes and reads a value just as the standard library does. What it declines
is `saq/serializer.py`'s to deal with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

# Looked up once: these are called for every job.
_orjson_dumps = orjson.dumps
_orjson_loads = orjson.loads

# orjson reads integers from 2**64 on and below -2**63 as floats. The first has 20 digits, the second 19 and a
# sign, so with all digits made alike they are found by a plain search.
_ALIKE = bytes(48 if 48 <= byte <= 57 else byte for byte in range(256))
_DIGITS_19 = b"0" * 19
_DIGITS_20 = b"0" * 20
_MINUS_19 = b"-" + _DIGITS_19


def dump_plain(value: Any) -> bytes | None:
    """``value`` as JSON, or None where orjson would not do as ``json`` does."""
    try:
        # orjson goes first: once it has agreed, the value is known to be neither circular nor deep, and only
        # a few types are left to look for.
        data = _orjson_dumps(value)
        if type(value) is dict:
            return data if _is_plain(value.values()) else None
        return data if _is_plain((value,)) else None
    except Exception:
        return None


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether all is of exactly the types, and finite, that orjson writes as ``json`` does.

    A loop, as it beats ``issuperset(map(type, values))`` for the few values that there mostly are, and
    compiles well. Dict keys need no look: orjson takes none but exact strings.
    """
    for value in values:
        kind = type(value)
        if kind is str or kind is int or value is None or kind is bool:
            continue
        if kind is float:
            # NaN or infinite. Cheaper than calling isfinite().
            if value - value != 0.0:
                return False
        elif kind is dict:
            if not _is_plain(value.values()):
                return False
        elif kind is list or kind is tuple:
            if not _is_plain(value):
                return False
        else:
            return False
    return True


def load_plain(data: bytes) -> Any:
    """What ``dump_plain`` wrote, or another program. Raises ValueError where orjson would not do as ``json``
    does, or where it is not JSON."""
    if len(data) >= 20 and data.translate(_ALIKE).find(_DIGITS_19) >= 0 and _exceeds(data):
        raise ValueError("an integer beyond 64 bits")
    return _orjson_loads(data)


def _exceeds(data: bytes) -> bool:
    """Whether there may be an integer that orjson would read as a float.

    Apart from the test for 19 digits, as those are common: a time in nanoseconds has as many.
    """
    alike = data.translate(_ALIKE)
    return alike.find(_DIGITS_20) >= 0 or alike.find(_MINUS_19) >= 0
