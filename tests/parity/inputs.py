"""What goes into the kernels: every JSON value, every field of a job, every integer edge, any bytes."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

#: Where an integer type of C ends, or a float stops to be exact, and beside it.
EDGES = sorted(
    {
        sign * (2**power + step)
        for power in (0, 7, 8, 15, 16, 24, 31, 32, 52, 53, 62, 63, 64, 65, 127, 128)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
    | {
        sign * (10**digits + step)
        for digits in (18, 19, 20, 21, 400)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
)


class Number(int):
    """Not of exactly a type that JSON has."""


class Colour(enum.IntEnum):
    RED = 1


integers = st.sampled_from(EDGES) | st.integers() | st.integers(-(2**70), 2**70)
floats = st.floats() | st.sampled_from([0.0, -0.0, 1e308, 5e-324, float(2**53), float(2**63), float(2**64)])
#: Lone surrogates included.
texts = st.text(st.characters(), max_size=40) | st.sampled_from(["", "\ud800", "a\x00b", "ü", "\U0001f600"])
scalars = st.none() | st.booleans() | integers | floats | texts


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)


json_values = st.recursive(scalars, _nested, max_leaves=12)
#: What JSON cannot say, or says as something else.
odd_values = st.sampled_from(
    [
        Number(7),
        Colour.RED,
        {1, 2},
        b"bytes",
        (1, 2),
        datetime(2026, 1, 2, tzinfo=UTC),
        object,
        {1: 2},
        [[(), {}]],
    ]
)
anything = st.recursive(scalars | odd_values, _nested, max_leaves=8)

kwargs = st.none() | st.dictionaries(texts, json_values, max_size=4)
fields = st.tuples(
    texts,  # function
    kwargs,
    integers | st.just(0),  # priority
    integers | floats | st.just(600),  # ttl
    integers | floats | st.just(10),  # timeout
    integers | st.just(1),  # retries
    integers | floats | st.just(0),  # scheduled
    st.none() | integers | floats | st.just(0),  # heartbeat
    integers | floats | st.just(0.0),  # retry_delay
    st.booleans() | floats | integers,  # retry_backoff
    st.none() | texts,  # group_key
    st.dictionaries(texts, json_values, max_size=3),  # meta
    floats | integers,  # progress
    st.none() | st.dictionaries(texts, json_values, max_size=2),  # extra
)

binary = st.binary(max_size=200)
#: Digits and what may stand around them: where orjson and `json` part.
digits = st.text("0123456789-.eE, []", max_size=60).map(str.encode)
json_bytes = (
    json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: b" " + json.dumps(value).encode())
    | digits
    | binary
)

numbers = st.one_of(
    integers.map(str),
    floats.map(repr),
    st.sampled_from(["", "+1", " 1", "1_0", "1e400", "-", "x", "nan", "١٢", "0" * 5000]),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
tags = st.sampled_from(list(b"ptTrsabcoemSwzQ\xff")).map(lambda tag: bytes([tag]))
#: Headers, right ones and wrong ones.
headers = st.builds(
    lambda queued, rest: b";".join([queued, *rest]),
    st.just(b"1767225600000") | numbers,
    st.lists(
        st.builds(lambda tag, value: tag + value, tags, numbers | binary)
        | st.sampled_from(
            [b"Scomplete", b"Sfailed", b"Saborted", b"Sactive", b"o3", b"e2", b"m1", b"o-1", b"wme"]
        ),
        max_size=6,
    ),
)
payloads = (
    st.fixed_dictionaries(
        {"function": texts | json_values},
        optional=dict.fromkeys(
            ("kwargs", "heartbeat", "retry_delay", "retry_backoff", "group_key", "meta", "progress"),
            json_values,
        )
        | {"error": json_values, "from_a_newer_release": json_values},
    ).map(lambda payload: json.dumps(payload).encode())
    | json_bytes
)
values = st.builds(lambda head, payload: head + b"\n" + payload, headers, payloads) | binary
members = st.builds(lambda token, key: token + b":" + key, numbers, binary) | binary
histories: st.SearchStrategy[Any] = st.just(0) | st.just([1, 0, 0, None, None]) | st.just([])
