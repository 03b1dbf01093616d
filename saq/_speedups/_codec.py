"""Bytes to builtins and back: keys, jobs, records, netstrings, the arguments of calls.

Owns the byte formats that Redis holds. Must not know asyncio, Redis or ``Job``: only builtins come in and go
out, so that both selves of this module can be compared input by input.

A stored value is ``<queued ms>;<tag><value>;...\\n<payload>``. A tag is one letter; a default takes no room.
A record is the same, with more tags, and outcome, error and patch behind the payload.

Whatever bytes come in: what is no job raises ``DecodeError``. The C types below are for lengths and positions
alone; times, numbers and whatever a user gave stay Python objects, which have no edge to fall off.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from saq.errors import DecodeError

if TYPE_CHECKING:
    from saq._speedups import _cython as cython
else:
    try:
        import cython
    except ImportError:
        from saq._speedups import _cython as cython

#: No string in Redis is longer than 512 MB: a length with more digits is none.
_LENGTH_DIGITS = 9

_next_count = itertools.count().__next__
_now_ns = time.time_ns
_process = os.urandom(5).hex()
#: The latest millisecond and its digits. One object, so that no thread finds the one without the other.
_latest: tuple[int, str] = (0, "")


def _renew_process() -> None:
    """A fork must not go on with its parent's keys."""
    global _process
    _process = os.urandom(5).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process)


@cython.locals(count=cython.uint)
def new_key() -> str:
    """A key that nobody else has, in the order of time: milliseconds, count, process."""
    global _latest
    now = _now_ns() // 1_000_000
    latest = _latest
    if latest[0] != now:
        latest = _latest = (now, f"{now:011x}")
    count = _next_count() & 0xFFFFFF
    return f"{latest[1]}{count:06x}{_process}"


# Jobs on their way in ---------------------------------------------------------------------------------------


@cython.locals(payload=dict)
def pack_value(
    function: str,
    kwargs: dict[str, Any] | None,
    priority: int,
    ttl: float,
    timeout: float,
    retries: int,
    scheduled: float,
    heartbeat: float | None,
    retry_delay: float,
    retry_backoff: bool | float,
    group_key: str | None,
    meta: dict[Any, Any],
    progress: float,
    extra: dict[str, Any] | None,
    quick: Callable[[dict[str, Any]], bytes | None],
    dump: Callable[[dict[str, Any]], bytes],
) -> bytes:
    """A new job's stored value, but for its time of queueing, which the server sets.

    Raises what ``dump`` does. ``extra`` holds the fields that a subclass has added. ``dump`` writes what
    ``quick`` declines with None.
    """
    payload: dict[str, Any] = {"function": function}
    if kwargs:
        payload["kwargs"] = kwargs
    if heartbeat:
        payload["heartbeat"] = heartbeat
    if retry_delay:
        payload["retry_delay"] = retry_delay
    if retry_backoff is not False:
        payload["retry_backoff"] = retry_backoff
    if group_key is not None:
        payload["group_key"] = group_key
    if meta:
        payload["meta"] = meta
    if progress:
        payload["progress"] = progress
    if extra is not None:
        payload.update(extra)
    data = quick(payload)
    if data is None:
        data = dump(payload)
    if priority == 0 and ttl == 600 and timeout == 10 and retries == 1 and not scheduled:
        return b"\n" + data
    head = ""
    if priority != 0:
        head = f";p{priority}"
    if ttl != 600:
        head = f"{head};t{ttl!r}"
    if timeout != 10:
        head = f"{head};T{timeout!r}"
    if retries != 1:
        head = f"{head};r{retries}"
    if scheduled:
        head = f"{head};s{scheduled!r}"
    return f"{head}\n".encode() + data


