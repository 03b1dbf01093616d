"""Bytes to builtins and back: keys, headers, netstrings.

Owns the byte formats that Redis holds. Must not know asyncio, Redis or ``Job``: only builtins come in and go
out, so that both selves of this module can be compared input by input.

A stored value is ``<queued ms>;<tag><value>;...\\n<payload>``. A tag is one letter; a default takes no room.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from saq.errors import DecodeError

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


#: The fields of a payload and what each may be.
_NUMBER = (int, float)
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "function": (str,),
    "kwargs": (dict, type(None)),
    "heartbeat": (int, float, type(None)),
    "retry_delay": _NUMBER,
    "retry_backoff": (bool, int, float),
    "group_key": (str, type(None)),
    "meta": (dict,),
    "progress": _NUMBER,
    "error": (str, type(None)),
}


def unpack_payload(payload: bytes, load: Callable[[bytes], Any]) -> dict[str, Any]:
    """The fields of a payload by name. Raises ``DecodeError``, and what ``load`` raises.

    A field that this release does not know is left out, so that old and new workers can run side by side.
    """
    fields = load(payload)
    if type(fields) is not dict:
        raise DecodeError(f"a job is an object, this is {type(fields).__name__}: {payload[:60]!r}")
    function = fields.get("function")
    if type(function) is not str:
        raise DecodeError(f"a job names its function, this one has {function!r}")
    kwargs = fields.get("kwargs")
    known = 1
    if kwargs is not None:
        if type(kwargs) is not dict:
            raise DecodeError(f"the kwargs of a job are an object, not {type(kwargs).__name__}")
        known = 2
    if len(fields) == known:
        fields["meta"] = {}
        return fields
    picked = {}
    for name, value in fields.items():
        types = FIELD_TYPES.get(name)
        if types is None:
            continue
        if not isinstance(value, types):
            raise DecodeError(f"the field {name} of a job cannot be {value!r}")
        picked[name] = value
    if "meta" not in picked:
        picked["meta"] = {}
    return picked


def unpack_value(value: bytes, load: Callable[[bytes], Any]) -> dict[str, Any]:
    """The fields of an incomplete job by name. Raises ``DecodeError``, and what ``load`` raises."""
    if value[13:14] == b"\n":  # all defaults: nothing but its time
        fields = unpack_payload(value[14:], load)
        head = value[:13]
        if not head.isdigit():
            raise DecodeError(f"the header {head!r} is damaged")
        fields["queued"] = int(head)
        return fields
    head, _, payload = value.partition(b"\n")
    try:
        header = unpack_header(head)
    except ValueError as error:
        raise DecodeError(f"the header {head[:60]!r} is damaged: {error}") from None
    fields = unpack_payload(payload, load)
    fields.update(header)
    return fields


def unpack_claims(
    answer: list[Any], start: int, common: dict[str, Any], load: Callable[[bytes], Any]
) -> list[Any]:
    """The jobs that a step claimed, each as the attributes of its handle, or the ``DecodeError`` it raised.

    ``answer`` holds member, value, history for each from ``start`` on; ``common`` is what all have alike.
    """
    claims: list[Any] = []
    for i in range(start, len(answer), 3):
        member = answer[i]
        try:
            fields = unpack_value(answer[i + 1], load)
        except DecodeError as error:
            claims.append(error)
            continue
        fields.update(common)
        fields["key"] = key_of(member)
        fields["_member"] = member
        claims.append(fields)
    return claims


def key_of(member: bytes) -> str:
    """The key in ``<token>:<key>``. Any text is a key, lone surrogates included."""
    key = member[member.index(b":") + 1 :]
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key.decode("utf-8", "surrogatepass")


def pack_end(
    kind: bytes, suffix: bytes, outcome: bytes, error: bytes | None, patch: bytes
) -> tuple[bytes, bytes]:
    """Head and body of a settlement that ends a job: their lengths stand in the head."""
    head = kind + suffix
    if outcome:
        head = b"%b;o%d" % (head, len(outcome))
    if error is not None:
        head = b"%b;e%d" % (head, len(error))
        outcome = outcome + error
    if patch:
        head = b"%b;m%d" % (head, len(patch))
        outcome = outcome + patch
    return head, outcome


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
