"""Raw paths.

Owns how a path is taken apart and put together. Must not know which paths there are.

A job's key and a queue's name are any text: ``x/retry``, ``..``, ``%2F``, a NUL, a lone surrogate, nothing at
all. So a path is split at its slashes *before* it is decoded, and each segment is decoded once.

Three names no percent-encoding can carry, for browsers and proxies resolve ``.`` and ``..`` (``%2E`` as well)
and drop what is empty. They are written with an equals sign in front: ``=.``, ``=..`` and ``=``. A name that
really begins with one is written ``%3D``, as ``encodeURIComponent`` and ``quote(name, safe="")`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

_MARKED = {b"=": "", b"=.": ".", b"=..": ".."}
_MARKS = {name: raw.decode() for raw, name in _MARKED.items()}


def encode(name: str) -> str:
    """A name as one segment of a path."""
    return _MARKS.get(name) or quote_from_bytes(name.encode("utf-8", "surrogatepass"), safe="")


def decode(segment: bytes) -> str | None:
    """The name that a segment stands for, or None: no name has those bytes."""
    if segment in _MARKED:
        return _MARKED[segment]
    try:
        return unquote_to_bytes(segment).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def join(*names: str) -> str:
    """A path below the root, without a slash in front: it is to be resolved against the root."""
    return "/".join(map(encode, names))


def split(target: bytes) -> tuple[list[bytes], bytes]:
    """The raw segments of a target, and its query."""
    target = target.partition(b"#")[0]
    path, _, query = target.partition(b"?")
    return path.removeprefix(b"/").split(b"/"), query


def to_root(segments: Sequence[bytes]) -> str:
    """The way from a page to the root, relative: right under any prefix, whoever added it."""
    return "../" * (len(segments) - 1) or "./"


def below(target: bytes, prefixes: Sequence[str]) -> bytes | None:
    """What of a target lies below the longest of the decoded ``prefixes`` that it begins with.

    A server, a framework and a proxy may each have taken a prefix away or not; what begins with none of them
    is below the root already. None stands for the mount point itself without its slash: relative addresses
    would go wrong there.
    """
    if not target.startswith(b"/"):  # `http://host/path`, as a proxy is asked
        _, scheme, after = target.partition(b"://")
        slash = after.find(b"/")
        target = after[slash:] if scheme and slash >= 0 else b"/" + target.lstrip(b"/")
    path, mark, query = target.partition(b"?")
    segments = path.split(b"/")[1:]
    for parts in sorted(([part for part in prefix.split("/") if part] for prefix in prefixes), key=len)[::-1]:
        if parts and [decode(segment) for segment in segments[: len(parts)]] == parts:
            rest = segments[len(parts) :]
            return b"/" + b"/".join(rest) + mark + query if rest else None
    return target


def with_slash(target: bytes) -> str:
    """Where a mount point that came without its slash is found.

    Relative, for a proxy may have put something in front; with a dot, for a segment may be empty, and
    ``//host`` is an address elsewhere.
    """
    path, mark, query = target.partition(b"?")
    return (b"./" + path.rpartition(b"/")[2] + b"/" + mark + query).decode("ascii", "ignore")