@cython.locals(arguments=list, flags=list)
def pack_enqueue(items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The arguments of an enqueue: flags, then key, value of each of ``items`` (key, value, waits, ...)."""
    arguments: list[Any] = [None]
    flags: list[str] = []
    for item in items:
        arguments.append(item[0])
        arguments.append(item[1])
        flags.append("w" if item[2] else "-")
    arguments[0] = "".join(flags)
    return arguments


def pack_end(
    kind: bytes, suffix: bytes, outcome: bytes, error: bytes | None, patch: bytes
) -> tuple[bytes, bytes]:
    """Head and body of a settlement that ends a job: their lengths stand in the head."""
    if not outcome and error is None and not patch:
        return kind + suffix, outcome
    lengths = ""
    body = outcome
    if outcome:
        lengths = f";o{len(outcome)}"
    if error is not None:
        lengths = f"{lengths};e{len(error)}"
        body = body + error
    if patch:
        lengths = f"{lengths};m{len(patch)}"
        body = body + patch
    return b"".join((kind, suffix, lengths.encode("ascii"))), body


# Jobs on their way back -------------------------------------------------------------------------------------

#: The header's fields that are whole numbers, and those that need not be.
_WHOLE = {
    b"p": "priority",
    b"r": "retries",
    b"a": "attempts",
    b"b": "started",
    b"c": "completed",
    b"o": "outcome",
    b"e": "error",
    b"m": "patch",
}
_NUMBERS = {b"t": "ttl", b"T": "timeout", b"s": "scheduled"}
_TEXTS = {b"S": "status", b"w": "worker_id"}
#: What of them a job that is not finished can have.
_INCOMPLETE = frozenset((b"p", b"r", b"t", b"T", b"s"))

#: By another name, as the compiler has a parser of its own for `float(...)`, with other messages.
_to_float = float

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


@cython.cfunc
def _show(value: Any) -> str:
    """What it is, in a few words: it may be megabytes, or nested so deeply that it has no ``repr``."""
    if value is None or type(value) is bool or type(value) is float:
        return repr(value)
    if type(value) is bytes or type(value) is str:
        text = repr(value[:60])
        return text if len(text) <= 80 else f"{text[:77]}..."
    if type(value) is int and -(10**20) < value < 10**20:
        return repr(value)
    return f"of type {type(value).__name__}"


@cython.cfunc
def _number(text: bytes) -> Any:
    """A number in a header. Raises ValueError if it is none, or not finite."""
    try:
        return int(text)
    except ValueError:
        pass
    number = _to_float(text)
    if number - number != 0.0:
        raise ValueError(f"{_show(text)} is not finite")
    return number


@cython.cfunc
@cython.locals(fields=dict, head=bytes, finished=cython.bint, part=bytes, tag=bytes)
def _fill_header(fields: dict[str, Any], head: bytes, finished: bool) -> None:
    """Puts the fields of a header into ``fields``. A tag of a newer release is left out.

    Raises ValueError if it is none.
    """
    parts = head.split(b";")
    fields["queued"] = int(parts[0])
    for part in parts[1:]:
        tag = part[:1]
        if not finished and tag not in _INCOMPLETE:
            continue
        if tag in _WHOLE:
            fields[_WHOLE[tag]] = int(part[1:])
        elif tag in _NUMBERS:
            fields[_NUMBERS[tag]] = _number(part[1:])
        elif tag in _TEXTS:
            fields[_TEXTS[tag]] = part[1:].decode("ascii")


@cython.cfunc
@cython.locals(fields=dict, payload=bytes, loaded=dict)
def _fill_payload(
    fields: dict[str, Any], payload: bytes, quick: Callable[[bytes], Any], load: Callable[[bytes], Any]
) -> None:
    """Puts the fields of a payload into ``fields``. One that this release does not know is left out."""
    try:
        anything = quick(payload)
    except DecodeError:
        raise
    except ValueError:
        anything = load(payload)
    if type(anything) is not dict:
        raise DecodeError(f"a job is an object, this is {type(anything).__name__}: {_show(payload)}")
    loaded: dict[str, Any] = anything
    function = loaded.get("function")
    if type(function) is not str:
        raise DecodeError(f"a job names its function, this one has {_show(function)}")
    fields["function"] = function
    kwargs = loaded.get("kwargs")
    if kwargs is None:
        if len(loaded) == 1:
            fields["meta"] = {}
            return
    elif type(kwargs) is not dict:
        raise DecodeError(f"the kwargs of a job are an object, not {type(kwargs).__name__}")
    else:
        fields["kwargs"] = kwargs
        if len(loaded) == 2:
            fields["meta"] = {}
            return
    meta: Any = None
    for name, value in loaded.items():
        types = FIELD_TYPES.get(name)
        if types is None:
            continue
        if not isinstance(value, types):
            raise DecodeError(f"the field {name} of a job cannot be {_show(value)}")
        fields[name] = value
        if name == "meta":
            meta = value
    if meta is None:
        fields["meta"] = {}


@cython.cfunc
@cython.returns(cython.bint)
@cython.locals(value=bytes, i=cython.Py_ssize_t)
def _is_bare(value: bytes) -> bool:
    """Whether its header is a time alone, as that of nearly all is."""
    if cython.compiled:
        if len(value) < 14 or value[13] != 10:
            return False
        i = 0
        while i < 13:
            if value[i] < 48 or value[i] > 57:
                return False
            i += 1
        return True
    else:
        return value[13:14] == b"\n" and value[:13].isdigit()


@cython.cfunc
@cython.locals(fields=dict, value=bytes, head=bytes, newline=bytes, payload=bytes)
def _fill(
    fields: dict[str, Any], value: bytes, quick: Callable[[bytes], Any], load: Callable[[bytes], Any]
) -> None:
    """Puts the fields of an incomplete job into ``fields``."""
    if _is_bare(value):
        fields["queued"] = int(value[:13])
        _fill_payload(fields, value[14:], quick, load)
        return
    head, newline, payload = value.partition(b"\n")
    try:
        if not newline:
            raise ValueError("it has no end")
        _fill_header(fields, head, False)
    except ValueError as error:
        raise DecodeError(f"the header {_show(head)} is damaged: {error}") from None
    _fill_payload(fields, payload, quick, load)


def unpack_value(value: bytes, quick: Callable[[bytes], Any], load: Callable[[bytes], Any]) -> dict[str, Any]:
    """The fields of an incomplete job by name. Raises ``DecodeError``, and what ``load`` raises.

    ``load`` reads what ``quick`` declines with a ValueError that is no ``DecodeError``. A field that this
    release does not know is left out, so that old and new workers can run side by side.
    """
    if type(value) is not bytes:
        raise DecodeError(f"a job is stored as bytes, not as {type(value).__name__}")
    fields: dict[str, Any] = {}
    _fill(fields, value, quick, load)
    return fields


def unpack_payload(
    payload: bytes, quick: Callable[[bytes], Any], load: Callable[[bytes], Any]
) -> dict[str, Any]:
    """The fields of a payload by name, as ``unpack_value`` does it."""
    if type(payload) is not bytes:
        raise DecodeError(f"a payload is stored as bytes, not as {type(payload).__name__}")
    fields: dict[str, Any] = {}
    _fill_payload(fields, payload, quick, load)
    return fields


def unpack_record(record: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes, bytes]:
    """A finished job: the fields of its header, then payload, outcome, error and patch as they are stored.

    Raises ``DecodeError``. ``status`` is always among the fields.
    """
    if type(record) is not bytes:
        raise DecodeError(f"a record is stored as bytes, not as {type(record).__name__}")
    head, newline, rest = record.partition(b"\n")
    fields: dict[str, Any] = {}
    try:
        if not newline:
            raise ValueError("it has no end")
        _fill_header(fields, head, True)
        if fields.get("status") not in ("complete", "failed", "aborted"):
            raise ValueError(f"{_show(fields.get('status'))} is no status of a finished job")
        outcome, error, patch = fields.pop("outcome", 0), fields.pop("error", 0), fields.pop("patch", 0)
        behind = len(rest)
        if outcome < 0 or error < 0 or patch < 0 or outcome + error + patch > behind:
            raise ValueError(f"it speaks of more than the {behind} bytes that there are")
    except ValueError as reason:
        raise DecodeError(f"the header {_show(head)} is damaged: {reason}") from None
    from_patch = behind - patch
    from_error = from_patch - error
    from_outcome = from_error - outcome
    return (
        fields,
        rest[:from_outcome],
        rest[from_outcome:from_error],
        rest[from_error:from_patch],
        rest[from_patch:],
    )


@cython.locals(i=cython.Py_ssize_t, end=cython.Py_ssize_t, template=dict, fields=dict, claims=list)
def unpack_claims(
    answer: list[Any],
    start: int,
    common: dict[str, Any],
    kind: type,
    quick: Callable[[bytes], Any],
    load: Callable[[bytes], Any],
    finish: Callable[[dict[str, Any], Any], None],
) -> list[Any]:
    """The jobs that a step claimed, each as a ``kind``, or the ``DecodeError`` it raised.

    ``answer`` holds member, value, history for each from ``start`` on; ``common`` is what all have alike.
    ``finish`` gets the fields and the history of those few that have a history or a meta, before they are
    made; it may raise ``DecodeError`` as well.
    """
    # Complete, so that no copy of it ever grows.
    template: dict[str, Any] = {
        "function": "",
        "kwargs": None,
        "meta": None,
        "queued": 0,
        "key": "",
        "_member": b"",
        **common,
    }
    new: Callable[[type], Any] = object.__new__
    claims: list[Any] = []
    end = len(answer) - 2
    for i in range(start, end, 3):
        member = answer[i]
        value = answer[i + 1]
        history = answer[i + 2]
        fields = template.copy()
        try:
            if type(value) is not bytes or type(member) is not bytes:
                raise DecodeError(f"a job is stored as bytes, not as {type(value).__name__}")
            fields["key"] = _key_of(member)
            fields["_member"] = member
            _fill(fields, value, quick, load)
            if history or fields["meta"]:
                finish(fields, history)
        except DecodeError as error:
            claims.append(error)
            continue
        job = new(kind)
        job.__dict__ = fields
        claims.append(job)
    return claims


@cython.cfunc
@cython.locals(member=bytes, at=cython.Py_ssize_t)
def _key_of(member: bytes) -> str:
    at = member.find(b":") + 1
    if at == 0:
        raise DecodeError(f"{_show(member)} is not <token>:<key>")
    try:
        return member[at:].decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return member[at:].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the key in {_show(member)} is no text: {error}") from None


def key_of(member: bytes) -> str:
    """The key in ``<token>:<key>``. Any text is a key, lone surrogates included. Raises ``DecodeError``."""
    if type(member) is not bytes:
        raise DecodeError(f"a member is stored as bytes, not as {type(member).__name__}")
    return _key_of(member)


# Netstrings: cr.yp.to/proto/netstrings.txt, without commas --------------------------------------------------


def join_netstrings(parts: list[bytes]) -> bytes:
    """``3:abc`` for each part, one after the other."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


@cython.locals(
    data=bytes,
    parts=list,
    digits=bytes,
    at=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    colon=cython.Py_ssize_t,
    length=cython.Py_ssize_t,
)
def split_netstrings(data: bytes) -> list[bytes]:
    """The parts again. Raises ValueError if that is not what it is."""
    parts: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        colon = data.find(b":", at, at + _LENGTH_DIGITS + 1)
        digits = data[at:colon] if colon > at else b""
        if not digits.isdigit():
            raise ValueError(f"not the length of a netstring: {_show(data[at : at + 20])}")
        length = int(digits)
        at = colon + 1 + length
        if at > end:
            raise ValueError(f"a netstring of {length} bytes is cut off: {_show(data[colon + 1 :])}")
        parts.append(data[colon + 1 : at])
    return parts
