"""The shapes of what the API says and takes, as JSON Schema.

Owns the shapes. Must not know a route. They are the words of the OpenAPI document, and a test holds that the
answers have them.
"""

from __future__ import annotations

from typing import Any

from saq.queue.views import COUNTERS, STATES
from saq.web.live import COLUMNS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}
MS: Schema = {"type": "integer", "description": "milliseconds since the epoch"}


def obj(**fields: Schema) -> Schema:
    """An object that has these fields, all of them and no other."""
    return {"type": "object", "required": list(fields), "properties": fields, "additionalProperties": False}


def some(**fields: Schema) -> Schema:
    """An object that has any of these fields, and no other."""
    return {"type": "object", "properties": fields, "additionalProperties": False}


def listed(item: Schema, most: int | None = None) -> Schema:
    """A list."""
    return (
        {"type": "array", "items": item}
        if most is None
        else {"type": "array", "items": item, "maxItems": most}
    )


def by_name(item: Schema) -> Schema:
    """An object whose fields are names of any kind."""
    return {"type": "object", "additionalProperties": item}


def maybe(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """A shape by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*choices: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(choices)}


STATUSES = ("new", "queued", "active", "aborting", "aborted", "failed", "complete")
#: Where somebody has seen a job: a list, or a state.
_SEEN = one_of(*dict.fromkeys((*STATES, "aborting", "complete", "aborted")))
_PERCENTILES = {name: maybe(NUMBER) for name in ("p50", "p95", "p99")}
_STATS = obj(**{name: maybe(NUMBER) for name in ("complete", "failed", "retried", "aborted", "uptime")})
_SLICE = {"now": MS, "total": WHOLE, "position": WHOLE, "searched": WHOLE, "next": maybe(TEXT)}
_COLUMN = listed(maybe(NUMBER))
_SPREAD_COLUMNS = obj(count=listed(WHOLE), p50=_COLUMN, p95=_COLUMN, p99=_COLUMN)
_UNAVAILABLE = listed(ref("QueueName"))

_JOB = {
    **dict.fromkeys(("key", "queue", "path", "function"), TEXT),
    "state": one_of("scheduled", *STATUSES),
    "status": one_of(*STATUSES),
    **{
        name: maybe(TEXT)
        for name in ("kwargs", "result", "meta", "error", "summary", "group_key", "worker_id")
    },
    **{
        name: maybe(NUMBER)
        for name in (
            *("timeout", "heartbeat", "retries", "ttl", "retry_delay", "scheduled", "priority"),
            *("progress", "attempts", "queued", "started", "touched", "completed"),
        )
    },
    "retry_backoff": {"type": ["boolean", "number", "null"]},
    "actions": listed(one_of("retry", "abort", "delete", "run")),
}
#: Of a job that was made by somebody's own `load`, these may be anything that is no object.
_JOB |= {
    name: {"type": ["string", "number", "boolean", "null"]} for name in ("function", "group_key", "worker_id")
}

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "required": ["error", "message"],
        "properties": {"error": TEXT, "message": TEXT, "id": TEXT},
        "additionalProperties": False,
    },
    "QueueName": obj(name=TEXT, path=TEXT),
    "About": obj(
        version=TEXT,
        read_only=TRUTH,
        redacted=TRUTH,
        states=listed(TEXT),
        actions=listed(TEXT),
        limits=by_name(WHOLE),
    ),
    "Spread": obj(count=WHOLE, **_PERCENTILES),
    "RegisteredWorker": obj(queue_key=maybe(TEXT), stats=_STATS, metadata=maybe(TEXT)),
    "Queue": obj(
        name=TEXT,
        path=TEXT,
        now=MS,
        queued=WHOLE,
        scheduled=WHOLE,
        active=WHOLE,
        failed=WHOLE,
        finished=WHOLE,
        paused=maybe(MS),
        oldest=maybe(MS),
        due=maybe(MS),
        stats=obj(**dict.fromkeys(COUNTERS, WHOLE)),
        recent=obj(minutes=WHOLE, wait=ref("Spread"), run=ref("Spread")),
        workers=by_name(ref("RegisteredWorker")),
        jobs=listed(ref("Job")),
    ),
    "Queues": obj(now=MS, queues=listed(ref("Queue")), unavailable=_UNAVAILABLE),
    "QueuePage": obj(now=MS, offset=WHOLE, limit=WHOLE, functions=listed(TEXT), queue=ref("Queue")),
    "Job": obj(**_JOB),
    "Attempt": obj(
        number=WHOLE,
        started=MS,
        ended=maybe(MS),
        worker=TEXT,
        outcome=maybe(one_of("retried", "returned", "lost", "overtime", "complete", "failed", "aborted")),
        error=maybe(TEXT),
    ),
    "JobWithTimeline": obj(**_JOB, timeline=listed(ref("Attempt"))),
    "JobPage": obj(now=MS, job=ref("JobWithTimeline")),
    "JobList": obj(**_SLICE, state=one_of(*STATES), limit=WHOLE, jobs=listed(ref("Job"))),
    "Count": obj(**_SLICE, state=one_of(*STATES), matched=WHOLE),
    "Failures": obj(
        **_SLICE,
        groups=listed(
            obj(group=TEXT, function=TEXT, error=TEXT, count=WHOLE, newest=MS, oldest=MS, key=TEXT, path=TEXT)
        ),
    ),
    "Changed": obj(now=MS, message=TEXT, job=maybe(ref("JobWithTimeline"))),
    "BulkDone": obj(
        **_SLICE,
        matched=WHOLE,
        done=WHOLE,
        refused=listed(obj(key=TEXT, path=TEXT, error=TEXT, message=TEXT)),
    ),
    "Paused": obj(now=MS, message=TEXT, paused=maybe(MS)),
    "Workers": obj(
        now=MS,
        unavailable=_UNAVAILABLE,
        workers=listed(
            obj(
                id=TEXT,
                queue=TEXT,
                path=TEXT,
                state=one_of("live", "quiet", "gone"),
                **{name: maybe(TEXT) for name in ("host", "version", "python", "metadata")},
                **{name: maybe(NUMBER) for name in ("pid", "concurrency", "lease", "lease_left_ms")},
                **{name: maybe(MS) for name in ("started", "seen", "expires", "quiet")},
                running=WHOLE,
                partial=TRUTH,
                jobs=listed(obj(key=TEXT, path=TEXT, function=maybe(TEXT), started=MS)),
                stats=maybe(_STATS),
            )
        ),
    ),
    "Quiet": obj(now=MS, message=TEXT, quiet=maybe(MS)),
    "Schedule": obj(
        now=MS,
        unavailable=_UNAVAILABLE,
        entries=listed(
            obj(
                **dict.fromkeys(("name", "queue", "path", "function", "cron", "words", "timezone"), TEXT),
                unique=TRUTH,
                kwargs=maybe(TEXT),
                last=maybe(MS),
                next=maybe(MS),
                workers=WHOLE,
                job=maybe(obj(key=TEXT, path=TEXT, state=TEXT)),
            )
        ),
    ),
    "History": obj(
        now=MS,
        minutes=WHOLE,
        step=WHOLE,
        unavailable=_UNAVAILABLE,
        times=listed(WHOLE),
        **dict.fromkeys((*COUNTERS, "queued", "active", "scheduled"), _COLUMN),
        wait=_SPREAD_COLUMNS,
        run=_SPREAD_COLUMNS,
        totals=obj(wait=ref("Spread"), run=ref("Spread")),
        functions=listed(obj(function=TEXT, count=WHOLE, failed=WHOLE, **_PERCENTILES)),
    ),
    "Live": obj(
        now=MS,
        every=WHOLE,
        columns={"type": "array", "items": one_of(*COLUMNS)},
        queues=by_name(listed(listed(WHOLE))),
        unavailable=_UNAVAILABLE,
    ),
    "Document": {"type": "object"},
    # What is taken.
    "Nothing": some(),
    "Seen": some(
        state=one_of("queued", "scheduled", "active", "aborting", "finished", "complete", "failed", "aborted")
    ),
    "Seconds": some(seconds=NUMBER),
    "Bulk": {
        **some(
            keys={**listed(TEXT, 250), "minItems": 1},
            state=_SEEN,
            match={
                **some(
                    state=one_of(*STATES),
                    **{name: maybe(TEXT) for name in ("function", "status", "text", "worker", "group")},
                ),
                "required": ["state"],
            },
            cursor=maybe(TEXT),
        ),
        "oneOf": [{"required": ["keys"]}, {"required": ["match"]}],
    },
}
