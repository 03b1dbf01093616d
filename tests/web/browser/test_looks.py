"""Light and dark, wide and narrow: without a violation of accessibility that a program can find, and without
a page that is wider than its window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from saq.web import paths
from tests.web.browser import vendored
from tests.web.browser.conftest import Guard, Open
from tests.web.browser.stage import Stage, cron

AXE = (vendored.TESTS / "axe.min.js").read_text()
LONG = "a-key-that-is-longer-than-any-phone-is-wide-" * 4


class Show(NamedTuple):
    """A site with something on every page, and where the pages are."""

    site: str
    pages: dict[str, str]


@pytest.fixture(scope="module")
def show(stage: Stage) -> Iterator[Show]:
    stage.hold()
    queue, other = stage.queue("looks"), stage.queue("another one, with a name that is rather long " * 2)
    worker = stage.worker(queue, cron_jobs=cron(), metadata={"zone": "eu-1", "note": LONG})
    failed = stage.enqueue(queue, "charge_card", amount="1", card="4711", retries=2, key=LONG)
    fetched = stage.enqueue(queue, "fetch_prices", url="https://example.org/" + LONG)
    done = stage.enqueue(queue, "send_email", to=LONG, meta={"note": LONG})
    stage.ended(queue, failed, fetched, done)
    running = stage.enqueue(queue, "hold", progress=0.3, key="running", timeout=0)
    stage.enqueue(queue, "send_email", to=LONG, scheduled=time.time() + 900, key=f"later {LONG}")
    for i in range(5):
        stage.enqueue(other, "resize_image", path=f"/pictures/{i}/{LONG}.png")
    stage.run(other.pause())
    assert worker.id
    here = paths.join("queues", queue.name)
    yield Show(
        stage.serve([queue, other]),
        {
            "overview": "",
            "queue": paths.join("queues", other.name),
            **{state: f"{here}?state={state}" for state in ("scheduled", "active", "finished", "failed")},
            "job that failed": paths.join("queues", queue.name, "jobs", failed.key),
            "job that runs": paths.join("queues", queue.name, "jobs", running.key),
            "job that is complete": paths.join("queues", queue.name, "jobs", done.key),
            "groups": "failed",
            "schedule": "schedule",
            "workers": "workers",
            "nothing": "queues/nothing",
        },
    )
    stage.let_go()


def settled(page: Page) -> None:
    """What was asked for first has come, and nothing says that it is being waited for."""
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    expect(page.locator(".live")).to_have_text("Live")


def violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
    ]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page(look: Open, guard: Guard, show: Show, theme: str, width: int) -> None:
    guard.allowed.add("404")
    found = {}
    page = look("about:blank", width=width, color_scheme=theme, bypass_csp=True)
    for name, path in show.pages.items():
        page.goto(f"{show.site}{path}")
        settled(page)
        found[name] = violations(page)
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        if by := page.evaluate(wider):
            found[name].append(f"wider than the window, by {by} pixels")
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_dialogs_and_toasts(look: Open, show: Show) -> None:
    page = look(f"{show.site}{show.pages['failed']}", bypass_csp=True)
    settled(page)
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("group", name="Selected jobs").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []


def test_the_theme_is_chosen_and_remembered(look: Open, show: Show) -> None:
    page = look(show.site, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    expect(theme).to_have_accessible_name("Theme: light")
    assert page.evaluate(ground) == light
    theme.click()
    expect(theme).to_have_accessible_name("Theme: dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(theme).to_have_accessible_name("Theme: dark")
    assert page.evaluate(ground) == dark
    theme.click()
    expect(theme).to_have_accessible_name("Theme: auto")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == dark


def test_a_reader_hears_what_a_table_says(look: Open, show: Show) -> None:
    for width in (1280, 360):
        page = look(f"{show.site}{show.pages['failed']}", width=width)
        settled(page)
        table = page.get_by_role("table", name="Jobs")
        expect(table.get_by_role("row")).to_have_count(3 if width > 760 else 2)
        cells = table.get_by_role("row").filter(has_text="CardDeclined").get_by_role("cell")
        expect(cells.filter(has_text="CardDeclined")).to_have_count(1)
        landmarks = page.get_by_role("navigation").all()
        assert len({one.get_attribute("aria-label") for one in landmarks}) == len(landmarks)
        expect(page.get_by_role("main")).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
