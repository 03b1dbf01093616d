"""JSON for the values that nearly all values are: plain builtin types.

Owns the decision whether orjson writes and reads a value just as the standard library does. What it declines
is `saq/serializer.py`'s to deal with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from saq._speedups import _cython as cython
else:
    try:
        import cython
    except ImportError:
        from saq._speedups import _cython as cython

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
    does, where it is not JSON, or not for orjson to read."""
    if _is_foreign(data):
        raise ValueError("an integer beyond 64 bits, or marked as json's own")
    return _orjson_loads(data)


@cython.cfunc
@cython.returns(cython.bint)
@cython.locals(
    data=bytes, end=cython.Py_ssize_t, at=cython.Py_ssize_t, first=cython.Py_ssize_t, last=cython.Py_ssize_t
)
def _is_foreign(data: bytes) -> bool:
    """Whether it begins with a space, or there may be an integer that orjson would read as a float."""
    if cython.compiled:
        end = len(data)
        if end > 0 and data[0] == 32:
            return True
        # A run of 19 digits covers one of every 19 bytes: only from there need it be followed both ways.
        at = 18
        while at < end:
            if data[at] < 48 or data[at] > 57:
                at += 19
                continue
            first = at
            while first > 0 and 48 <= data[first - 1] <= 57:
                first -= 1
            last = at + 1
            while last < end and 48 <= data[last] <= 57:
                last += 1
            if last - first > 19 or (last - first == 19 and first > 0 and data[first - 1] == 45):
                return True
            at = last + 18
        return False
    else:
        if data[:1] == b" ":
            return True
        if len(data) < 20:
            return False
        # Apart from the test for 20 digits, as 19 are common: a time in nanoseconds has as many.
        alike = data.translate(_ALIKE)
        return alike.find(_DIGITS_19) >= 0 and (alike.find(_DIGITS_20) >= 0 or alike.find(_MINUS_19) >= 0)
