"""Cron lines: which are any, what is said of the others, and when they tick."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from saq import CronJob
from saq.cron import check, last_tick, next_tick
from saq.errors import UsageError
from saq.job import CronJob as CronJobOfTheJobs

BERLIN = ZoneInfo("Europe/Berlin")


async def nothing(ctx: Any) -> None:
    pass


def at(text: str, tz: tzinfo = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=tz).timestamp()


def shown(moment: float, tz: tzinfo = UTC) -> str:
    return datetime.fromtimestamp(moment, tz).replace(tzinfo=None).isoformat(" ")


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/5 0-6 1,15 * mon-fri",
        "0 0 1 1 *",
        "0 12 * * 7",
        "* * * * * */10",
        "0 0 29 2 *",
        "0 0 * jan sun",
        "0 0 l * *",
        "@hourly",
        "@daily",
    ],
)
def test_lines_that_are_right(expression: str) -> None:
    check(expression)
    now = at("2024-05-17 12:34:56")
    assert last_tick(expression, now, UTC) <= now < next_tick(expression, now, UTC)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("60 * * * *", "field 1 \\(minute\\) cannot be '60'"),
        ("* 24 * * *", "field 2 \\(hour\\) cannot be '24'"),
        ("* * 32 * *", "field 3 \\(day of month\\) cannot be '32'"),
        ("* * * 13 *", "field 4 \\(month\\) cannot be '13'"),
        ("* * * * 8", "field 5 \\(day of week\\) cannot be '8'"),
        ("* * * * * 60", "field 6 \\(second\\) cannot be '60'"),
        ("a * * * *", "field 1 \\(minute\\) cannot be 'a'"),
        ("* * */0 * *", "field 3 \\(day of month\\)"),
        ("* * * *", "has 4 fields; it needs five .* or six"),
        ("* * * * * * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("@often", "no such shorthand"),
        ("0 0 30 2 *", "no time satisfies all of its fields"),
        (None, "a cron line is text, not NoneType"),
        (5, "a cron line is text, not int"),
    ],
)
def test_lines_that_are_wrong_and_what_is_said(expression: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check(expression)


@pytest.mark.parametrize(
    ("expression", "now", "last", "following"),
    [
        ("* * * * *", "2024-01-01 10:00:30.5", "2024-01-01 10:00:00", "2024-01-01 10:01:00"),
        ("* * * * *", "2024-01-01 10:00:00", "2024-01-01 10:00:00", "2024-01-01 10:01:00"),
        ("* * * * *", "2024-01-01 09:59:59.999", "2024-01-01 09:59:00", "2024-01-01 10:00:00"),
        ("* * * * * *", "2024-01-01 10:00:30.5", "2024-01-01 10:00:30", "2024-01-01 10:00:31"),
        ("* * * * * */20", "2024-01-01 10:00:59.9", "2024-01-01 10:00:40", "2024-01-01 10:01:00"),
        ("0 0 29 2 *", "2024-03-01 00:00", "2024-02-29 00:00:00", "2028-02-29 00:00:00"),
        ("30 8 * * mon", "2024-05-15 00:00", "2024-05-13 08:30:00", "2024-05-20 08:30:00"),
    ],
)
def test_the_ticks_before_and_after_a_moment(expression: str, now: str, last: str, following: str) -> None:
    assert shown(last_tick(expression, at(now), UTC)) == last
    assert shown(next_tick(expression, at(now), UTC)) == following


def test_a_time_zone_moves_the_ticks() -> None:
    now = at("2024-07-01 12:00")
    assert shown(last_tick("0 9 * * *", now, UTC)) == "2024-07-01 09:00:00"
    assert shown(last_tick("0 9 * * *", now, BERLIN)) == "2024-07-01 07:00:00"
    assert shown(last_tick("0 9 * * *", now, timezone(timedelta(hours=-3, minutes=-30)))) == (
        "2024-06-30 12:30:00"
    )


@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27"])
def test_a_daily_tick_comes_once_on_the_days_when_the_clocks_change(day: str) -> None:
    begin = at(f"{day} 00:00", BERLIN)
    end = at(f"{day} 23:59", BERLIN)
    ticks = {last_tick("30 9 * * *", begin + minute * 60, BERLIN) for minute in range(0, 25 * 60, 7)}
    today = [tick for tick in ticks if begin <= tick <= end]
    assert [shown(tick, BERLIN) for tick in today] == [f"{day} 09:30:00"]


def test_ticks_only_go_forward_as_time_does() -> None:
    now = at("2024-10-26 20:00")
    seen = [last_tick("*/10 * * * *", now + minute * 60, BERLIN) for minute in range(24 * 60)]
    assert seen == sorted(seen)
    assert max(b - a for a, b in itertools.pairwise(seen)) == 600


def test_cron_job_is_a_dataclass_that_users_subclass() -> None:
    @dataclasses.dataclass
    class Named(CronJob):
        name: str = ""

    entry = Named(nothing, "* * * * *", unique=False, kwargs={"a": 1}, name="mine")
    assert (entry.function, entry.cron, entry.unique, entry.name) == (nothing, "* * * * *", False, "mine")
    assert dataclasses.asdict(CronJob(nothing, "* * * * *")) == {
        "function": nothing,
        "cron": "* * * * *",
        "unique": True,
        "queue": None,
        **dict.fromkeys(("timeout", "heartbeat", "retries", "ttl", "kwargs", "meta")),
    }
    assert CronJobOfTheJobs is CronJob
