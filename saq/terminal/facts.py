"""Jobs, workers and queues as plain dicts: what `--json` says of them.

Owns the names. Must not read anything, or word anything for people.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import Attempt, Counts, EntryView, WorkersView, WorkerView


def job(found: Job) -> dict[str, Any]:
    """All fields of a job."""
    facts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    facts["queue"] = found.queue.name if found.queue is not None else None
    facts["status"] = found.status.value
    return facts


def attempts(made: list[Attempt]) -> list[dict[str, Any]]:
    """The attempts of a job."""
    return [attempt._asdict() for attempt in made]


def counts(queue: Queue, found: Counts) -> dict[str, Any]:
    """A queue at one moment."""
    return {"queue": queue.name, **found._asdict(), "stats": dict(found.stats)}


def state(worker: WorkerView) -> str:
    """How a worker is, in a word."""
    return "held" if worker.about.get("held") else "quiet" if worker.quiet else "live"


def workers(queue: Queue, found: WorkersView) -> list[dict[str, Any]]:
    """The workers of a queue, and how many jobs each runs."""
    running = Counter(job.worker for job in found.running)
    return [
        {
            "id": worker.id,
            "queue": queue.name,
            "state": state(worker),
            "running": running[worker.id],
            "seen": worker.seen,
            "expires": worker.expires,
            "quiet": worker.quiet,
            "stats": worker.info.get("stats"),
            "metadata": worker.info.get("metadata"),
            "about": dict(worker.about),
        }
        for worker in found.workers
    ]


def entry(queue: Queue, view: EntryView, following: float | None) -> dict[str, Any]:
    """A cron entry; ``following`` is its next tick, epoch seconds."""
    return {
        "name": view.entry.name,
        "queue": queue.name,
        "function": view.entry.job.function,
        "cron": view.entry.cron,
        "timezone": view.entry.timezone,
        "unique": view.entry.unique,
        "kwargs": view.entry.job.kwargs,
        "last": view.last,
        "next": None if following is None else int(following * 1000),
        "workers": view.workers,
    }
