"""What happens is seen as it happens; nobody looks, nothing is asked; one hears of a server that is away."""

from __future__ import annotations

from playwright.sync_api import Page, Route, expect

from saq import Queue
from saq.web import paths
from tests.web.browser.conftest import Guard, Open
from tests.web.browser.stage import Stage


def hide(page: Page, hidden: bool) -> None:
    """What a browser does with a tab that is behind another one; headless, none ever is."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_job_appears(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    overview = look(site)
    listed = look(f"{site}{paths.join('queues', queue.name)}")
    for page in (overview, listed):
        expect(page.locator(".live")).to_have_text("Live")
    expect(listed.locator(".empty")).to_have_text("No job waits.")
    job = stage.enqueue(queue, "send_email", to="a@example.org", key="new one")
    expect(overview.locator(".queues td.c-queued")).to_have_text("1")
    expect(listed.locator(".jobs td.c-key")).to_have_text([job.key])
    expect(listed.locator(".tabs a", has_text="queued").locator(".value")).to_have_text("1")


def test_a_list_stands_still_while_one_points_at_it(
    look: Open, stage: Stage, queue: Queue, site: str
) -> None:
    stage.enqueue(queue, "send_email", to="a@example.org", key="first", priority=5)
    page = look(f"{site}{paths.join('queues', queue.name)}")
    keys = page.locator(".jobs td.c-key")
    keys.first.hover()
    expect(page.locator(".chip[data-kind=held]")).to_have_text("held")
    stage.enqueue(queue, "send_email", to="b@example.org", key="second", priority=1)
    expect(page.locator(".tabs a", has_text="queued").locator(".value")).to_have_text("2")
    expect(keys).to_have_text(["first"])
    page.locator("h1").hover()
    expect(keys).to_have_text(["second", "first"])


def test_nothing_is_asked_while_the_tab_is_hidden(
    look: Open, guard: Guard, stage: Stage, queue: Queue, site: str
) -> None:
    page = look(f"{site}{paths.join('queues', queue.name)}")
    expect(page.locator(".live")).to_have_text("Live")
    expect(page.locator(".empty")).to_have_text("No job waits.")
    hide(page, True)
    expect(page.locator(".live")).to_have_text("Paused")
    page.wait_for_load_state("networkidle")
    before = len(guard.requests)
    stage.enqueue(queue, "send_email", to="a@example.org", key="unseen")
    # Time enough for a stream to tell of it and for a list to be asked for.
    page.evaluate("() => new Promise(done => setTimeout(done, 2500))")
    assert guard.requests[before:] == []
    expect(page.locator(".jobs")).to_have_count(0)
    hide(page, False)
    expect(page.locator(".live")).to_have_text("Live")
    expect(page.locator(".jobs td.c-key")).to_have_text(["unseen"])


def test_without_a_stream_it_polls(look: Open, guard: Guard, stage: Stage, queue: Queue, site: str) -> None:
    guard.allowed.add("503")
    page = look("about:blank")

    def refuse(route: Route) -> None:
        route.fulfill(status=503, content_type="application/json", body='{"error": "too_many_streams"}')

    page.route("**/api/events*", refuse)
    page.goto(site)
    expect(page.locator(".live")).to_have_text("Polling")
    stage.enqueue(queue, "send_email", to="a@example.org")
    expect(page.locator(".queues td.c-queued")).to_have_text("1")
    assert any("/api/live" in url for url in guard.requests)


def test_a_stream_that_stays_silent_is_given_up(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    page = look("about:blank")
    page.clock.install()
    page.route("**/api/events*", lambda route: None)  # a proxy that keeps it back
    page.goto(site)
    expect(page.locator(".live")).to_have_text("Connecting")
    page.clock.fast_forward(9000)
    expect(page.locator(".live")).to_have_text("Polling")


def test_a_redis_that_is_away_is_said_and_found_again(own_stage: Stage, look: Open, guard: Guard) -> None:
    stage = own_stage
    guard.allowed.add("503")
    queue = stage.queue("lonely")
    page = look(stage.serve([queue]))
    expect(page.locator(".queues tbody tr")).to_have_count(1)
    stage.server.stop()
    expect(page.locator(".trouble[data-shown=yes]")).to_contain_text("Trying again")
    expect(page.locator(".queues tbody tr")).to_have_count(1)
    stage.server.start()
    expect(page.locator(".trouble[data-shown=no]")).to_have_count(1)


def test_nothing_moves_as_numbers_change(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.enqueue(queue, "send_email", to="a@example.org")
    page = look(site)
    expect(page.locator(".queues td.c-queued")).to_have_text("1")
    expect(page.locator(".chart .canvas canvas")).to_have_count(4)
    # From here on: whatever the browser calls a shift of the layout, and has another place than before. A
    # number that gets longer in its column begins further to the left, and is meant to.
    page.evaluate(
        """() => {
            const place = ({x, y, width, height}) => [x, y, width, height].join();
            window.shifts = [];
            new PerformanceObserver(list => window.shifts.push(...list.getEntries()
                .flatMap(one => one.sources)
                .filter(one => place(one.previousRect) !== place(one.currentRect))
                .map(one => `${one.node?.textContent}: ${place(one.previousRect)}`)))
                .observe({type: "layout-shift"});
        }"""
    )
    places = (
        "() => [...document.querySelectorAll('td, th, .tile, .chart, h1, h2')].map(one => {"
        " const {x, y, width, height} = one.getBoundingClientRect(); return [x, y, width, height]; })"
    )
    before = page.evaluate(places)
    stage.run(queue.enqueue_many([f"f{i}" for i in range(2345)]))
    expect(page.locator(".queues td.c-queued")).to_have_text("2,346")
    assert page.evaluate(places) == before
    assert page.evaluate("window.shifts") == []
