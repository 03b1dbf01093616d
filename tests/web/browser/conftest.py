"""A real Chromium, a stage to look at, and a guard: a page that says an error, asks another host or opens a
dialog of the browser fails its test.

Without a Chromium these tests are skipped; with SAQ_REQUIRE_BROWSER=1 they fail. SAQ_CHROMIUM names another.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Request,
    expect,
    sync_playwright,
)

from saq import Queue
from tests.conftest import SERVER_KIND
from tests.servers import Server
from tests.web.browser.stage import Stage

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: How long anything may take to be seen: this machine may be busy.
PATIENCE = 10_000

expect.set_options(timeout=PATIENCE)


def find_chromium() -> str | None:
    named = os.environ.get("SAQ_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        reason = f"no Chromium: none of {', '.join(NAMES)} is on PATH (apt install chromium)"
        if os.environ.get("SAQ_REQUIRE_BROWSER"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container does not have; what is looked at is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    with Server(SERVER_KIND) as server:
        stage = Stage(server)
        yield stage
        stage.close()


@pytest.fixture
def own_stage() -> Iterator[Stage]:
    """One whose server may be stopped."""
    with Server(SERVER_KIND) as server:
        stage = Stage(server)
        yield stage
        stage.close()


@pytest.fixture
def queue(stage: Stage, request: pytest.FixtureRequest) -> Queue:
    """A queue of the test's own."""
    stage.hold()
    return stage.queue(request.node.name)


@pytest.fixture
def site(stage: Stage, queue: Queue) -> str:
    """The address at which that queue is shown."""
    return stage.serve([queue])


class Guard:
    """What a page must not do."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        #: Answers that a test asks for on purpose: the browser itself reports them as errors.
        self.allowed: set[str] = set()
        self.requests: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", self._failed)
        page.on("dialog", self._opened)
        page.on("request", lambda request: self._asked(page, request))

    def _failed(self, error: Error) -> None:
        self.wrong.append(f"error: {error}")

    def _opened(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(word in message.text for word in self.allowed):
            self.wrong.append(f"console: {message.text} {message.location}")

    def _asked(self, page: Page, request: Request) -> None:
        self.requests.append(request.url)
        host = urlsplit(request.url).netloc
        if host != urlsplit(page.url).netloc and page.url != "about:blank":
            self.wrong.append(f"request: {request.url}")


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    assert guard.wrong == []


Open = Callable[..., Page]


@pytest.fixture
def look(browser: Browser, guard: Guard) -> Iterator[Open]:
    """Opens a page: `look(address, width=360, color_scheme="dark")`."""
    contexts: list[BrowserContext] = []

    def look(address: str, width: int = 1280, height: int = 900, **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            **options,  # type: ignore[arg-type]
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        guard.watch(page)
        page.goto(address)
        return page

    yield look
    for context in contexts:
        context.close()
