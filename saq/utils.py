"""Small helpers of time and identity that every layer may use. Must not import anything of SAQ."""

from __future__ import annotations

import random
import time
import uuid
from urllib.parse import urlsplit, urlunsplit


def now() -> int:
    """The local clock in milliseconds since the epoch."""
    return int(time.time() * 1000)


def now_seconds() -> float:
    """The local clock in seconds since the epoch."""
    return time.time()


def uuid1() -> str:
    """A new UUID1 as text."""
    return str(uuid.uuid1())


def millis(s: float) -> float:
    """Seconds to milliseconds."""
    return s * 1000


def seconds(ms: float) -> float:
    """Milliseconds to seconds."""
    return ms / 1000


def exponential_backoff(
    attempts: int,
    base_delay: float,
    max_delay: float | None = None,
    jitter: bool = True,
) -> float:
    """The delay before try ``attempts`` + 1, in seconds.

    It doubles from ``base_delay`` up to ``max_delay`` (None: no limit). With ``jitter`` it is a random time
    of up to that ("full jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    try:
        delay = base_delay * 2.0 ** max(attempts - 1, 0)
    except OverflowError:
        delay = float("inf")
    if max_delay is not None:
        delay = min(delay, max_delay)
    # Never beyond a year: `2 ** attempts` is soon more than a clock can hold.
    delay = min(delay, 31_536_000.0)
    return delay * random.random() if jitter else delay


def redact_url(url: str) -> str:
    """The URL without its password, fit for a log line."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{name}:***@{host}"))
