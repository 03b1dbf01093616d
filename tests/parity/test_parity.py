"""The same comes of both selves of a kernel, whatever goes in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saq.errors import DecodeError
from tests.parity import inputs
from tests.parity.conftest import Same
from tests.parity.inputs import EDGES

COMMON = {"queue": None, "status": "active", "attempts": 1, "_suffix": b";a1"}
DEFAULTS: list[Any] = ["f", None, 0, 600, 10, 1, 0, 0, 0.0, False, None, {}, 0.0, None]


def finish(fields: dict[str, Any], history: Any) -> None:
    if history == []:
        raise DecodeError("this history is none")
    fields["attempts"] = history


# Values -----------------------------------------------------------------------------------------------------


@given(inputs.anything)
def test_writing_json(same: Same, value: Any) -> None:
    same("dump_plain", value)
    same("dump_plain", {"function": "f", "kwargs": value})


@given(inputs.json_bytes)
@example(b"")
@example(b" ")
@example(b"9" * 19)
@example(b"-" + b"9" * 19)
@example(b"-" + b"9" * 18)
@example(b"9" * 20)
@example(b"1234567890123456789,-1234567890123456789")
def test_reading_json(same: Same, data: bytes) -> None:
    same("load_plain", data)


@pytest.mark.parametrize("before", range(40))
def test_digits_are_found_wherever_they_stand(same: Same, before: int) -> None:
    for count in (18, 19, 20, 21, 40):
        for sign in (b"", b"-"):
            for filling in (b'"' + b"x" * before + b'",', b"1," * before, b"1" * min(before, 18) + b","):
                same("load_plain", b"[" + filling + sign + b"9" * count + b"]")
                same("load_plain", b"[" + filling + sign + b"9" * count)


@pytest.mark.parametrize("number", EDGES, ids=lambda number: str(number)[:24])
def test_every_edge_in_every_place(same: Same, number: int) -> None:
    text = str(number).encode()
    for value in (number, [number], {"a": number}, float(number) if abs(number) < 2**1000 else 0.5):
        same("dump_plain", value)
    same("load_plain", text)
    same("load_plain", b'{"a": [%b]}' % text)
    same("value", b"%b\n{}" % text)
    for tag in b"ptTrsabcoemSw":
        same("value", b'1767225600000;%c%b\n{"function":"f"}' % (tag, text))
        same("unpack_record", b'1767225600000;Scomplete;%c%b\n{"function":"f"}' % (tag, text))
    for place in range(1, 13):
        fields = [*DEFAULTS]
        fields[place] = {"a": number} if type(fields[place]) is dict or place == 1 else number
        same("pack", *fields)
    for name in ("kwargs", "heartbeat", "retry_delay", "retry_backoff", "group_key", "meta", "progress"):
        same("value", b'1767225600000\n{"function":"f","%b":%b}' % (name.encode(), text))


# Jobs -------------------------------------------------------------------------------------------------------


@given(inputs.fields)
def test_packing_a_job(same: Same, fields: tuple[Any, ...]) -> None:
    same("pack", *fields)


@given(st.lists(st.tuples(st.binary(), st.binary(), st.booleans(), st.none()), max_size=5))
def test_packing_an_enqueue(same: Same, items: list[Any]) -> None:
    same("pack_enqueue", items)


@given(st.tuples(inputs.binary, inputs.binary, inputs.binary, st.none() | inputs.binary, inputs.binary))
def test_packing_an_end(same: Same, parts: tuple[Any, ...]) -> None:
    same("pack_end", *parts)


@given(inputs.values)
@example(b"1767225600000\n")
@example(b"1767225600000")
@example(b"176722560000x\n{}")
@example(b"1767225600000;t..5\n{}")
@example(b'17672256000000\n{"function":"f"}')
def test_reading_a_job(same: Same, value: bytes) -> None:
    same("value", value)
    same("unpack_record", value)


@given(inputs.payloads)
def test_reading_a_payload(same: Same, payload: bytes) -> None:
    same("payload", payload)


@given(st.lists(st.tuples(inputs.members, inputs.values, inputs.histories), max_size=4), st.booleans())
def test_reading_claims(same: Same, claims: list[tuple[Any, ...]], cut_off: bool) -> None:
    answer = [part for claim in claims for part in claim]
    same("claims", answer[:-1] if cut_off else answer, COMMON, finish)


@given(inputs.members)
@example(b"1:\xed\xa0\x80")
def test_keys(same: Same, member: bytes) -> None:
    same("key_of", member)


@pytest.mark.parametrize("wrong", [None, 1, "text", bytearray(b"1:2"), [], {}], ids=repr)
@pytest.mark.parametrize("name", ["value", "payload", "unpack_record", "key_of"])
def test_what_is_not_bytes(same: Same, name: str, wrong: Any) -> None:
    same(name, wrong)
    same("claims", [b"1:key", wrong, 0, wrong, b'1767225600000\n{"function":"f"}', 0], COMMON, finish)


# Netstrings -------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_joining(same: Same, parts: list[bytes]) -> None:
    same("join_netstrings", parts)


@given(
    st.binary(max_size=60)
    | st.text("0123456789:-+_ x", max_size=40).map(str.encode)
    | st.lists(st.binary(max_size=12)).map(lambda parts: b"".join(b"%d:%b" % (len(p), p) for p in parts))
)
@example(b"999999999:x")
@example(b"9999999999:x")
@example(b"%d:x" % 2**63)
@example(b"-1:x")
@example(b":x")
def test_splitting(same: Same, data: bytes) -> None:
    same("split_netstrings", data)
