"""The default serializer: what a queue stores of a job's arguments and result, and reads back.

Owns the way from a Python value to bytes and back, and the promise that nothing is lost on it
unnoticed. Must not know of jobs, queues or Redis, keep any state, or guess at a representation
for what JSON has none for: that is refused, by name.

The promise has two halves:

* What the standard library's ``json`` can say comes back just as
  ``json.loads(json.dumps(value))`` brings it back. Tuples become lists, keys become strings.
* What JSON cannot say (NaN, sets, bytes, datetimes, UUIDs, dataclasses, plain enums, ...) raises
  ``SerializationError`` when written. What is not JSON raises ``DecodeError`` when read.

orjson does the work wherever it does the same as ``json``. Left alone it also writes NaN as null
and enums, dataclasses, datetimes and UUIDs as something else; it can neither write nor read a lone
surrogate or an integer beyond 64 bits, which it reads as a float. Whatever is not made of plain
builtin types alone therefore goes through ``json``, and is marked with a leading space, so that it
is read by ``json`` as well. A leading space is valid JSON to every reader, and orjson never writes
one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from saq._speedups import dump_plain, load_plain
from saq.errors import DecodeError, SerializationError

__all__ = ["dumps", "explain", "loads"]

_MARK = b" "

_ADVICE = "convert it first{}, or give the queue its own dump and load"

# How to convert what people try most, by the name of the class or of one of its bases.
_CONVERSIONS = {
    "set": "list(...)",
    "frozenset": "list(...)",
    "bytes": ".decode(), or base64",
    "bytearray": ".decode(), or base64",
    "datetime": ".isoformat()",
    "date": ".isoformat()",
    "time": ".isoformat()",
    "timedelta": ".total_seconds()",
    "UUID": "str(...)",
    "Decimal": "str(...)",
    "PurePath": "str(...)",
    "Enum": ".value",
    "generic": ".item()",  # any scalar of numpy
    "ndarray": ".tolist()",
    "int": "hex(...)",  # one with more digits than Python writes
    "float": "None, or a string",
}


def dumps(value: Any, root: str = "value") -> bytes:
    """Write ``value`` as JSON.

    Raises ``SerializationError`` if JSON cannot say it. The message names the place, beginning
    with ``root``: ``kwargs['data'][2]['when']``.
    """
    data = dump_plain(value)
    if data is not None:
        return data
    try:
        return _MARK + _ENCODER.encode(value).encode()
    except Exception as error:
        raise SerializationError(explain(value, root) or _unexplained(error, root)) from error


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Read JSON, whether ``dumps`` wrote it or another program.

    Raises ``DecodeError``, and nothing else, if it is not JSON.
    """
    if type(data) is not bytes:
        data = _to_bytes(data)
    try:
        return load_plain(data)
    except ValueError:
        pass  # What is marked; and big integers, lone surrogates and deep nesting are JSON nevertheless.
    try:
        # Not left to ``json.loads``, which would guess at UTF-16 and let raw surrogates pass.
        return _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise DecodeError(_undecodable(data, error)) from error


def explain(value: Any, root: str = "value") -> str:
    """Say what in ``value`` JSON cannot say, where it is and what to do; "" if there is nothing."""
    # Walks as ``json`` does, so as to name the same thing, but on a stack of its own: the value
    # may well be here for being nested too deeply.
    keys: list[Any] = []  # of the containers in ``around``; the first, the root's, stands for none
    around: list[Any] = []
    depths: dict[int, int] = {}
    # Containers known to be fine. Without this, ones shared many times over would take forever.
    fine: dict[int, Any] = {}
    levels: list[Iterator[tuple[Any, Any]]] = [iter([(None, value)])]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            if around:
                done = around.pop()
                del depths[id(done)]
                fine[id(done)] = done
                keys.pop()
            continue
        key, item = entry
        # Never isinstance(): ``json`` goes by the real type too, and mocks lie about theirs.
        if around and issubclass(type(around[-1]), dict) and not _is_scalar(key):
            return f"{_path(root, keys)} has the key {_describe(key)}; {_advice(key)}"
        if not issubclass(type(item), (dict, list, tuple)):
            if not _is_scalar(item):
                return f"{_path(root, [*keys, key])} is {_describe(item)}; {_advice(item)}"
            continue
        if id(item) in fine:
            continue
        if id(item) in depths:
            return (
                f"{_path(root, [*keys, key])} leads back to "
                f"{_path(root, keys[: depths[id(item)] + 1])}, a circular reference, which JSON "
                "cannot say; break the circle, or give the queue its own dump and load"
            )
        try:
            entries = _entries(item)
        except Exception as error:
            return f"{_path(root, [*keys, key])} cannot be iterated over: {_show(error)}"
        depths[id(item)] = len(around)
        keys.append(key)
        around.append(item)
        levels.append(iter(entries))
    return ""


