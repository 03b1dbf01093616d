"""A job as Redis holds it.

Owns the way from `Job` to a stored value and from stored values and records back to `Job`, and what a job
must be like to be stored at all. Must not talk to Redis.

    value    <queued ms>;<header>\\n<payload>                              while it is incomplete
    record   <queued ms>;<header>;S<status>…\\n<payload><outcome><error><patch>  when it is finished

The header is for the scripts, see `_speedups/_codec.py`. The payload is what `dump` made of function, kwargs
and whatever else differs from its default; nobody but `load` ever looks into it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

from saq import serializer
from saq._speedups import (
    FIELD_TYPES,
    dump_plain,
    join_netstrings,
    load_plain,
    pack_value,
    split_netstrings,
    unpack_claims,
    unpack_payload,
    unpack_record,
    unpack_value,
)
from saq.errors import DecodeError, SerializationError, UsageError
from saq.job import Job, Status
from saq.queue.redis.keys import unquoted
from saq.types import DumpType, LoadType

if TYPE_CHECKING:
    from saq.queue.base import Queue

#: Where the claims begin in the answer of a step.
CLAIMS_FROM = 4
PRIORITIES = range(-32768, 32768)
#: No time is later, in epoch seconds: beyond it, milliseconds are no whole numbers any more.
LATEST = 9e12

_FIELDS = {field.name: field for field in dataclasses.fields(Job)}
#: Kept in the payload when they differ from their default. The others are the header's or the record's.
_PAYLOAD = ("heartbeat", "retry_delay", "retry_backoff", "group_key", "meta", "progress")
_HEADER_TAGS = {"ttl": "t", "timeout": "T", "retries": "r"}
#: What `update` may change.
UPDATABLE = frozenset(_PAYLOAD) | frozenset(_HEADER_TAGS) | {"kwargs", "result", "error"}
_NUMBER = (int, float)
#: By value: asking the enum takes longer than all else that a header needs.
_STATUSES = {status.value: status for status in Status}


def encode_key(key: str) -> bytes:
    """A key's bytes. Any text is a key, lone surrogates included."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogatepass")


