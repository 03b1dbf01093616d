"""A short run of the fuzzer, and whether it would find anything."""

from __future__ import annotations

import random
from typing import Any

import pytest

from saq.errors import DecodeError
from tests.parity import fuzz
from tests.parity.conftest import Same
from tests.parity.selves import load


def test_a_short_run(same: Same) -> None:  # `same` decides whether there is a compiled self
    accepted = fuzz.run_chunk(seed=random.Random().getrandbits(32), chunk=0, inputs=60_000)
    # Damaged too little or too much, it would see but one half of the code.
    assert 6_000 < accepted < 54_000


def test_each_corpus_entry_is_accepted_as_it_is() -> None:
    decoders = fuzz.decoders(load(""))
    for name, sources in fuzz.CORPUS.items():
        for source in sources:
            if b"12345678901234567890" in source or source[:1] == b" ":
                continue  # for `json` to read
            if name == "load_plain" and b"9223372036854775808" in source:
                continue
            decoders[name](source)


def test_the_same_seed_does_the_same_damage() -> None:
    def damaged(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [fuzz.damage(b"12:hello world", chance) for _ in range(100)]

    assert damaged(1) == damaged(1) != damaged(2)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (lambda data: [1], "differs on"),
        (lambda data: [True, 2.0], "differs on"),
        (lambda data: data[99], "raised IndexError"),
        (lambda data: int("x"), "raised ValueError"),
    ],
)
def test_it_finds_a_difference(other: Any, what: str) -> None:
    with pytest.raises(fuzz.Difference, match=what):
        fuzz.compare("it", lambda data: [1, 2.0], other, b"x", DecodeError)
