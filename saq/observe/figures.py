"""The metrics: the name, the kind, the labels and the meaning of each.

Owns that table; the documentation shows it. Must not know where the values come from.

No label is unbounded: queues and functions are those that the settings name, all others are words of this
table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Figure(NamedTuple):
    """A metric. A counter's name ends in ``_total`` as it is read."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


#: Of a queue as a whole. They are read from Redis when they are asked for: whoever asks gets the same.
OF_QUEUES = (
    Figure("saq_queue_up", "gauge", ("queue",), "1 if the server of the queue answers, 0 if not."),
    Figure("saq_queue_jobs", "gauge", ("queue", "state"), "Jobs that are queued, scheduled or active."),
    Figure(
        "saq_queue_kept_jobs", "gauge", ("queue", "state"), "Ended jobs that are kept: finished or failed."
    ),
    Figure(
        "saq_queue_oldest_job_age_seconds",
        "gauge",
        ("queue",),
        "How long that job waits that waits longest, from when it was due; 0 if none does.",
    ),
    Figure("saq_queue_workers", "gauge", ("queue",), "Live workers."),
    Figure("saq_queue_paused", "gauge", ("queue",), "1 if the queue hands out no jobs at present."),
    Figure("saq_queue_jobs_enqueued_total", "counter", ("queue",), "Jobs that were enqueued."),
    Figure("saq_queue_jobs_completed_total", "counter", ("queue",), "Jobs that completed."),
    Figure("saq_queue_jobs_failed_total", "counter", ("queue",), "Jobs that failed for good."),
    Figure("saq_queue_jobs_aborted_total", "counter", ("queue",), "Jobs that were aborted."),
    Figure("saq_queue_jobs_retried_total", "counter", ("queue",), "Attempts that failed and are made again."),
    Figure("saq_queue_jobs_lost_total", "counter", ("queue",), "Leases that ran out: their worker died."),
)

#: Of one worker process, since it began.
OF_WORKERS = (
    Figure("saq_jobs_started_total", "counter", ("queue", "function"), "Attempts that were started."),
    Figure(
        "saq_jobs_ended_total",
        "counter",
        ("queue", "function", "status"),
        "Attempts that ended: complete, failed, aborted, retried (failed, and made again), returned (given "
        "back uncounted), stale (too late: the lease had run out).",
    ),
    Figure(
        "saq_job_wait_seconds",
        "histogram",
        ("queue", "function"),
        "How long jobs had waited when they were started first, from when they were due.",
    ),
    Figure(
        "saq_job_run_seconds",
        "histogram",
        ("queue", "function", "status"),
        "How long functions ran, by how the attempt ended.",
    ),
    Figure("saq_worker_slots", "gauge", ("queue",), "How many jobs it runs at once at the most."),
    Figure("saq_worker_slots_busy", "gauge", ("queue",), "How many jobs it runs."),
    Figure(
        "saq_worker_last_claim_timestamp_seconds",
        "gauge",
        ("queue",),
        "When it asked for jobs last and was answered; 0 if it never was.",
    ),
    Figure(
        "saq_worker_leases_lost_total", "counter", ("queue",), "Jobs that were taken from it while they ran."
    ),
    Figure(
        "saq_worker_event_loop_lag_seconds",
        "gauge",
        ("queue",),
        "How late its event loop was, at the worst in the last 30 seconds, or is at present.",
    ),
    Figure(
        "saq_worker_redis_errors_total",
        "counter",
        ("queue", "kind"),
        "Errors of its connections to Redis: connect (none could be made), lost, refused (the answer was an "
        "error).",
    ),
    Figure(
        "saq_build_info",
        "gauge",
        ("version", "python", "speedups"),
        "1, with the version of SAQ and of Python, and whether the kernels are compiled.",
    ),
)
