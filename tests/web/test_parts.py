"""Paths and presentation, without a server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saq import Job
from saq.web import paths, present

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_a_name_survives_its_segment(name: str) -> None:
    segment = paths.encode(name)
    assert paths.decode(segment.encode()) == name
    assert segment.isascii()
    assert not set(segment) & set("/?#\\ ")
    assert segment.lower().replace("%2e", ".") not in ("", ".", "..")


@given(st.text())
def test_what_others_encode_is_read_as_well(name: str) -> None:
    assert paths.decode(quote(name, safe="").encode()) == name


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_the_way_to_the_root(names: list[str]) -> None:
    path = paths.join(*names)
    segments, query = paths.split(f"/{path}?x=1".encode())
    assert query == b"x=1"
    assert [paths.decode(segment) for segment in segments] == names
    page = f"http://h/some/prefix/{path}"
    assert urljoin(page, paths.to_root(segments)) == "http://h/some/prefix/"


@pytest.mark.parametrize(
    ("target", "prefixes", "expected"),
    [
        (b"/", (), b"/"),
        (b"/x?y=/monitor", (), b"/x?y=/monitor"),
        (b"/monitor/x", ("/monitor",), b"/x"),
        (b"/monitor/", ("/monitor",), b"/"),
        (b"/monitor/", ("/monitor/",), b"/"),
        (b"/monitor", ("/monitor",), None),
        (b"/monitor?x", ("/monitor",), None),
        (b"/monitoring", ("/monitor",), b"/monitoring"),
        (b"/x", ("/monitor",), b"/x"),
        (b"/proxy/monitor/x", ("/proxy", "/monitor", "/proxy//monitor"), b"/x"),
        (b"/monitor/x", ("/proxy", "/monitor", "/proxy//monitor"), b"/x"),
        (b"/my%20tool/x", ("/my tool",), b"/x"),
        (b"/monitor/monitor/x", ("/monitor",), b"/monitor/x"),
        (b"/queues/queues/q", ("/queues",), b"/queues/q"),
        (b"http://h/monitor/x", ("/monitor",), b"/x"),
        (b"http://h", ("/monitor",), b"/http://h"),
        (b"*", (), b"/*"),
        (b"", (), b"/"),
    ],
)
def test_below(target: bytes, prefixes: tuple[str, ...], expected: bytes | None) -> None:
    assert paths.below(target, prefixes) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [(b"/monitor", "./monitor/"), (b"/a/b?c", "./b/?c"), (b"//evil.example", "./evil.example/")],
)
def test_with_slash(target: bytes, expected: str) -> None:
    assert paths.with_slash(target) == expected


class Endless:
    """What a user's own ``load`` may have made."""

    def __repr__(self) -> str:
        raise RuntimeError("never asked for")


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = None
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": 1}, '{"a": 1}'),
        ([], "[]"),
        ("x", '"x"'),
        (float("nan"), "NaN"),
        ({"a": Endless()}, '{"a": "<Endless>"}'),
        (Endless(), '"<Endless>"'),
        (b"x", '"<bytes>"'),
        ({(1, 2): 3}, "{ …"),
        (circular(), "[ …"),
        ("\ud800", '"\ud800"'),
    ],
    ids=range(10),
)
def test_any_value_is_text(value: Any, shown: str) -> None:
    assert present.value(value, present.LONG) == shown


def test_what_is_large_is_cut() -> None:
    for value in (["x" * 50] * 1_000_000, "x" * 5_000_000, {str(n): n for n in range(100_000)}):
        for limit in (present.LONG, present.SHORT):
            shown = present.value(value, limit)
            assert len(shown) == limit + 2
            assert shown.endswith(" …")
    assert present.value(deep(), present.LONG).endswith("…")


def test_what_fits_a_line_stays_on_it_and_what_does_not_is_laid_out() -> None:
    assert "\n" not in present.value({"a": [1] * 10}, present.LONG)
    assert "\n" in present.value({"a": [1] * 100}, present.LONG)
    assert "\n" not in present.value({"a": [1] * 100}, present.SHORT)


@pytest.mark.parametrize(
    "fields",
    [
        {"progress": float("nan"), "timeout": float("inf"), "scheduled": float("nan")},
        {"priority": 10**5000, "retries": "<b>", "ttl": [1], "queued": True},
        {"kwargs": Endless(), "result": circular(), "meta": {1: Endless()}},
        {"error": Endless.__name__ * 100_000, "worker_id": {"a": 1}, "group_key": b"x"},
        {"retry_backoff": float("inf"), "timeout": None},
    ],
)
def test_any_job_is_strict_json(fields: dict[str, Any]) -> None:
    job = Job("f", key="k")
    job.__dict__.update(fields)
    for limit in (present.LONG, present.SHORT):
        shown = present.Presenter().job(job, limit)
        assert len(json.dumps(shown, allow_nan=False)) < 5 * present.LONG
        assert shown.pop("actions") == []
        assert all(isinstance(value, str | int | float | bool | None) for value in shown.values())


@pytest.mark.parametrize(
    "info",
    [None, [], "x", {}, {"stats": "x"}, {"stats": {"complete": "x", "uptime": 10**400}}, {"metadata": [1]}],
)
def test_any_worker_is_strict_json(info: Any) -> None:
    shown = present.worker(info)
    json.dumps(shown, allow_nan=False)
    assert set(shown["stats"]) == {"complete", "failed", "retried", "aborted", "uptime"}
