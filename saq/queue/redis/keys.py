"""Every key and channel in Redis, named and explained once.

Owns the names. Must not talk to Redis. The table below is what `docs/internals.md` shows.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

#: What lies behind `saq:{queue}:`, for the reader; a test holds that nothing else is ever there.
EXPLAINED = {
    "jobs": ("hash", "key → header and payload: every incomplete job, and nothing else"),
    "queued": ("zset", "key by order: priority, then a sequence number"),
    "scheduled": ("zset", "key by due time (ms)"),
    "active": ("zset", "`<token>:<key>` by lease deadline (ms): the only list of running jobs"),
    "runs": (
        "hash",
        "key → its history so far, packed: attempts started, attempts charged, leases lost, token, order "
        "score, started, worker, abort asked for, latest error, whether it ran too long, earlier attempts",
    ),
    "patch": ("hash", "key → what was updated while it is incomplete: progress, meta, …"),
    "job:<key>": ("string, TTL", "the finished job: header and payload, outcome, error, patch"),
    "finished": ("zset", "complete and aborted: key by time of the end; the newest 10,000"),
    "failed": ("zset", "failed: key by time of the end; 7 days, 10,000 jobs, 100 MB at the most"),
    "wake": ("zset", "the marker that idle workers block on"),
    "last:<client>": ("string, 10 min", "number and answer of the last call of one client"),
    "waiting": ("hash", "key → channels of those who wait for its end"),
    "watching": ("hash", "key → until when, and channels of those who listen to every change"),
    "workers": ("zset", "worker by when its registration ends (ms)"),
    "worker:<id>": ("hash, TTL", "what a worker says of itself"),
    "quiet": ("zset", "worker that shall take no jobs by when that ends (ms)"),
    "functions": ("zset", "function name by until when a live worker knows it (ms)"),
    "cron": ("zset", "cron entry by its last tick (ms)"),
    "stats": ("hash", "counters: enqueued, complete, failed, aborted, retried, lost"),
    "hour:<n>": (
        "hash, 73 h",
        "by the minute: samples of the counters, waits, run times; by function: run times",
    ),
    "meta": (
        "hash",
        "paused, sequence, token, stepped, calm, sampled, failed_bytes, failed_cursor, watch_cursor",
    ),
}


def quoted(name: str) -> str:
    """A name without braces, colons, glob characters, blanks or anything beyond ASCII."""
    return quote(name, safe="!$'()+,/=@~", encoding="utf-8", errors="surrogatepass")


def unquoted(name: str) -> str:
    """The name again."""
    return unquote(name, errors="surrogatepass") if "%" in name else name


def prefix(queue: str) -> str:
    """What every key of a queue begins with. One hash tag, so that a queue is one slot of a Cluster."""
    # An empty tag is none. No other name is written like that: after a percent sign come two digits.
    return f"saq:{{{quoted(queue) or '%'}}}:"


def record(queue: str, key: str) -> str:
    """The name of a finished job's record."""
    return f"{prefix(queue)}job:{key}"