def decode_key(key: bytes) -> str:
    """The key of those bytes."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key.decode("utf-8", "surrogatepass")


def encode_text(text: str) -> bytes:
    """Text for people: what cannot be encoded is shown as its escape."""
    return text.encode("utf-8", "backslashreplace")


def check(job: Job) -> None:
    """Raises ``UsageError`` if the job cannot be right."""
    if type(job.key) is not str:
        raise UsageError(f"a job key is text, not {type(job.key).__name__}: {job.key!r}")
    if type(job.function) is not str or not job.function:
        raise UsageError(f"a job names its function, got {job.function!r}")
    if not isinstance(job.kwargs, (dict, type(None))):
        raise UsageError(f"{job.function}: kwargs must be a dict, got {type(job.kwargs).__name__}")
    if job.priority != 0 and (type(job.priority) is not int or job.priority not in PRIORITIES):
        raise UsageError(
            f"{job.function}: priority must be a whole number from {PRIORITIES.start:,} to "
            f"{PRIORITIES.stop - 1:,}, got {job.priority!r}"
        )
    if job.retries != 1 and (not _is_int(job.retries) or job.retries < 0):
        raise UsageError(f"{job.function}: retries must be a whole number from 0, got {job.retries!r}")
    if job.timeout != 10:
        _check_seconds(job, "timeout", job.timeout or 0)
    if job.ttl != 600:
        _check_number(job, "ttl", job.ttl)
    if job.scheduled:
        _check_number(job, "scheduled", job.scheduled)
        if job.scheduled > LATEST:
            raise UsageError(f"{job.function}: scheduled must be epoch seconds, got {job.scheduled!r}")
    if job.heartbeat:
        _check_seconds(job, "heartbeat", job.heartbeat)
    if job.retry_delay:
        _check_seconds(job, "retry_delay", job.retry_delay)
    if job.retry_backoff is not False and job.retry_backoff is not True:
        _check_seconds(job, "retry_backoff", job.retry_backoff)
    if type(job.meta) is not dict:
        raise UsageError(f"{job.function}: meta must be a dict, got {type(job.meta).__name__}")
    if job.progress:
        _check_number(job, "progress", job.progress)
    if job.group_key is not None and type(job.group_key) is not str:
        raise UsageError(f"{job.function}: group_key must be text, got {job.group_key!r}")
    if job.error is not None and type(job.error) is not str:
        raise UsageError(f"{job.function}: error must be text, got {job.error!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_number(job: Job, name: str, value: object) -> None:
    if type(value) not in _NUMBER or not math.isfinite(value):  # type: ignore[arg-type]
        raise UsageError(f"{job.function}: {name} must be a finite number, got {value!r}")


def _check_seconds(job: Job, name: str, value: Any) -> None:
    _check_number(job, name, value)
    if value < 0:
        raise UsageError(f"{job.function}: {name} cannot be negative, got {value!r}; 0 is none")


class Records:
    """Jobs of one queue to bytes and back, by its ``dump`` and ``load``."""

    def __init__(self, queue: Queue, dump: DumpType | None, load: LoadType | None) -> None:
        self._queue = queue
        self._dump = dump
        self._load = load
        self._dump_job = functools.partial(self.dump, root="job")
        self._load_job = functools.partial(self.load, root="job")
        # What nearly all jobs are is written and read without a detour.
        self._dump_quickly = dump_plain if dump is None else self._dump_job
        self._load_quickly = load_plain if load is None else self._load_job

    def dump(self, value: Any, root: str) -> bytes:
        """Serializes a value. ``root`` is what an error calls it."""
        if self._dump is None:
            return serializer.dumps(value, root)
        try:
            # A user's own pair is promised a dict.
            data = self._dump(value if root == "job" else {"value": value})
        except Exception as error:
            raise SerializationError(f"{root}: the queue's own dump raised {error!r}") from error
        return data.encode() if isinstance(data, str) else bytes(data)

    def load(self, data: bytes, root: str) -> Any:
        """The value again. Raises ``DecodeError``."""
        if self._load is None:
            return serializer.loads(data)
        try:
            value = self._load(data)
            return value if root == "job" else value["value"]
        except Exception as error:
            raise DecodeError(f"{root}: the queue's own load raised {error!r}") from error

    def value(self, job: Job) -> bytes:
        """A new job's stored value, but for its time of queueing.

        Raises:
            UsageError: a field cannot be right.
            SerializationError: an argument cannot be stored; the message names it.
        """
        check(job)
        extra: dict[str, Any] | None = None
        if type(job) is not Job:
            extra = {
                field.name: getattr(job, field.name)
                for field in dataclasses.fields(job)
                if field.name not in _FIELDS
            }
        try:
            return pack_value(
                job.function,
                job.kwargs,
                job.priority,
                job.ttl,
                job.timeout or 0,
                job.retries,
                job.scheduled,
                job.heartbeat,
                job.retry_delay,
                job.retry_backoff,
                job.group_key,
                job.meta,
                job.progress,
                extra,
                self._dump_quickly,
                self._dump_job,
            )
        except SerializationError as error:
            if self._dump is None:
                for name, value in {"kwargs": job.kwargs, "meta": job.meta, **(extra or {})}.items():
                    if reason := serializer.explain(value, name):
                        raise SerializationError(f"{job.function}: {reason}") from error
            raise

    def outcome(self, result: Any) -> bytes:
        """A result's bytes. Raises ``SerializationError``, which names the place."""
        return b"" if result is None else self.dump(result, "result")

    def patch(self, fields: dict[str, Any]) -> list[bytes]:
        """Field, value, … as a patch holds them."""
        parts = []
        for name, value in fields.items():
            parts += [name.encode(), self.dump(value, name)]
        return parts

    def header_changes(self, job: Job, fields: dict[str, Any]) -> str:
        """What of ``fields`` lies in the header, as the header says it."""
        changes = ""
        for name, tag in _HEADER_TAGS.items():
            if name in fields:
                changes += f";{tag}{fields[name] or 0!r}"
        return changes

    def claimed(
        self, answer: list[Any], now: int, received: float, worker: str, suffix: bytes
    ) -> list[Job | DecodeError]:
        """The jobs that a step claimed; the ``DecodeError`` in the place of one whose bytes are none.

        ``now`` is the server's time, ``received`` that of the answer here (monotonic). ``suffix`` is what a
        record says of a first attempt that began now.
        """
        common = {
            "queue": self._queue,
            "status": Status.ACTIVE,
            "started": now,
            "touched": now,
            "worker_id": worker,
            "attempts": 1,
            "_charged": 1,
            "_received": received,
            "_suffix": suffix,
        }
        return unpack_claims(
            answer, CLAIMS_FROM, common, Job, self._load_quickly, self._load_job, self._finish_claim
        )

    def _finish_claim(self, fields: dict[str, Any], history: list[Any] | int) -> None:
        """What the few need that were claimed before, or carry a meta."""
        if isinstance(history, list):
            self._add_history(fields, history)
        if fields["meta"]:
            fields["_meta_stored"] = self.dump(fields["meta"], "meta")

    def _add_history(self, fields: dict[str, Any], history: list[Any]) -> None:
        """What happened to a job before this claim."""
        attempts, charged, lost, error, patch = history
        if error:
            fields["error"] = error.decode("utf-8", "replace")
        if patch:
            touched = fields["touched"]
            self._lay_over(fields, patch)
            fields["touched"] = touched
        fields["attempts"] = attempts
        fields["_charged"] = charged + 1
        fields["_lost"] = lost
        head, _, tail = fields["_suffix"].partition(b";a1;")
        fields["_suffix"] = b"%b;a%d;%b" % (head, attempts, tail)

    def stored(self, key: str, entry: list[Any]) -> Job:
        """A job as the script ``read`` returns it. What cannot be decoded becomes a job that says so."""
        if entry[0] == b"finished":
            return self.finished(key, entry[1])
        where, value, patch, due, attempts, charged, _lost, started, worker, abort, error = entry[:11]
        try:
            fields = unpack_value(value, self._load_quickly, self._load_job)
            if patch:
                self._lay_over(fields, patch)
        except DecodeError as reason:
            fields = {"function": "", "kwargs": None, "meta": {}, "error": str(reason)}
        active = where == b"active"
        fields["status"] = (
            Status.QUEUED if not active else Status.ABORTING if abort is not None else Status.ACTIVE
        )
        fields["attempts"] = attempts
        fields["_charged"] = charged + 1 if active else charged
        if len(entry) > 11:
            fields["_past"] = entry[11]
        if active:
            fields["started"] = started
            fields.setdefault("touched", started)
        if worker:
            fields["worker_id"] = unquoted(worker.decode())
        if abort is not None:
            fields["error"] = abort.decode("utf-8", "replace")
        elif error is not None:
            fields["error"] = error.decode("utf-8", "replace")
        if due:
            fields["scheduled"] = due / 1000 if due % 1000 else due // 1000
        return self._handle(key, fields)

    def finished(self, key: str, record: bytes) -> Job:
        """A job from its record. What cannot be decoded becomes a job that says so."""
        try:
            header, payload, outcome, error, patch = unpack_record(record)
        except DecodeError as reason:
            raise DecodeError(f"the record of {key!r} is damaged: {reason}") from None
        status = _STATUSES[header.pop("status")]
        try:
            fields = unpack_payload(payload, self._load_quickly, self._load_job)
            if outcome:
                fields["result"] = self.load(outcome, "result")
            if patch:
                self._lay_over(fields, patch)
        except DecodeError as reason:
            fields = {"function": "", "kwargs": None, "meta": {}, "error": str(reason)}
        fields.update(header)
        if "worker_id" in header:
            fields["worker_id"] = unquoted(header["worker_id"])
        fields["status"] = status
        fields["_charged"] = fields.get("attempts", 0)
        fields.setdefault("touched", fields.get("started", 0))
        if error:
            fields["error"] = error.decode("utf-8", "replace")
        if status is Status.COMPLETE:
            fields["progress"] = 1.0
        return self._handle(key, fields)

    def _handle(self, key: str, fields: dict[str, Any]) -> Job:
        fields["key"] = key
        fields["queue"] = self._queue
        job: Job = Job.__new__(Job)
        job.__dict__ = fields
        return job

    def _lay_over(self, fields: dict[str, Any], patch: bytes) -> None:
        try:
            parts = split_netstrings(patch)
        except ValueError as error:
            raise DecodeError(f"the patch {patch[:60]!r} is damaged: {error}") from error
        for i in range(0, len(parts) - 1, 2):
            name, value = parts[i].decode("utf-8", "replace"), parts[i + 1]
            if name == "touched":
                if not value.isdigit():
                    raise DecodeError(f"the patch {patch[:60]!r} is damaged: touched at {value[:60]!r}")
                fields[name] = int(value)
            elif name == "past":
                fields["_past"] = value
            elif name == "result":
                fields[name] = self.load(value, name)
            elif name in FIELD_TYPES:
                loaded = self.load(value, name)
                if not isinstance(loaded, FIELD_TYPES[name]):
                    raise DecodeError(f"the field {name} of a job cannot be {value[:60]!r}")
                fields[name] = loaded

    def final_patch(self, job: Job) -> bytes:
        """What of a job's meta and progress is to be kept with its outcome and is not stored yet."""
        fields: dict[str, Any] = {}
        if self.dump(job.meta, "meta") != job.__dict__.get("_meta_stored"):
            fields["meta"] = job.meta
        return join_netstrings(self.patch(fields)) if fields else b""