def _to_bytes(data: object) -> bytes:
    try:
        if isinstance(data, str):
            # Lone surrogates become bytes that are not UTF-8, and are reported as such.
            return data.encode("utf-8", "surrogatepass")
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
    except ValueError as error:
        raise DecodeError(f"cannot get at the JSON to read: {error}") from error
    raise DecodeError(
        f"cannot be read as JSON: expected bytes or str, got {_show(data)} of type {_type_name(data)}"
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{_shorten(digits)} is beyond what a float can hold")
    return number


# As strict as orjson, so that a document does not mean something else with the mark than without.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _undecodable(data: bytes, error: Exception) -> str:
    """The message for bytes that are not JSON."""
    near = 0
    if not data:
        what = "there is nothing"
    elif isinstance(error, UnicodeDecodeError):
        near = error.start
        what = f"not UTF-8 at byte {near}"
    elif isinstance(error, json.JSONDecodeError):
        # It counts characters, but the bytes are what can be looked at.
        near = len(error.doc[: error.pos].encode())
        what = f"{error.msg} at byte {near}"
    elif isinstance(error, RecursionError):
        what = "nested too deeply"
    else:
        what = str(error)
    return (
        f"cannot be read as JSON: {what} (these are {len(data)} bytes, "
        f"{'near' if near else 'beginning with'} {data[max(0, near - 20) : near + 20]!r}); "
        "if a queue with its own dump wrote them, read them with its load"
    )


def _unexplained(error: Exception, root: str) -> str:
    """The message for when the value itself shows no fault."""
    if isinstance(error, RecursionError):
        return f"{root} is nested too deeply for JSON; {_ADVICE.format(' to something flatter')}"
    return f"{root} cannot be written as JSON: {_show(error)}; {_ADVICE.format('')}"


def _is_scalar(item: Any) -> bool:
    kind = type(item)
    if issubclass(kind, float):
        return math.isfinite(item)
    if issubclass(kind, int):
        try:
            int.__repr__(item)
        except ValueError:  # more digits than sys.set_int_max_str_digits() allows
            return False
        return True
    return item is None or issubclass(kind, str)


def _entries(item: Any) -> list[tuple[Any, Any]]:
    """What ``json`` would write of a container, in the same order."""
    if issubclass(type(item), dict):
        return [(key, entry) for key, entry in item.items()] if len(item) else []
    return list(enumerate(item))


def _path(root: str, keys: list[Any]) -> str:
    steps = keys[1:]
    if len(steps) > 12:
        return f"{_path(root, keys[:7])}...{_path('', keys[-6:])}"
    return root + "".join(f"[{_show(key)}]" for key in steps)


def _describe(item: Any) -> str:
    return f"{_show(item)} of type {_type_name(item)}, which JSON cannot say"


def _type_name(item: Any) -> str:
    kind = type(item)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _advice(item: Any) -> str:
    kind = type(item)
    if hasattr(kind, "__dataclass_fields__"):
        return _ADVICE.format(" (dataclasses.asdict(...))")
    for base in kind.__mro__:
        if base.__name__ in _CONVERSIONS:
            return _ADVICE.format(f" ({_CONVERSIONS[base.__name__]})")
    return _ADVICE.format("")


def _show(item: Any) -> str:
    """A short ``repr`` that does not fail, whatever the item's own one does."""
    kind = type(item)
    try:
        if issubclass(kind, (str, bytes, bytearray)):
            item = item[:80]  # It may be megabytes.
        return _shorten(repr(item))
    except Exception:
        # Integers have no repr beyond some thousands of digits.
        return f"<{item.bit_length()} bits>" if kind is int else f"<{kind.__name__}>"


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
