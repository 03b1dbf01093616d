"""Jobs, workers and queues as bounded, plain JSON.

Owns what a client gets to see of them, and how much. Must not read anything from anywhere.

Whatever lies in Redis may be hostile, or the work of a user's own ``load``: it reaches the client as text, a
finite number, a truth value or null, and never as an object of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from saq.job import Job, Status
from saq.queue.history import Buckets, percentiles
from saq.queue.views import Attempt, Counts, Place
from saq.utils import now
from saq.web import paths

logger = logging.getLogger("saq")

#: What hides or replaces a value before anybody sees it: called with the name of a field (``kwargs``,
#: ``result``, ``meta``, ``error``), its value and the job, it returns what is shown instead.
Redact = Callable[[str, Any, Job], Any]

#: Characters that are shown of one value: on a job's own page, and in a list.
LONG = 100_000
SHORT = 200
#: Characters of arguments in which a search looks.
SEARCHED = 10_000
#: A value whose JSON is longer than a line is laid out.
_LINE = 100
#: Beyond it, JavaScript rounds.
_SAFE = 2**53
SHARES = (0.5, 0.95, 0.99)

_FIELDS = {field.name: field for field in dataclasses.fields(Job)}
#: What a user or a worker put in, of any type.
_VALUES = ("kwargs", "result", "meta")
_NUMBERS = (
    *("timeout", "heartbeat", "retries", "ttl", "retry_delay", "scheduled", "progress"),
    *("attempts", "completed", "queued", "started", "touched", "priority"),
)
#: What makes sense in each state.
_ACTIONS = {
    "queued": ("abort", "delete"),
    "scheduled": ("run", "abort", "delete"),
    "active": ("abort",),
    "complete": ("retry", "delete"),
    "failed": ("retry", "delete"),
    "aborted": ("retry", "delete"),
}
#: Where a job of each state is.
PLACES: dict[str, Place] = {
    "queued": "queued",
    "scheduled": "scheduled",
    "active": "active",
    "aborting": "active",
    "finished": "finished",
    "complete": "finished",
    "failed": "finished",
    "aborted": "finished",
}


class Presenter:
    """Shows jobs, as far as they may be seen.

    Args:
        redact: hides or replaces values; None shows everything.
        read_only: whether nothing may be changed.
    """

    def __init__(self, redact: Redact | None = None, read_only: bool = False) -> None:
        self._redact = redact
        self._read_only = read_only

    @property
    def redacts(self) -> bool:
        """Whether anything may be hidden."""
        return self._redact is not None

    def seen(self, name: str, value: Any, job: Job) -> Any:
        """A value as it may be seen."""
        if self._redact is None or value is None:
            return value
        try:
            return self._redact(name, value, job)
        except Exception:
            logger.exception("Web: redact failed for %s of %r: it is not shown", name, job.key)
            return "(hidden, for redact failed)"

    def error(self, job: Job) -> str | None:
        """The error of a job as it may be seen."""
        error = self.seen("error", job.error, job)
        return None if error is None else str(error)

    def job(self, job: Job, limit: int, attempts: Iterable[Attempt] | None = None) -> dict[str, Any]:
        """A job with all its fields, those with default values included; with ``attempts``, its timeline."""
        queue_name = job.queue.name if job.queue is not None else ""
        key = str(job.key)
        state = state_of(job)
        error = self.error(job)
        shown: dict[str, Any] = {
            "key": key,
            "queue": queue_name,
            "path": paths.join("queues", queue_name, "jobs", key),
            "state": state,
            "error": None if error is None else _end_of(error, limit),
            "summary": None if error is None else last_line(error),
            "actions": [] if self._read_only else list(_ACTIONS.get(state, ())),
        }
        for name, field in _FIELDS.items():
            if name in shown:
                continue
            given = job.__dict__.get(name, None if field.default is dataclasses.MISSING else field.default)
            if name in _VALUES:
                nothing = given is None or (name != "result" and not given)
                given = None if nothing else self.seen(name, given, job)
                shown[name] = None if given is None else value(given, limit)
            elif name in _NUMBERS:
                shown[name] = number(given)
            elif name == "status":
                shown[name] = Status(given).value
            else:
                shown[name] = scalar(given, limit)
        if attempts is not None:
            shown["timeline"] = [self._attempt(job, attempt, limit) for attempt in attempts]
        return shown

    def _attempt(self, job: Job, attempt: Attempt, limit: int) -> dict[str, Any]:
        error = self.seen("error", attempt.error, job) if attempt.error else None
        return {
            "number": attempt.number,
            "started": attempt.started,
            "ended": attempt.ended or None,
            "worker": attempt.worker,
            "outcome": attempt.outcome or None,
            "error": None if error is None else _end_of(str(error), limit),
        }


def state_of(job: Job) -> str:
    """The status, where a job whose time has not come is scheduled."""
    status = Status(job.__dict__.get("status", Status.NEW))
    due = job.__dict__.get("scheduled", 0)
    if status is Status.QUEUED and isinstance(due, (int, float)) and due * 1000 > now():
        return "scheduled"
    return status.value


def last_line(error: str) -> str:
    """What went wrong, in a line: the last of a stack trace."""
    return error.rstrip()[-10 * SHORT :].rpartition("\n")[2].strip()[:SHORT]


_DIGITS = re.compile(r"\d+")


def group_of(function: str, error: str | None) -> tuple[str, str]:
    """What failures have in common: an identifier, and the error without its numbers."""
    line = _DIGITS.sub("N", last_line(error or ""))
    digest = hashlib.sha1(f"{function}\n{line}".encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return digest.hexdigest()[:16], line


def queue_name(name: str) -> dict[str, Any]:
    """The name of a queue and where to find it, below the root."""
    return {"name": name, "path": paths.join("queues", name)}


def queue(name: str, counts: Counts) -> dict[str, Any]:
    """How a queue is at this moment."""
    return {
        **queue_name(name),
        "now": counts.now,
        "queued": counts.queued,
        "scheduled": counts.scheduled,
        "active": counts.active,
        "failed": counts.failed,
        "finished": counts.finished,
        "paused": counts.paused or None,
        "oldest": counts.oldest or None,
        "due": counts.due or None,
        "stats": dict(counts.stats),
    }


def spread(buckets: Buckets) -> dict[str, Any]:
    """How durations are spread."""
    p50, p95, p99 = percentiles(buckets, SHARES)
    return {"count": sum(buckets.values()), "p50": p50, "p95": p95, "p99": p99}


def worker(info: Any) -> dict[str, Any]:
    """What a worker registered of itself."""
    info = info if isinstance(info, dict) else {}
    stats = info.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    metadata = info.get("metadata")
    return {
        "queue_key": scalar(info.get("queue_key"), SHORT),
        "stats": {
            name: number(stats.get(name, 0))
            for name in ("complete", "failed", "retried", "aborted", "uptime")
        },
        "metadata": None if metadata is None else value(metadata, SHORT),
    }


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


def number(given: Any) -> float | int | None:
    """A number that any client can read exactly, or None."""
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    return int(given) if isinstance(given, int) and -_SAFE <= given <= _SAFE else None


def scalar(given: Any, limit: int) -> str | float | int | bool | None:
    """Text, a number, a truth value or None."""
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, (int, float)):
        return number(given)
    text = given if isinstance(given, str) else value(given, limit)
    return text if len(text) <= limit else f"{text[:limit]} …"
