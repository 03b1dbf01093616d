"""Jobs, workers and queues as bounded, plain JSON.

Owns what a client gets to see of them, and how much. Must not read anything from anywhere.

Whatever lies in Redis may be hostile, or the work of a user's own ``load``: it reaches the client as text, a
finite number, a truth value or null, and never as an object of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from saq.job import Job, Status
from saq.types import QueueInfo
from saq.utils import now
from saq.web import paths

#: Characters that are shown of one value: on a job's own page, and in a list.
LONG = 10_000
SHORT = 200
#: A value whose JSON is longer than a line is laid out.
_LINE = 100
#: Beyond it, JavaScript rounds.
_SAFE = 2**53

_FIELDS = {field.name: field for field in dataclasses.fields(Job)}
#: What a user or a worker put in, of any type.
_VALUES = ("kwargs", "result", "meta")
_NUMBERS = (
    *("timeout", "heartbeat", "retries", "ttl", "retry_delay", "scheduled", "progress"),
    *("attempts", "completed", "queued", "started", "touched", "priority"),
)


def queue_name(name: str) -> dict[str, Any]:
    """The name of a queue and where to find it, below the root."""
    return {"name": name, "path": paths.join("queues", name)}


def queue(info: QueueInfo) -> dict[str, Any]:
    """A queue, its workers, and those of its jobs that ``info`` has."""
    name = info["name"]
    return {
        **queue_name(name),
        "queued": info["queued"],
        "active": info["active"],
        "scheduled": info["scheduled"],
        "workers": {worker_id: worker(found) for worker_id, found in info["workers"].items()},
        "jobs": [job(name, found, SHORT) for found in info["jobs"]],
    }


def worker(info: Any) -> dict[str, Any]:
    """What a worker registered of itself."""
    info = info if isinstance(info, dict) else {}
    stats = info.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    metadata = info.get("metadata")
    return {
        "queue_key": _scalar(info.get("queue_key"), SHORT),
        "stats": {
            name: _number(stats.get(name, 0))
            for name in ("complete", "failed", "retried", "aborted", "uptime")
        },
        "metadata": None if metadata is None else value(metadata, SHORT),
    }


def job(queue_name: str, fields: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """A job: its fields as ``Job.to_dict`` has them, those with default values included."""
    key = str(fields["key"])
    shown: dict[str, Any] = {
        "key": key,
        "queue": queue_name,
        "path": paths.join("queues", queue_name, "jobs", key),
        "state": _state(fields),
    }
    for name, field in _FIELDS.items():
        if name in shown:
            continue
        given = fields.get(name, None if field.default is dataclasses.MISSING else field.default)
        if name in _VALUES:
            nothing = given is None or (name != "result" and not given)
            shown[name] = None if nothing else value(given, limit)
        elif name in _NUMBERS:
            shown[name] = _number(given)
        elif name == "status":
            shown[name] = Status(given).value
        elif name == "error":
            shown[name] = None if given is None else _end_of(str(given), limit)
        else:
            shown[name] = _scalar(given, limit)
    return shown


def _state(fields: Mapping[str, Any]) -> str:
    """The status, where a job whose time has not come is scheduled."""
    status = Status(fields.get("status", Status.NEW))
    due = fields.get("scheduled", 0)
    if status is Status.QUEUED and isinstance(due, (int, float)) and due * 1000 > now():
        return "scheduled"
    return status.value


def value(given: Any, limit: int) -> str:
    """Anything as text, JSON where it is some, cut at ``limit``."""
    text, whole = _json(given, min(limit, _LINE), None)
    if not whole and len(text) > _LINE < limit:
        text, whole = _json(given, limit, None if limit <= SHORT else 2)
    return text if whole else f"{text[:limit]} …"


def _json(given: Any, limit: int, indent: int | None) -> tuple[str, bool]:
    """As much of a value's JSON as was asked for, and whether that is all.

    Written piece by piece: of a list of a million only the beginning is.
    """
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, default=_foreign)
    text = ""
    try:
        for piece in encoder.iterencode(given):
            text += piece
            if len(text) > limit:
                return text, False
    except (ValueError, TypeError, RecursionError):  # circular, a key that is no text, too deep
        return text + ("" if text else _foreign(given)), False
    return text, True


def _foreign(given: Any) -> str:
    """What JSON cannot say, by its class. Its own ``repr`` is code of somebody else, and may be endless."""
    return f"<{type(given).__qualname__}>"


def _end_of(text: str, limit: int) -> str:
    """The beginning and the end of a stack trace: what went wrong stands in its last lines."""
    if len(text) <= limit:
        return text
    if limit <= SHORT:
        return f"… {text[-limit:]}"
    head = limit // 5
    return f"{text[:head]}\n… {len(text) - limit:,} characters …\n{text[head - limit :]}"


def _number(given: Any) -> float | int | None:
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    return int(given) if isinstance(given, int) and -_SAFE <= given <= _SAFE else None


def _scalar(given: Any, limit: int) -> str | float | int | bool | None:
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, (int, float)):
        return _number(given)
    text = given if isinstance(given, str) else value(given, limit)
    return text if len(text) <= limit else f"{text[:limit]} …"
