"""Each page shows what is there; it has an address and a title of its own, and one comes back to it."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from saq import Queue
from saq.web import paths
from tests.web.browser.conftest import Guard, Open
from tests.web.browser.stage import Stage, cron


def tile(page: Page, name: str) -> str:
    return page.locator(".tile", has=page.get_by_text(name, exact=True)).locator(".value").inner_text()


def test_overview(look: Open, stage: Stage, queue: Queue) -> None:
    other = stage.queue(f"{queue.name} other")
    site = stage.serve([queue, other])
    stage.worker(other)
    stage.ended(other, *(stage.enqueue(other, "send_email", to="a@example.org") for _ in range(5)))
    stage.ended(other, stage.enqueue(other, "sync_account", account=7))
    stage.run(queue.enqueue_many([f"f{i}" for i in range(1234)]))
    stage.enqueue(queue, "build_report", month="2024-01", scheduled=time.time() + 600)

    page = look(site)
    expect(page).to_have_title("Overview · saq")
    expect(page.locator(".live")).to_have_text("Live")
    expect(page.locator(".tile", has_text="Queued").locator(".value")).to_have_text("1,234")
    assert (tile(page, "Scheduled"), tile(page, "Active"), tile(page, "Failed")) == ("1", "0", "1")
    cells = page.locator(".queues tbody tr").nth(0).locator("td")
    expect(cells.nth(0)).to_have_text(queue.name)
    expect(cells.nth(1)).to_have_text("1,234")
    cells = page.locator(".queues tbody tr").nth(1).locator("td")
    expect(cells.nth(4)).to_have_text("1")
    expect(cells.nth(9)).to_have_text("1")
    expect(page.locator(".chart")).to_have_count(4)
    for label in ("1 h", "6 h", "24 h", "72 h", "5 min"):
        page.get_by_role("button", name=label, exact=True).click()
        expect(page.locator(".chart .canvas canvas")).to_have_count(4)
    cells.nth(4).get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"/queues/[^/]+\?state=failed$"))
    expect(page.locator(".jobs tbody tr")).to_have_count(1)


def test_queue(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    jobs = [stage.enqueue(queue, "send_email", to=f"{i}@example.org", key=f"k{i:03}") for i in range(120)]
    page = look(site)
    page.locator(".queues a.name").click()
    expect(page).to_have_title(f"{queue.name} · saq")
    keys = page.locator(".jobs td.c-key")
    expect(keys).to_have_text([job.key for job in jobs[:50]])
    expect(page.locator(".found")).to_have_text("1 to 50 of 120")
    expect(page.locator(".tabs a", has_text="queued")).to_contain_text("120")

    after, before = (page.locator(f"[data-page={way}]") for way in ("after", "before"))
    after.click()
    expect(keys).to_have_text([job.key for job in jobs[50:100]])
    after.click()
    expect(keys).to_have_text([job.key for job in jobs[100:]])
    expect(after).to_be_disabled()
    before.click()
    expect(keys).to_have_text([job.key for job in jobs[50:100]])
    page.go_back()
    expect(keys).to_have_text([job.key for job in jobs[100:]])
    page.reload()
    expect(keys).to_have_text([job.key for job in jobs[100:]])
    before.click()
    expect(keys).to_have_text([job.key for job in jobs[50:100]])
    page.get_by_role("button", name="First").click()
    expect(keys).to_have_text([job.key for job in jobs[:50]])

    page.get_by_label("Key of a job").fill("k077")
    page.get_by_label("Key of a job").press("Enter")
    expect(page).to_have_title("k077 · saq")
    expect(page.locator("h1")).to_have_text("send_email")


def test_what_is_typed_stays_while_jobs_come(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.enqueue(queue, "send_email", to="a@example.org", key="first")
    page = look(f"{site}{paths.join('queues', queue.name)}")
    keys = page.locator(".jobs td.c-key")
    expect(keys).to_have_count(1)
    function = page.get_by_label("Function", exact=True)
    function.press_sequentially("send_em")
    stage.enqueue(queue, "resize_image", path="/pictures/1.png", key="second")
    expect(keys).to_have_count(2)
    expect(function).to_have_value("send_em")
    function.press_sequentially("ail")
    function.press("Enter")
    expect(keys).to_have_text(["first"])


def test_filters_are_in_the_address(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    for i in range(8):
        stage.enqueue(queue, "send_email", to=f"{i}@example.org", key=f"mail {i}")
        stage.enqueue(queue, "resize_image", path=f"/pictures/{i}.png", key=f"picture {i}")
    page = look(f"{site}{paths.join('queues', queue.name)}")
    keys = page.locator(".jobs td.c-key")
    expect(keys).to_have_count(16)
    page.get_by_label("Search in key").fill("5.PNG")
    expect(keys).to_have_text(["picture 5"])
    expect(page.locator(".found")).to_have_text("1 job found, searched 16 of 16")
    assert page.url.endswith("?text=5.PNG")
    page.get_by_label("Search in key").press("Escape")
    expect(keys).to_have_count(16)
    page.get_by_label("Function", exact=True).fill("send_email")
    page.get_by_label("Function", exact=True).press("Enter")
    expect(keys).to_have_count(8)
    page.get_by_label("Search in key").fill("nothing of this kind")
    expect(page.locator(".empty")).to_have_text("No job matches.")
    page.get_by_role("button", name="Clear").click()
    expect(keys).to_have_count(16)
    page.goto(f"{site}{paths.join('queues', queue.name)}?state=queued&function=resize_image&text=3")
    expect(keys).to_have_text(["picture 3"])
    expect(page.get_by_label("Search in key")).to_have_value("3")


def test_a_long_search_says_how_far_it_is_and_goes_on(
    look: Open, stage: Stage, queue: Queue, site: str
) -> None:
    stage.run(queue.enqueue_many([f"many{i}" for i in range(4000)]))
    stage.enqueue(queue, "send_email", to="needle@example.org", key="the needle")
    page = look(f"{site}{paths.join('queues', queue.name)}?text=needle")
    expect(page.locator(".found")).to_have_text("0 jobs found so far, searched 2,000 of 4,001")
    expect(page.locator(".empty")).to_have_text("Nothing found so far.")
    page.get_by_role("button", name="Go on searching").click()
    expect(page.locator(".found")).to_have_text("0 jobs found so far, searched 4,000 of 4,001")
    page.get_by_role("button", name="Go on searching").click()
    expect(page.locator(".jobs td.c-key")).to_have_text(["the needle"])
    expect(page.locator(".found")).to_have_text("1 job found, searched 4,001 of 4,001")


def test_a_job_that_failed(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    worker = stage.worker(queue)
    job = stage.enqueue(
        queue, "charge_card", amount="12.50", card="4711", retries=3, key="a/b retry", meta={"customer": 81}
    )
    stage.ended(queue, job)
    page = look(f"{site}{paths.join('queues', queue.name, 'jobs', job.key)}")
    expect(page).to_have_title("a/b retry · saq")
    expect(page.locator("h1")).to_have_text("charge_card")
    expect(page.locator(".head .state")).to_have_text("failed")
    attempts = page.locator(".timeline li")
    expect(attempts.locator(".outcome")).to_have_text(
        ["failed, tried again", "failed, tried again", "failed"]
    )
    expect(attempts.locator(".where")).to_have_text([worker.id] * 3)
    attempts.nth(0).get_by_role("button").click()
    expect(attempts.nth(0).locator("pre")).to_contain_text("card 4711 was declined")
    expect(page.get_by_label("Error", exact=True)).to_contain_text("in _authorise")
    expect(page.get_by_label("Error", exact=True)).to_contain_text(
        "CardDeclined: card 4711 was declined by its bank"
    )
    expect(page.get_by_label("Arguments", exact=True)).to_have_text(
        '{\n  "amount": "12.50",\n  "card": "4711"\n}'
    )
    expect(page.get_by_label("Meta", exact=True)).to_contain_text('"customer": 81')
    page.get_by_role("button", name="Raw").first.click()
    expect(page.get_by_label("Arguments", exact=True)).to_have_text(re.compile(r'^\{"amount":'))


def test_a_job_that_runs_and_then_returns(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.worker(queue)
    job = stage.enqueue(queue, "hold", progress=0.42, number=2**63 + 1, timeout=0)
    page = look(f"{site}{paths.join('queues', queue.name, 'jobs', job.key)}")
    expect(page.locator(".head .state")).to_have_text("active")
    expect(page.locator(".progress")).to_contain_text("42 %")
    expect(page.locator(".timeline .outcome")).to_have_text("runs")
    expect(page.get_by_label("Arguments", exact=True)).to_contain_text(str(2**63 + 1))
    stage.let_go()
    expect(page.locator(".head .state")).to_have_text("complete")
    expect(page.get_by_label("Result", exact=True)).to_have_text('"let go"')


def test_schedule(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.worker(queue, cron_jobs=cron())
    stage.enqueue(queue, "send_email", to="later@example.org", key="later", scheduled=time.time() + 3600)
    page = look(f"{site}schedule")
    expect(page).to_have_title("Schedule · saq")
    entries = page.locator(".entries tbody tr")
    expect(entries).to_have_count(4)
    report = entries.filter(has_text="build_report")
    expect(report.locator(".c-words")).to_contain_text("03:00")
    expect(report.locator(".c-cron")).to_contain_text("0 3 * * *")
    expect(report.locator(".c-next")).to_contain_text("in ")
    later = page.locator(".scheduled tbody tr", has_text="later")
    expect(later.locator(".c-when")).to_have_text(re.compile(r"in (59 m \d\d s|1 h 00 m)"))


def test_workers(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    worker = stage.worker(queue, concurrency=4, metadata={"zone": "eu-1"})
    stage.enqueue(queue, "hold", key="held job", timeout=0)
    page = look(f"{site}workers")
    expect(page).to_have_title("Workers · saq")
    shown = page.locator(".worker")
    expect(shown).to_have_count(1)
    expect(shown.locator(".id")).to_contain_text(worker.id)
    expect(shown.locator(".state")).to_have_text("live")
    expect(shown.locator(".running")).to_contain_text("held job")
    expect(shown.locator(".busy")).to_contain_text("1 / 4")
    expect(shown.locator(".metadata")).to_contain_text("eu-1")


def test_failed_jobs_in_groups(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.worker(queue)
    jobs = [stage.enqueue(queue, "charge_card", amount="1", card=str(4000 + i)) for i in range(7)]
    jobs += [stage.enqueue(queue, "sync_account", account=i) for i in range(3)]
    stage.ended(queue, *jobs)
    page = look(f"{site}failed")
    expect(page).to_have_title("Failed jobs · saq")
    expect(page.locator(".found")).to_have_text("2 groups, searched 10 of 10")
    card = page.locator(".groups tbody tr", has_text="CardDeclined: card N was declined by its bank")
    expect(card.locator(".c-count")).to_have_text("7")
    card.get_by_role("link", name="CardDeclined").click()
    expect(page.locator(".jobs tbody tr")).to_have_count(7)
    expect(page.locator(".found")).to_have_text("7 jobs found, searched 10 of 10")


def test_pages_with_nothing_on_them(look: Open, site: str, queue: Queue) -> None:
    page = look(f"{site}failed")
    expect(page.locator(".empty")).to_have_text("No failed jobs.")
    page.goto(f"{site}schedule")
    expect(page.locator(".empty")).to_have_text([re.compile("^No cron entry"), "No job is scheduled."])
    page.goto(f"{site}workers")
    expect(page.locator(".empty")).to_have_text(re.compile("^No worker is alive"))
    for state, text in (
        ("queued", "No job waits."),
        ("scheduled", "No job is scheduled."),
        ("active", "No job runs."),
        ("finished", "No job has finished of late."),
        ("failed", "No failed jobs."),
    ):
        page.goto(f"{site}{paths.join('queues', queue.name)}?state={state}")
        expect(page.locator(".empty")).to_have_text(text)


def test_what_is_not_there(look: Open, guard: Guard, site: str, queue: Queue) -> None:
    guard.allowed.add("404")
    page = look(f"{site}queues/nothing")
    expect(page.locator(".empty")).to_contain_text("There is no queue of this name here.")
    page.goto(f"{site}{paths.join('queues', queue.name, 'jobs', 'nothing')}")
    expect(page.locator(".empty")).to_contain_text("There is no such job.")
    page.goto(f"{site}{paths.join('queues', queue.name)}/nonsense")
    expect(page.locator("h1")).to_have_text("Nothing here")


def test_it_goes_from_page_to_page_without_loading_anew(look: Open, guard: Guard, site: str) -> None:
    page = look(site)
    expect(page.locator(".live")).to_have_text("Live")
    before = sum(url.endswith("app.js") for url in guard.requests)
    for name in ("Failed", "Schedule", "Workers", "Overview"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        expect(page.locator("main")).to_be_focused()
    page.go_back()
    expect(page).to_have_title("Workers · saq")
    assert sum(url.endswith("app.js") for url in guard.requests) == before


def test_under_a_prefix(look: Open, stage: Stage, queue: Queue) -> None:
    page = look(stage.serve_below([queue], "/tools/monitor"))
    page.locator(".queues a.name").click()
    expect(page.locator("h1")).to_have_text(queue.name)
    assert "/tools/monitor/queues/" in page.url
    page.reload()
    expect(page.locator("h1")).to_have_text(queue.name)
