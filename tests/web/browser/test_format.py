"""How numbers, spans and JSON are written: asked of the very module that the page loads."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.web.browser.conftest import Open


@pytest.fixture
def page(look: Open, site: str) -> Page:
    return look(site)


def written(page: Page, function: str, values: list[Any]) -> Any:
    return page.evaluate(
        """async ([name, values]) => {
            const found = await import(new URL("static/format.js", document.baseURI));
            return values.map(value => found[name](value));
        }""",
        [function, values],
    )


def test_numbers_and_spans(page: Page) -> None:
    numbers = [0, 999, 9999, 10000, 1234567, None, "12"]
    assert written(page, "count", numbers) == ["0", "999", "9,999", "10,000", "1,234,567", "\u2013", "\u2013"]
    assert written(page, "compact", numbers) == ["0", "999", "9,999", "10K", "1.23M", "\u2013", "\u2013"]
    assert written(page, "rate", [0, 0.04, 1.25, 9.96, 42.4, 99.9, 1200.4]) == [
        "0", "0.0", "1.3", "10.0", "42", "100", "1,200",
    ]  # fmt: skip
    assert written(page, "span", [0, 0.02, 1.44, 9.96, 20, 999.6, 1234, 12345, 61_000, -5, None]) == [
        "0 ms", "< 0.1 ms", "1.4 ms", "10 ms", "20 ms", "1.00 s", "1.23 s", "12.3 s", "1 m 01 s",
        "0 ms", "\u2013",
    ]  # fmt: skip
    assert written(page, "roughly", [0, 59_999, 60_000, 3_600_000, 90_061_000]) == [
        "0 s", "59 s", "1 m 00 s", "1 h 00 m", "1 d 01 h",
    ]  # fmt: skip
    assert written(page, "ago", [-5, 900, 59_000, 61_000, 7_300_000, 180_000_000]) == [
        "now", "now", "59 s ago", "1 m ago", "2 h ago", "2 d ago",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "indented"),
    [
        ('{"a":1}', '{\n  "a": 1\n}'),
        ("[]", "[]"),
        ('{"a": {}, "b": [ ]}', '{\n  "a": {},\n  "b": []\n}'),
        # No number is read, and so none is rounded.
        ("[9223372036854775809, 1e400, 0.10]", "[\n  9223372036854775809,\n  1e400,\n  0.10\n]"),
        (r'["a\"b, {c}", "\\"]', '[\n  "a\\"b, {c}",\n  "\\\\"\n]'),
        # Cut in the middle of a string, and of a list.
        ('{"a": "bcd \u2026', '{\n  "a": "bcd \u2026'),
        ("[1, 2 \u2026", "[\n  1,\n  2 \u2026"),
        # No JSON at all: as it is.
        ("plain  text, {with} braces", "plain  text, {with} braces"),
        ('"a string"', '"a string"'),
        ("]}]}", "]}]}"),
        ("", ""),
    ],
)
def test_json_is_indented_by_its_letters(page: Page, text: str, indented: str) -> None:
    assert written(page, "indented", [text]) == [indented]
