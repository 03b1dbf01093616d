"""The default serializer: what comes back, what is refused, and what the messages say.

Owns the comparison with the standard library's ``json``, which is the yardstick throughout.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import struct
import uuid
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saq.errors import DecodeError, SerializationError
from saq.serializer import dumps, explain, loads


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Items(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    X = "x"


class Mixed(enum.StrEnum):
    """One whose value is not what ``json`` makes of it."""

    A = "text", "value"

    def __new__(cls, text: str, value: str) -> Mixed:
        self = str.__new__(cls, text)
        self._value_ = value
        return self


class Colour(enum.Enum):
    RED = 1


class Agreeable(enum.Enum):
    """One that is equal to its value."""

    ONE = 1

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)


class Coordinate(bytes, enum.Enum):
    """One that has a buffer and a value of its own."""

    X = 0, "x"

    def __new__(cls, number: int, value: str) -> Coordinate:
        self = bytes.__new__(cls, [number])
        self._value_ = value
        return self

    def __repr__(self) -> str:  # The inherited one fails, as the value is not bytes.
        return "Coordinate.X"


@dataclasses.dataclass
class Point:
    x: int = 1


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


Pair = namedtuple("Pair", "a b")


def same(one: Any, other: Any) -> bool:
    """Equal in type, bit for bit, order of keys included, all the way down."""
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, (list, dict)):
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
            if isinstance(one, dict):
                pairs.extend(zip(one.values(), other.values(), strict=True))
        elif isinstance(one, float):
            if struct.pack("d", one) != struct.pack("d", other):
                return False
        elif one != other:
            return False
    return True


def nested(depth: int, inner: Any = None) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


surrogates = st.text(st.characters(categories=("Cs", "Lu", "Nd", "So")))
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | numbers | st.text()
plain = st.recursive(
    plain_scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
odd_scalars = (
    plain_scalars
    | surrogates
    | st.integers()
    | st.integers(2**63 - 2, 2**65)
    | st.integers(-(2**65), -(2**63) + 2)
    | st.integers(10**18, 10**21)
    | st.builds(Text, surrogates)
    | st.builds(Whole, st.integers())
    | st.builds(Real, numbers)
    | st.sampled_from([Level.LOW, Name.X, Mixed.A])
)
keys = odd_scalars
anything = st.recursive(
    odd_scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.builds(Items, st.lists(inner))
        | st.builds(Pair, inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(keys, inner)
        | st.builds(Table, st.dictionaries(keys, inner))
        | st.builds(OrderedDict, st.dictionaries(keys, inner))
    ),
    max_leaves=20,
)


def is_plain_to(value: Any) -> bool:
    return not dumps(value).startswith(b" ")


# What comes back.


@settings(max_examples=400, deadline=None)
@given(anything)
def test_comes_back_as_json_brings_it_back(value: Any) -> None:
    assert same(loads(dumps(value)), json.loads(json.dumps(value)))


@settings(max_examples=200, deadline=None)
@given(plain)
def test_both_branches_agree(value: Any) -> None:
    data = dumps(value)
    assert is_plain_to(value)
    assert same(loads(data), loads(b" " + data))
    assert same(loads(data), json.loads(json.dumps(value)))


@settings(max_examples=200, deadline=None)
@given(anything, st.booleans(), st.sampled_from([None, 2]))
def test_json_of_others_is_read_as_json_reads_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # raw surrogates
        with pytest.raises(DecodeError):
            loads(text)
    else:
        assert same(loads(text), json.loads(text))
        assert same(loads(text.encode()), json.loads(text))


@settings(max_examples=200, deadline=None)
@given(anything)
def test_what_is_written_is_json_to_any_reader(value: Any) -> None:
    assert same(json.loads(dumps(value)), loads(dumps(value)))


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
@example(1e308)
@example(5e-324)
@example(2.2250738585072014e-308)
@example(1.7976931348623157e308)
@example(0.1)
@example(1e16)
@example(1e22)
@example(-9223372036854775809.0)
def test_floats_come_back_bit_for_bit(number: float) -> None:
    assert is_plain_to(number)
    assert same(loads(dumps(number)), number)
    assert same(loads(dumps({1: number}))["1"], number)
    assert same(loads(repr(number)), number)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**18,
        10**19,
        -(10**18),
        -(10**19),
        10**4000,
        1700000000000000000,
        [2**64],
        {"a": {"b": -(2**63) - 1}},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_integers_of_any_size(value: Any) -> None:
    assert same(loads(dumps(value)), value)
    assert same(loads(json.dumps(value)), value)
    assert same(loads(b"\n" + json.dumps(value).encode()), value)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\udfff": "a\ud800b"},
        {1: 1, 1.5: 2, None: 4, False: 5, 2**70: 6, -3: 7, 1e22: 8},
        {True: 3, -0.0: 7},
        {1: "a", "1": "b"},
        {Level.LOW: Name.X, Text("k"): Text("v")},
        Mixed.A,
        [Mixed.A],
        {Whole(3): Whole(4), Real(3.5): Real(-0.0)},
        Pair(1, [Pair(2, 3)]),
        Items([Table(a=OrderedDict(b=()))]),
        nested(254),
        nested(700, 2**70),
        nested(700, {1: "\ud800"}),
        "\x00\x1f\x7f\u2028\U0001f600",
        [[], {}, (), "", [[]], {"": {}}],
    ],
    ids=lambda value: repr(value)[:30],
)
def test_as_json_does(value: Any) -> None:
    assert same(loads(dumps(value)), json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    "value", [None, True, 1, "x", 1.5, {}, [], {"a": 1}, {"a": [1.5, (None, {"b": False})]}]
)
def test_plain_values_are_left_to_orjson(value: Any) -> None:
    assert dumps(value) == orjson.dumps(value)


@pytest.mark.parametrize(
    "value",
    [2**64, "\ud800", {1: 1}, Text("x"), Whole(1), Real(1.5), Level.LOW, Name.X, [Items()]],
)
def test_the_others_are_marked(value: Any) -> None:
    assert dumps(value).startswith(b" ")
    assert dumps(value)[1:] == json.dumps(value, separators=(",", ":")).encode()


def test_every_kind_of_input_is_read() -> None:
    for data in (b'{"a":[1]}', b' {"a":[1]}', b'\r\n\t{"a": [1]}\n'):
        assert loads(data) == {"a": [1]}
        assert loads(data.decode()) == {"a": [1]}
        assert loads(Text(data.decode())) == {"a": [1]}
        assert loads(bytearray(data)) == {"a": [1]}
        assert loads(memoryview(data)) == {"a": [1]}
        assert loads(memoryview(b"?" + data)[1:]) == {"a": [1]}
    assert loads("\u00e9".join('""')) == "\u00e9"


def test_the_value_is_left_alone() -> None:
    value = {1: [Text("x")], "b": (1, 2)}
    dumps(value)
    assert value == {1: [Text("x")], "b": (1, 2)}


# What is refused.

REFUSED = [
    math.nan,
    math.inf,
    -math.inf,
    Real("nan"),
    Real("inf"),
    {1, 2},
    frozenset({1}),
    b"x",
    bytearray(b"x"),
    memoryview(b"x"),
    datetime(2024, 1, 1, tzinfo=UTC),
    date(2024, 1, 1),
    timedelta(1),
    uuid.UUID(int=1),
    Decimal("1.5"),
    Point(),
    Point,
    Colour.RED,
    Agreeable.ONE,
    Coordinate.X,
    PurePosixPath("/x"),
    orjson.Fragment(b"[1,,"),
    Mock(spec=dict),
    Mock(spec=str),
    Unprintable(),
    object(),
    len,
    1j,
    ...,
    range(3),
    {}.keys(),
    iter([1]),
    10**10000,
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("odd", [False, True])
def test_refused_with_its_place(value: Any, odd: bool) -> None:
    neighbour: Any = 2**70 if odd else 1
    for whole, path in (
        (value, "kwargs"),
        ({"a": neighbour, "b": value}, "kwargs['b']"),
        ([neighbour, value], "kwargs[1]"),
        ((neighbour, None, value), "kwargs[2]"),
        ({"data": [neighbour, [], {"on": {}, "when": value}]}, "kwargs['data'][2]['when']"),
        ({"a": [neighbour], 3: Items([Table({None: value})])}, "kwargs[3][0][None]"),
    ):
        with pytest.raises(SerializationError) as caught:
            dumps(whole, "kwargs")
        message = str(caught.value)
        assert message.startswith(f"{path} is ")
        assert type(value).__name__ in message
        assert "convert it first" in message
        assert "its own dump and load" in message
        assert len(message) < 400
        assert message == explain(whole, "kwargs")


@pytest.mark.parametrize(
    "key",
    [
        math.nan,
        math.inf,
        -math.inf,
        Real("nan"),
        (1, 2),
        b"x",
        frozenset(),
        uuid.UUID(int=1),
        Colour.RED,
        Coordinate.X,
        date(2024, 1, 1),
        object(),
        Unprintable(),
        10**10000,
    ],
    ids=lambda key: type(key).__name__,
)
def test_refused_as_a_key(key: Any) -> None:
    with pytest.raises(SerializationError) as caught:
        dumps({"a": [{"b": 1, key: 2}]}, "result")
    assert str(caught.value).startswith("result['a'][0] has the key ")
    assert type(key).__name__ in str(caught.value)
    assert "convert it first" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "nan of type float, which JSON cannot say; convert it first (None"),
        ({1}, "{1} of type set"),
        (datetime(2024, 1, 2), "datetime.datetime(2024, 1, 2, 0, 0) of type datetime.datetime"),
        (datetime(2024, 1, 2), "(.isoformat())"),
        (b"\xff" * 100000, r"b'\xff\xff"),
        (Point(), "(dataclasses.asdict(...))"),
        (Colour.RED, "(.value)"),
        (Unprintable(), "<Unprintable>"),
        (10**10000, "<33220 bits> of type int"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_message_says_what_and_what_to_do(value: Any, said: str) -> None:
    with pytest.raises(SerializationError) as caught:
        dumps({"a": value})
    assert said in str(caught.value)


@settings(deadline=None)
@given(anything)
def test_nothing_to_explain(value: Any) -> None:
    assert explain(value) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        # By index, as Hypothesis wants a repr of what it samples from.
        odd_scalars | st.integers(0, len(REFUSED) - 1).map(lambda index: REFUSED[index]),
        lambda inner: st.lists(inner) | st.dictionaries(keys | st.just(math.nan), inner),
        max_leaves=10,
    )
)
def test_refused_if_and_only_if_there_is_something_to_explain(value: Any) -> None:
    said = explain(value)
    if said:
        with pytest.raises(SerializationError) as caught:
            dumps(value)
        assert str(caught.value) == said
    else:
        loads(dumps(value))


def test_circular_references() -> None:
    items: list[Any] = [1]
    items.append({"again": items})
    with pytest.raises(SerializationError) as caught:
        dumps({"a": items}, "kwargs")
    assert "kwargs['a'][1]['again'] leads back to kwargs['a']," in str(caught.value)
    table: dict[str, Any] = {}
    table["self"] = table
    with pytest.raises(SerializationError) as caught:
        dumps(table, "result")
    assert "result['self'] leads back to result," in str(caught.value)


def test_the_same_twice_is_no_circle() -> None:
    items = [1]
    assert loads(dumps({"a": items, "b": [items, items]})) == {"a": [1], "b": [[1], [1]]}
    assert explain({"a": items, "b": [items, items]}) == ""


def test_explaining_takes_no_longer_for_shared_items() -> None:
    value: Any = []
    for _ in range(60):
        value = [value, value]  # 2**60 lists, if each was looked at
    assert explain(value) == ""


def test_too_deep() -> None:
    value = nested(200_000)
    with pytest.raises(SerializationError) as caught:
        dumps(value, "kwargs")
    assert "kwargs is nested too deeply" in str(caught.value)
    value = nested(200_000, {1})
    with pytest.raises(SerializationError) as caught:
        dumps(value, "kwargs")
    assert "kwargs[0][0][0][0][0][0]...[0][0][0][0][0] is {1}" in str(caught.value)


def test_as_deep_as_json_can() -> None:
    depth = 1
    try:
        while depth < 2000:
            # A few frames of our own are not counted.
            json.loads(json.dumps(nested(depth + 10)))
            depth += 1
    except RecursionError:
        pass
    assert depth > 300
    assert same(loads(dumps(nested(depth))), nested(depth))
    assert same(loads(dumps({1: nested(depth - 1)})), {"1": nested(depth - 1)})


def test_one_that_cannot_be_iterated_over() -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("broken")

    with pytest.raises(SerializationError) as caught:
        dumps({"a": Broken(b=1)}, "kwargs")
    assert "kwargs['a'] cannot be iterated over" in str(caught.value)
    assert "broken" in str(caught.value)


# What cannot be read.


@settings(max_examples=500, deadline=None)
@given(st.binary() | st.binary().map(lambda data: b" " + data))
def test_arbitrary_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        value = loads(data)
    except DecodeError:
        pass
    else:
        assert same(value, json.loads(data.decode()))


@settings(max_examples=300, deadline=None)
@given(anything, st.data())
def test_damaged_bytes_are_refused_or_read(value: Any, choice: st.DataObject) -> None:
    data = bytearray(dumps(value))
    for _ in range(choice.draw(st.integers(1, 3))):
        place = choice.draw(st.integers(0, len(data) - 1))
        data[place] = choice.draw(st.sampled_from(b'0-+.eE"\\u{}[],: \x00\xffnt') | st.integers(0, 255))
    try:
        read = loads(data)
    except DecodeError:
        # With or without the mark.
        with pytest.raises(DecodeError):
            loads(b" " + data)
    else:
        assert same(read, loads(b" " + data))
        assert same(read, json.loads(bytes(data).decode()))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), anything))
def test_truncated_bytes_are_refused(value: Any) -> None:
    data = dumps(value)
    read = []
    for end in range(min(len(data), 80)):
        try:
            read.append(loads(data[:end]))
        except DecodeError:
            pass
    assert read == []


@pytest.mark.parametrize("mark", ["", " ", "\n"])
@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        '{"a":[NaN]}',
        "1e400",
        "[-1e999]",
        "nan",
        "01",
        "1.",
        "[1,]",
        '{"a":1',
        '{"a"}',
        "{1:2}",
        "'a'",
        '"\t"',
        '"\\x"',
        "1 2",
        "\ufeff1",
        "\x00",
        "1\x00",
        "1" * 5000,
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_not_json(text: str, mark: str) -> None:
    for data in (mark + text, (mark + text).encode()):
        with pytest.raises(DecodeError):
            loads(data)


@pytest.mark.parametrize("mark", [b"", b" "])
@pytest.mark.parametrize(
    "data", [b"", b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b"\x80\x04N.", "1".encode("utf-16")]
)
def test_what_is_not_even_text(data: bytes, mark: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(mark + data)


def test_what_is_not_even_bytes() -> None:
    for data in (None, 1, 1.5, [], {}, object(), Unprintable()):
        with pytest.raises(DecodeError, match=type(data).__name__):
            loads(data)  # type: ignore[arg-type]
    released = memoryview(b"1")
    released.release()
    with pytest.raises(DecodeError):
        loads(released)
    with pytest.raises(DecodeError):
        loads("\ud800")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1, "b": }', "at byte 14 "),
        ('{"\u00e9\u00e9": }'.encode(), "at byte 9 "),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7 "),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[1e400]", "1e400 is beyond"),
        (b"", "there is nothing"),
        (b"\x80\x04N.", r"b'\x80\x04N.'"),
        (b"[" * 100_000, "nested too deeply"),
        (b"x" * 100_000, "100000 bytes"),
        (b"1" * 5000, "4300"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_message_says_where(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as caught:
        loads(data)
    assert said in str(caught.value)
    assert "with its load" in str(caught.value)
    assert len(str(caught.value)) < 500


@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\Z"))
def test_numbers_of_others(text: str) -> None:
    expected = json.loads(text)
    if isinstance(expected, float) and math.isinf(expected):
        with pytest.raises(DecodeError):
            loads(text)
    else:
        assert same(loads(text), expected)
        assert same(loads(f"[{text},{text}]"), [expected, expected])
