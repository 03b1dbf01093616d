"""Everything can be done with the keyboard, and one always sees where one is."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from saq import Job, Queue
from saq.web import paths
from tests.web.browser.conftest import Open
from tests.web.browser.stage import Stage

FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText.trim()"


def focused(page: Page) -> str:
    return str(page.evaluate(FOCUSED))


def tab_to(page: Page, name: str) -> None:
    """Goes on with Tab until what has this name has the focus; what has it is always to be seen."""
    for _ in range(80):
        page.keyboard.press("Tab")
        outlined = page.evaluate(
            """() => { for (let one = document.activeElement; one; one = one.parentElement)
                if (getComputedStyle(one).outlineStyle !== "none") return true; return false; }"""
        )
        assert outlined or page.evaluate("document.activeElement === document.body"), focused(page)
        if focused(page) == name:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def test_letters(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    page = look(site)
    expect(page.locator(".queues tbody tr")).to_have_count(1)
    for keys, title in (("gf", "Failed jobs"), ("gs", "Schedule"), ("gw", "Workers"), ("go", "Overview")):
        page.keyboard.type(keys)
        expect(page).to_have_title(f"{title} · saq")
    page.keyboard.type("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.type("gf")  # not while a dialog is open
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).to_have_title("Overview · saq")


def test_letters_can_be_turned_off(look: Open, site: str) -> None:
    page = look(site)
    page.keyboard.type("?")
    page.get_by_role("checkbox", name="Letters are shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.type("gf")
    expect(page).to_have_title("Overview · saq")
    page.reload()
    expect(page.locator("h1")).to_have_text("Overview")
    page.keyboard.type("gf")
    expect(page).to_have_title("Overview · saq")


def test_rows_and_pages(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.run(queue.enqueue_many([_job(i) for i in range(70)]))
    page = look(f"{site}{paths.join('queues', queue.name)}")
    expect(page.locator(".jobs tbody tr")).to_have_count(50)
    page.keyboard.type("jj")
    assert focused(page) == "k01"
    page.keyboard.type("k")
    assert focused(page) == "k00"
    page.keyboard.type("jx")
    expect(page.get_by_role("checkbox", name="Select k01")).to_be_checked()
    page.keyboard.type("x")
    page.keyboard.type("n")
    expect(page.locator(".jobs td.c-key").first).to_have_text("k50")
    page.keyboard.type("p")
    expect(page.locator(".jobs td.c-key").first).to_have_text("k00")
    page.keyboard.type("/")
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    page.keyboard.type("k07")  # k is a letter here
    expect(page.locator(".jobs td.c-key")).to_have_text(["k07"])
    page.keyboard.press("Escape")
    expect(page.locator(".jobs tbody tr")).to_have_count(50)
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()
    page.keyboard.type("j")
    page.keyboard.press("Enter")
    expect(page).to_have_title("k00 · saq")


def _job(i: int) -> Job:
    return Job(function="send_email", kwargs={"to": "a@example.org"}, key=f"k{i:02}")


def test_an_action_with_tab_and_enter(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    job = stage.enqueue(queue, "send_email", to="a@example.org", key="one")
    page = look(f"{site}{paths.join('queues', queue.name)}")
    expect(page.locator(".jobs tbody tr")).to_have_count(1)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to(page, "Delete one")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    for _ in range(3):  # the focus stays inside
        page.keyboard.press("Tab")
    assert page.evaluate(
        "document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
    )
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert focused(page) == "Delete one"
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".empty")).to_have_text("No job waits.")
    assert stage.run(queue.job(job.key)) is None
