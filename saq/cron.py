"""Cron entries and their ticks.

Owns ``CronJob`` and the arithmetic of its expression. Must not know queues, workers or Redis: who enqueues a
tick, and that it happens once, is theirs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from croniter import croniter

from saq.errors import UsageError

if TYPE_CHECKING:
    from saq.queue.base import Queue

FIELDS = ("minute", "hour", "day of month", "month", "day of week", "second")


@dataclasses.dataclass
class CronJob:
    """A function that is enqueued by the clock.

    Args:
        function: the function to run; the worker knows it from here on.
        cron: an expression of five or six fields (minute, hour, day, month, weekday, second), as croniter
            reads it.
        unique: skip a tick whose predecessor still waits or runs.
        timeout, heartbeat, retries, ttl: as those of ``Job``; None leaves the default.
        kwargs: arguments for the function.
        meta: as that of ``Job``.
        queue: that of the worker's queues which it is for; the first one by default.
    """

    function: Callable[..., Any]
    cron: str
    unique: bool = True
    timeout: float | None = None
    heartbeat: float | None = None
    retries: int | None = None
    ttl: float | None = None
    kwargs: Mapping[str, Any] | None = None
    meta: dict[str, Any] | None = None
    queue: Queue | None = None


def check(expression: str) -> None:
    """Raises ``UsageError`` that says which field is wrong, if one is."""
    if not isinstance(expression, str):
        raise UsageError(f"a cron line is text, not {type(expression).__name__}: {expression!r}")
    fields = expression.split()
    if (len(fields) in (5, 6) or expression.startswith("@")) and _reads(expression):
        return
    if expression.startswith("@"):
        raise UsageError(f"cron line {expression!r}: there is no such shorthand; try '@hourly'")
    if len(fields) not in (5, 6):
        raise UsageError(
            f"cron line {expression!r} has {len(fields)} fields; it needs five "
            "(minute hour day-of-month month day-of-week) or six (and second)"
        )
    for position, field in enumerate(fields):
        alone = ["*"] * len(fields)
        alone[position] = field
        if not _reads(" ".join(alone)):
            raise UsageError(
                f"cron line {expression!r}: field {position + 1} ({FIELDS[position]}) cannot be {field!r}"
            )
    raise UsageError(f"cron line {expression!r}: no time satisfies all of its fields")


def _reads(expression: str) -> bool:
    try:
        # Asking for a tick finds what validity alone does not: a date that never comes.
        croniter(expression, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)).get_next(float)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False
    return True


def last_tick(expression: str, at: float, tz: dt.tzinfo) -> float:
    """The latest tick that is not after ``at`` (epoch seconds), read in time zone ``tz``."""
    # `get_prev` is strict, and a tick falls on whole seconds: ask just after `at`.
    moment = dt.datetime.fromtimestamp(int(at) + 1, tz)
    return float(croniter(expression, moment).get_prev(float))


def next_tick(expression: str, at: float, tz: dt.tzinfo) -> float:
    """The earliest tick after ``at`` (epoch seconds), read in time zone ``tz``."""
    return float(croniter(expression, dt.datetime.fromtimestamp(at, tz)).get_next(float))
