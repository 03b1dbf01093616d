"""How log lines look: as text for people, or as JSON for machines, with secrets hidden.

Owns the two formats, the fields that a line about a job carries, and what counts as a secret. Must not decide
what is logged.

Every line comes from the stdlib logger `saq`. What it is about is in attributes of its record (`extra=`), so
that handlers of anybody's can use them: `FIELDS`.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saq.job import Job

#: The attributes of a record of a job; `duration_ms`, `status` and `error` only where there is one. Records
#: of a worker have `worker_id` and `queue`.
FIELDS = ("job_key", "function", "queue", "worker_id", "attempt", "status", "duration_ms", "error")

TEXT = "%(asctime)s %(levelname)-7s %(message)s"
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

#: What every record has; all else was given by `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_USER = re.compile(r"(://[^\s/:@'\"]*):[^\s/'\"]+@")
_QUERY = re.compile(
    r"([?&](?:password|passwd|pwd|token|secret|api_?key|access_key)=)[^\s&'\"#]+", re.IGNORECASE
)
#: What would move a cursor or forge a line; a line break is dealt with by itself.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def hide_secrets(text: str) -> str:
    """The text with the passwords of all URLs in it hidden."""
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _USER.sub(r"\1:***@", text))


def job_fields(job: Job, queue: str, worker_id: str) -> dict[str, Any]:
    """What a record of this job carries. Not worth its cost unless the line is logged."""
    return {
        "job_key": job.key,
        "function": job.function,
        "queue": queue,
        "worker_id": worker_id,
        "attempt": job.attempts,
    }


class TextFormatter(logging.Formatter):
    """A line for people. What takes more lines, such as a stack trace, is indented below the first."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        text = hide_secrets(super().format(record))
        if not text.isprintable():
            text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
            text = text.rstrip("\n").replace("\n", "\n    ")
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        task = getattr(record, "taskName", None)
        if task is not None:
            fields["task"] = task  # that of a job goes by its key
        fields.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps({name: _plain(value) for name, value in fields.items()}, default=_said)


def _plain(value: Any) -> Any:
    return hide_secrets(value) if isinstance(value, str) else value


def _said(value: Any) -> str:
    return hide_secrets(repr(value))


def configure(verbose: int, form: str = "text") -> None:
    """Log lines to standard error: warnings, with 1 what happens, with 2 everything.

    Args:
        form: 'text' or 'json'. What has been configured already is left as it is.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=LEVELS[min(verbose, 2)], handlers=[handler])
