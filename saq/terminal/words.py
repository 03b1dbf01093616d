"""Spans, moments and values, as people write them and as JSON has them.

Owns the wording. Must not read anything from a queue.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime
from typing import Any

from saq.terminal.screen import printable

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])")


def span(ms: float) -> str:
    """A span of time, by its two largest units: ``250 ms``, ``3.2 s``, ``3 min 5 s``, ``3 d 4 h``."""
    ms = max(0, ms)
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def ago(moment: int, now: int) -> str:
    """``3 min 5 s ago``; nothing for what has not happened."""
    return f"{span(now - moment)} ago" if moment else ""


def until(moment: int, now: int) -> str:
    """``in 12 s``, ``now``; nothing where there is no such moment."""
    if not moment:
        return ""
    return f"in {span(moment - now)}" if moment > now else "now"


def clock(moment: int) -> str:
    """A moment by the clock on the wall, to the second."""
    return datetime.fromtimestamp(moment / 1000).strftime("%Y-%m-%d %H:%M:%S")


def to_json(value: Any) -> str:
    """One line of JSON. What that cannot say is said as by Python: a queue may have a `load` of its own."""
    return json.dumps(value, default=repr)


def shown(value: Any, most: int = 0) -> str:
    """A value in one line without anything that a terminal would obey; ``most`` characters, if given."""
    try:
        text = json.dumps(value, default=repr, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    text = printable(text)
    return text if not most or len(text) <= most else text[: most - 1] + "…"


# For argparse -----------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """A span as people write it: ``90``, ``10m``, ``1h30m``, ``250ms``, ``2d``."""
    bare = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", bare):
        return float(bare)
    parts = _SPAN.findall(bare)
    if not parts or _SPAN.sub("", bare).strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a span of time such as 90, 10m or 1h30m")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def moment(text: str) -> float:
    """A moment, in epoch seconds: given as such, or as a date and time (ISO 8601; local if without zone)."""
    try:
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a moment such as 2030-01-31T08:00 or 1896073200"
        ) from None


def whole(text: str) -> int:
    """A number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)
