"""What each kernel promises, by both selves; bad input above all."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from typing import Any

import pytest
from hypothesis import assume, given

from saq.errors import DecodeError, UsageError
from saq.job import Job
from saq.queue.base import Queue
from saq.queue.redis.records import Records
from tests.parity import inputs
from tests.parity.selves import Kernels

TIME = b"1767225600000"
JOB = TIME + b'\n{"function":"f"}'


# Keys -------------------------------------------------------------------------------------------------------


def test_new_keys_are_new_and_in_order(kernels: Kernels) -> None:
    keys = [kernels.new_key() for _ in range(50_000)]
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys)
    assert {len(key) for key in keys} == {27}
    assert all(key.isalnum() and key.isascii() for key in keys)


def test_new_keys_of_many_threads(kernels: Kernels) -> None:
    found: list[list[str]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=lambda: found.append([kernels.new_key() for _ in range(5_000)]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len({key for keys in found for key in keys}) == 8 * 5_000
    assert all(keys == sorted(keys) for keys in found)


def _child(suffix: str, answer: Any) -> None:
    from tests.parity.selves import load

    answer.put([load(suffix).new_key() for _ in range(100)])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_new_keys_of_a_fork(kernels: Kernels) -> None:
    before = [kernels.new_key() for _ in range(100)]
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    suffix = "_c" if kernels.modules[0].__name__.endswith("_c") else ""
    process = context.Process(target=_child, args=(suffix, answer))
    process.start()
    theirs = answer.get()
    process.join()
    ours = before + [kernels.new_key() for _ in range(100)]
    assert not set(ours) & set(theirs)
    assert ours[0][-10:] != theirs[0][-10:]


# There and back ---------------------------------------------------------------------------------------------


def test_defaults_take_no_room(kernels: Kernels) -> None:
    """The kernel holds the defaults of `Job` as literals."""
    job = Job("f")
    packed = kernels.pack(
        *(job.function, job.kwargs, job.priority, job.ttl, job.timeout, job.retries, job.scheduled),
        *(job.heartbeat, job.retry_delay, job.retry_backoff, job.group_key, job.meta, job.progress, None),
    )
    assert packed == b'\n{"function":"f"}'


@given(inputs.fields)
def test_a_job_comes_back_as_it_went(kernels: Kernels, fields: tuple[Any, ...]) -> None:
    names = (
        *("function", "kwargs", "priority", "ttl", "timeout", "retries", "scheduled", "heartbeat"),
        *("retry_delay", "retry_backoff", "group_key", "meta", "progress"),
    )
    try:
        json.dumps(fields, allow_nan=False)
    except ValueError:
        assume(False)  # refused before it comes so far
    back = kernels.value(TIME + kernels.pack(*fields[:-1], None))
    assert back.pop("queued") == int(TIME)
    defaults = {name: getattr(Job("f"), name) for name in names}
    for name, value in zip(names, fields, strict=False):
        assert back.get(name, defaults[name]) == value or (not value and not defaults[name])


def test_a_finished_job_is_taken_apart(kernels: Kernels) -> None:
    record = TIME + b';T30;Sfailed;a2;b7;wme;o2;e3;m4;c9;Z?\n{"function":"f"}okerrmine'
    fields, *parts = kernels.unpack_record(record)
    assert fields == {
        "queued": int(TIME),
        "timeout": 30,
        "status": "failed",
        "attempts": 2,
        "started": 7,
        "worker_id": "me",
        "completed": 9,
    }
    assert parts == [b'{"function":"f"}', b"ok", b"err", b"mine"]


def test_a_field_of_a_newer_release_is_left_out(kernels: Kernels) -> None:
    """So that old and new workers can run side by side during a deploy."""
    value = TIME + b';T30;Znew;=\n{"function":"f","invented":[1],"kwargs":{"a":1}}'
    assert kernels.value(value) == {
        "queued": int(TIME),
        "timeout": 30,
        "function": "f",
        "kwargs": {"a": 1},
        "meta": {},
    }


def test_a_claim_is_not_told_by_its_header_who_it_is(kernels: Kernels) -> None:
    value = TIME + b';a9;wsomebody;Scomplete\n{"function":"f"}'
    (handle,) = kernels.claims([b"7:key", value, 0], {"attempts": 1, "worker_id": "me"}, lambda *_: None)
    assert (handle.key, handle._member, handle.attempts, handle.worker_id) == ("key", b"7:key", 1, "me")
    assert not hasattr(handle, "status")


# What is no job ---------------------------------------------------------------------------------------------

BAD_VALUES = [
    (b"", "it has no end"),
    (b"not a job", "it has no end"),
    (TIME, "it has no end"),
    (TIME + b"\n", "there is nothing"),
    (b"\n{}", "invalid literal for int"),
    (b"12x\n{}", "12x"),
    (TIME + b";p1.5\n{}", "1.5"),
    (TIME + b";tnan\n{}", "not finite"),
    (TIME + b";t1e999\n{}", "not finite"),
    (TIME + b";r\n{}", "invalid literal"),
    (TIME + b"\n[]", "a job is an object, this is list"),
    (TIME + b"\nnull", "this is NoneType"),
    (TIME + b"\n{}", "names its function, this one has None"),
    (TIME + b'\n{"function":7}', "this one has 7"),
    (TIME + b'\n{"function":' + b"[" * 900 + b"]" * 900 + b"}", "of type list"),
    (TIME + b'\n{"function":"f","kwargs":[]}', "kwargs of a job are an object, not list"),
    (TIME + b'\n{"function":"f","meta":7}', "the field meta of a job cannot be 7"),
    (TIME + b'\n{"function":"f","meta":null}', "the field meta of a job cannot be None"),
    (TIME + b'\n{"function":"f","progress":"half"}', "the field progress of a job cannot be 'half'"),
    (TIME + b'\n{"function":"f","progress":{}}', "progress of a job cannot be of type dict"),
    (TIME + b'\n{"function":"f","heartbeat":[1]}', "the field heartbeat"),
    (TIME + b'\n{"function":"f","retry_delay":null}', "the field retry_delay"),
    (TIME + b'\n{"function":"f","retry_backoff":"yes"}', "the field retry_backoff"),
    (TIME + b'\n{"function":"f","group_key":1}', "the field group_key"),
    (TIME + b'\n{"function":"f","error":{}}', "the field error"),
    (TIME + b'\n{"function":"f"', "cannot be read as JSON"),
    (TIME + b'\n{"function":"\xff"}', "not UTF-8 at byte"),
    (TIME + b'\n{"function":NaN}', "NaN is not JSON"),
    (TIME + b"\n" + b"[" * 100_000, "nested too deeply"),
    (None, "stored as bytes, not as NoneType"),
]


@pytest.mark.parametrize(("value", "what"), BAD_VALUES, ids=lambda part: repr(part)[:50])
def test_bytes_that_are_no_job(kernels: Kernels, value: Any, what: str) -> None:
    with pytest.raises(DecodeError) as caught:
        kernels.value(value)
    assert type(caught.value) is DecodeError
    assert what in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("value", "what"), BAD_VALUES, ids=lambda part: repr(part)[:50])
def test_a_bad_claim_does_not_take_the_others_with_it(kernels: Kernels, value: Any, what: str) -> None:
    answer = [b"1:a", JOB, 0, b"2:b", value, 0, b"3:c", JOB, 0]
    first, bad, last = kernels.claims(answer, {}, lambda *_: None)
    assert (first.key, last.key) == ("a", "c")
    assert type(bad) is DecodeError
    assert what in str(bad)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (b"", "it has no end"),
        (JOB, "None is no status of a finished job"),
        (TIME + b";Sdone\n", "'done' is no status"),
        (TIME + b";S\xff\n", "ordinal not in range"),
        (TIME + b";Scomplete;o5\n1234", "more than the 4 bytes"),
        (TIME + b";Scomplete;o-1\n1234", "more than the 4 bytes"),
        (TIME + b";Scomplete;e3;m2\n1234", "more than the 4 bytes"),
        (TIME + b";Scomplete;o%d\n1234" % 2**64, "more than the 4 bytes"),
        (TIME + b";Scomplete;o1.0\n1234", "1.0"),
        (12, "not as int"),
    ],
)
def test_bytes_that_are_no_record(kernels: Kernels, record: Any, what: str) -> None:
    with pytest.raises(DecodeError) as caught:
        kernels.unpack_record(record)
    assert what in str(caught.value)


@pytest.mark.parametrize("member", [b"", b"no colon", b"1:\xff", None, "1:a"], ids=repr)
def test_bytes_that_are_no_member(kernels: Kernels, member: Any) -> None:
    with pytest.raises(DecodeError):
        kernels.key_of(member)


@pytest.mark.parametrize(
    "data", [b"x", b":", b"1", b"1:", b"-1:a", b" 1:a", b"1_0:" + b"a" * 10, b"9" * 30 + b":"]
)
def test_bytes_that_are_no_netstrings(kernels: Kernels, data: bytes) -> None:
    with pytest.raises(ValueError, match="netstring"):
        kernels.split_netstrings(data)


# By the queue -----------------------------------------------------------------------------------------------


@pytest.fixture
def queue() -> Queue:
    return Queue.from_url("redis://localhost:1", name="mine")


def test_a_job_of_another_queue(queue: Queue) -> None:
    assert queue.deserialize(b'{"function":"f","queue":"mine"}') is not None
    with pytest.raises(DecodeError, match="a job of the queue 'theirs', not of 'mine'"):
        queue.deserialize(b'{"function":"f","queue":"theirs"}')


@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b"x", b'{"function":1}', b"\xff", b'{"function":"f","status":"?"}']
)
def test_bytes_that_are_no_job_for_the_queue(queue: Queue, data: bytes) -> None:
    with pytest.raises(DecodeError):
        queue.deserialize(data)


def test_an_unknown_field_is_left_out_by_the_queue(queue: Queue) -> None:
    job = queue.deserialize(b'{"function":"f","invented":1}')
    assert job is not None
    assert not hasattr(job, "invented")


@pytest.mark.parametrize(
    ("patch", "what"),
    [
        (b"x", "the patch b'x' is damaged"),
        (b"7:touched3:now", "touched at b'now'"),
        (b"4:meta1:7", "the field meta of a job cannot be b'7'"),
        (b"8:progress2:[]", "the field progress"),
        (b"6:result1:{", "cannot be read as JSON"),
    ],
)
def test_a_patch_that_is_none(queue: Queue, patch: bytes, what: str) -> None:
    """A finished job whose bytes are damaged is shown as one that says so."""
    record = TIME + b';Scomplete;m%d\n{"function":"f"}%b' % (len(patch), patch)
    job = Records(queue, None, None).finished("key", record)
    assert what in str(job.error)


def test_a_record_that_is_none(queue: Queue) -> None:
    with pytest.raises(DecodeError, match="the record of 'key' is damaged: the header b'nonsense'"):
        Records(queue, None, None).finished("key", b"nonsense")


def test_what_cannot_be_stored_is_refused_by_name(queue: Queue) -> None:
    records = Records(queue, None, None)
    with pytest.raises(TypeError, match=r"f: kwargs\['when'\]\[0\] is .* of type set"):
        records.value(Job("f", kwargs={"when": [{1}]}))
    with pytest.raises(UsageError):
        records.value(Job("f", priority=1 << 31))
