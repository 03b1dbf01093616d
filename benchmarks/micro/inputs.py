"""What each kernel is measured with: the kernel's name, and arguments as the worker hands them to it.

Owns the inputs alone. Must not know which self of a kernel runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from saq.errors import DecodeError
from saq.serializer import dumps, loads

_NOW = 1_767_225_600_000
_KWARGS = {"user": 48151623, "mail": "somebody@example.org", "tags": ["a", "b", "c"], "urgent": False}
_PAYLOAD = b'{"function":"send_mail","kwargs":{"user":48151623,"mail":"somebody@example.org","tags":["a"]}}'
_COMMON: dict[str, Any] = {
    "queue": None,
    "status": "active",
    "started": _NOW,
    "touched": _NOW,
    "worker_id": "9f8a3c5e7b21",
    "attempts": 1,
    "_charged": 1,
    "_suffix": b";a1;b1767225600000;w9f8a3c5e7b21",
}


class Handle:
    """Stands for ``Job``."""


def _finish(fields: dict[str, Any], history: Any) -> None:
    if history:
        raise DecodeError("not in these measurements")


def _answer(value: bytes, jobs: int) -> list[Any]:
    answer: list[Any] = [_NOW, -1, b"", b""]
    for number in range(jobs):
        answer += [b"%d:019b7a3c5e000000%02x9f8a3c5e7b" % (41_000 + number, number), value, 0]
    return answer


#: Stand for `dump_plain` and `load_plain` of the self that is measured: each works with its own.
DUMP, LOAD = object(), object()


def _pack(kwargs: dict[str, Any] | None, timeout: float, retries: int) -> tuple[Any, ...]:
    return ("send_mail", kwargs, 0, 600, timeout, retries, 0, 0, 0.0, False, None, {}, 0.0, None, DUMP, dumps)


_BARE = b"%d\n%b" % (_NOW, b'{"function":"noop"}')
_FULL = b"%d;p5;T30;r3\n%b" % (_NOW, _PAYLOAD)
_RECORD = b"%d;T30;Scomplete;a1;b%d;w9f8a3c5e7b21;o11;c%d\n%b%b" % (
    _NOW,
    _NOW + 3,
    _NOW + 9,
    _PAYLOAD,
    b'{"sent":1}\n',
)

#: (what it is called in the table, kernel, arguments).
CASES: list[tuple[str, str, tuple[Any, ...]]] = [
    ("new_key", "new_key", ()),
    ("pack_value, defaults", "pack_value", _pack(None, 10, 1)),
    ("pack_value, kwargs and header", "pack_value", _pack(_KWARGS, 30, 3)),
    ("pack_enqueue, 50 jobs", "pack_enqueue", ([(b"key", b"value", False, None)] * 50,)),
    ("pack_end, no result", "pack_end", (b"C", _COMMON["_suffix"], b"", None, b"")),
    ("pack_end, a result", "pack_end", (b"C", _COMMON["_suffix"], b'{"sent":1}', None, b"")),
    (
        "unpack_claims, 50 bare jobs",
        "unpack_claims",
        (_answer(_BARE, 50), 4, _COMMON, Handle, LOAD, loads, _finish),
    ),
    (
        "unpack_claims, 50 full jobs",
        "unpack_claims",
        (_answer(_FULL, 50), 4, _COMMON, Handle, LOAD, loads, _finish),
    ),
    ("unpack_value", "unpack_value", (_FULL, LOAD, loads)),
    ("unpack_payload", "unpack_payload", (_PAYLOAD, LOAD, loads)),
    ("unpack_record", "unpack_record", (_RECORD,)),
    ("key_of", "key_of", (b"41000:019b7a3c5e000000009f8a3c5e7b",)),
    ("join_netstrings, 3 parts", "join_netstrings", ([b"meta", b'{"step":3}', b"x" * 200],)),
    ("split_netstrings, 3 parts", "split_netstrings", (b'4:meta10:{"step":3}200:' + b"x" * 200,)),
    ("dump_plain", "dump_plain", ({"function": "send_mail", "kwargs": _KWARGS},)),
    ("load_plain", "load_plain", (_PAYLOAD,)),
]


def selves(kernel: str, arguments: tuple[Any, ...]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The compiled and the uncompiled self of a kernel, with its arguments. Raises ImportError if it is not
    compiled here."""
    from saq._speedups import _codec, _codec_c, _plain, _plain_c  # type: ignore[attr-defined]

    bound = []
    for codec, plain in ((_codec_c, _plain_c), (_codec, _plain)):
        function = getattr(plain if hasattr(plain, kernel) else codec, kernel)
        own = {id(DUMP): plain.dump_plain, id(LOAD): plain.load_plain}
        bound.append(functools.partial(function, *(own.get(id(item), item) for item in arguments)))
    return bound[0], bound[1]
