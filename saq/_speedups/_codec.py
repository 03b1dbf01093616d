"""Bytes to builtins and back: keys, headers, netstrings.

Owns the byte formats that Redis holds. Must not know asyncio, Redis or ``Job``: only builtins come in and go
out, so that both selves of this module can be compared input by input.

A stored value is ``<queued ms>;<tag><value>;...\\n<payload>``. A tag is one letter; a default takes no room.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

#: Defaults of the header's fields, as `Job` has them. A field at its default is left out.
DEFAULT_TTL = 600
DEFAULT_TIMEOUT = 10
DEFAULT_RETRIES = 1

_counter = itertools.count()
_process = os.urandom(5).hex()


def _renew_process() -> None:
    """A fork must not go on with its parent's keys."""
    global _process
    _process = os.urandom(5).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process)


def new_key() -> str:
    """A key that nobody else has, in the order of time: microseconds, process, count."""
    return f"{time.time_ns() // 1000:013x}{_process}{next(_counter) & 0xFFFFFF:06x}"


def pack_header(priority: int, ttl: float, timeout: float, retries: int, scheduled: float) -> bytes:
    """The header of a new job, without its time of queueing (the server sets it)."""
    if (
        priority == 0
        and ttl == DEFAULT_TTL
        and timeout == DEFAULT_TIMEOUT
        and retries == DEFAULT_RETRIES
        and not scheduled
    ):
        return b""
    head = ""
    if priority:
        head = f";p{priority}"
    if ttl != DEFAULT_TTL:
        head = f"{head};t{ttl!r}"
    if timeout != DEFAULT_TIMEOUT:
        head = f"{head};T{timeout!r}"
    if retries != DEFAULT_RETRIES:
        head = f"{head};r{retries}"
    if scheduled:
        head = f"{head};s{scheduled!r}"
    return head.encode()


_NUMBERS = {
    b"p": "priority",
    b"t": "ttl",
    b"T": "timeout",
    b"r": "retries",
    b"s": "scheduled",
    b"a": "attempts",
    b"b": "started",
    b"c": "completed",
    b"o": "outcome_length",
    b"e": "error_length",
    b"m": "patch_length",
}


def unpack_header(head: bytes) -> dict[str, Any]:
    """The fields of a header by name. An unknown tag, from a newer version, is left out.

    Raises ValueError if it is none.
    """
    parts = head.split(b";")
    fields: dict[str, Any] = {"queued": int(parts[0])}
    for part in parts[1:]:
        tag = part[:1]
        text = part[1:]
        if tag in _NUMBERS:
            try:
                fields[_NUMBERS[tag]] = int(text)
            except ValueError:
                fields[_NUMBERS[tag]] = float(text)
        elif tag == b"S":
            fields["status"] = text.decode("ascii")
        elif tag == b"w":
            fields["worker_id"] = text.decode("ascii")
    return fields


def join_netstrings(parts: list[bytes]) -> bytes:
    """``3:abc`` for each part, one after the other (cr.yp.to/proto/netstrings.txt, without commas)."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def split_netstrings(data: bytes) -> list[bytes]:
    """The parts again. Raises ValueError if that is not what it is."""
    parts = []
    at = 0
    end = len(data)
    while at < end:
        colon = data.index(b":", at)
        start = colon + 1
        at = start + int(data[at:colon])
        if at > end or at < start:
            raise ValueError("a netstring is cut off")
        parts.append(data[start:at])
    return parts
