"""Every action: what is asked before, what is done, what is said, and what becomes of one too late."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Locator, Page, expect

from saq import Job, Queue, Status
from saq.web import paths
from tests.web.browser.conftest import Guard, Open
from tests.web.browser.stage import Stage, cron


def address(site: str, queue: Queue, state: str = "", job: Job | None = None) -> str:
    names = ("queues", queue.name) if job is None else ("queues", queue.name, "jobs", job.key)
    return f"{site}{paths.join(*names)}" + (f"?state={state}" if state else "")


def confirm(page: Page, title: str | re.Pattern[str], verb: str) -> None:
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(title)
    dialog.get_by_role("button", name=verb).click()
    expect(dialog).to_have_count(0)


def toast(page: Page) -> Locator:
    return page.locator(".toast")


def status(stage: Stage, queue: Queue, job: Job) -> Status | None:
    found = stage.run(queue.job(job.key))
    return found.status if found else None


def failed(stage: Stage, queue: Queue, number: int) -> list[Job]:
    worker = stage.worker(queue)
    jobs = [
        stage.enqueue(queue, "charge_card", amount="1", card=str(i), key=f"card {i:03}")
        for i in range(number)
    ]
    stage.ended(queue, *jobs)
    stage.run(worker.stop())
    return jobs


def test_retry_on_the_page_of_a_job(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    (job,) = failed(stage, queue, 1)
    page = look(address(site, queue, job=job))
    page.get_by_role("button", name="Retry").click()
    expect(toast(page)).to_have_count(1)
    expect(page.locator(".head .state")).to_have_text("queued")
    assert status(stage, queue, job) is Status.QUEUED


def test_requeue_asks_first(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    worker = stage.worker(queue)
    job = stage.enqueue(queue, "send_email", to="a@example.org")
    stage.ended(queue, job)
    stage.run(worker.stop())
    page = look(address(site, queue, job=job))
    page.get_by_role("button", name="Requeue").click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    assert status(stage, queue, job) is Status.COMPLETE
    page.get_by_role("button", name="Requeue").click()
    confirm(page, "Requeue this job?", "Requeue")
    expect(page.locator(".head .state")).to_have_text("queued")
    assert status(stage, queue, job) is Status.QUEUED


def test_abort_one_that_waits(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    job = stage.enqueue(queue, "send_email", to="a@example.org", key="waits")
    page = look(address(site, queue))
    page.get_by_role("button", name="Abort waits").click()
    confirm(page, "Abort this job?", "Abort")
    expect(page.locator(".empty")).to_have_text("No job waits.")
    assert status(stage, queue, job) is Status.ABORTED


def test_abort_one_that_runs(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.worker(queue)
    job = stage.enqueue(queue, "hold", key="runs", timeout=0)
    page = look(address(site, queue, job=job))
    expect(page.locator(".head .state")).to_have_text("active")
    page.get_by_role("button", name="Abort").click()
    confirm(page, "Abort this job?", "Abort")
    expect(page.locator(".head .state")).to_have_text("aborted")


def test_delete(look: Open, guard: Guard, stage: Stage, queue: Queue, site: str) -> None:
    guard.allowed.add("404")
    (job,) = failed(stage, queue, 1)
    page = look(address(site, queue, job=job))
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete this job?", "Delete")
    expect(page.locator(".warning")).to_contain_text("not there any more")
    expect(page.get_by_role("button", name="Delete")).to_be_disabled()
    assert status(stage, queue, job) is None


def test_run_a_scheduled_job_now(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    job = stage.enqueue(queue, "send_email", to="a@example.org", key="later", scheduled=time.time() + 600)
    page = look(f"{site}schedule")
    page.get_by_role("button", name="Run now later").click()
    expect(toast(page)).to_have_count(1)
    expect(page.locator(".empty").last).to_have_text("No job is scheduled.")
    found = stage.run(queue.job(job.key))
    assert found is not None
    assert (found.status, found.scheduled) == (Status.QUEUED, 0)


def test_run_a_cron_entry_now(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.worker(queue, cron_jobs=cron([("clean_up", "30 2 1 1 *")]))
    page = look(f"{site}schedule")
    page.get_by_role("button", name=re.compile("^Run clean_up.* now$")).click()
    expect(toast(page)).to_have_count(1)
    expect(page.locator(".entries td.c-job")).to_contain_text("complete")


def test_pause_and_resume(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    page = look(site)
    page.get_by_role("button", name=f"Pause {queue.name}").click()
    confirm(page, f"Pause the queue {queue.name}?", "Pause")
    expect(page.locator(".queues .chip")).to_have_text("paused")
    assert stage.run(queue.views.counts()).paused
    page.locator(".queues a.name").click()
    expect(page.locator(".titles .chip")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".titles .chip")).to_have_count(0)
    assert not stage.run(queue.views.counts()).paused


def test_a_worker_that_shall_take_no_more(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    worker = stage.worker(queue)
    page = look(f"{site}workers")
    page.get_by_role("button", name=f"Ask {worker.id} to take no more jobs").click()
    confirm(page, "Ask this worker to take no more jobs?", "Stop taking jobs")
    expect(page.locator(".worker .state")).to_contain_text("quiet")
    stage.enqueue(queue, "send_email", to="a@example.org", key="waits")
    page.get_by_role("button", name=f"Let {worker.id} take jobs again").click()
    expect(page.locator(".worker .state")).to_have_text("live")
    stage.until(lambda: _is(queue, "waits", Status.COMPLETE))


async def _is(queue: Queue, key: str, status: Status) -> bool:
    job = await queue.job(key)
    return job is not None and job.status is status


def test_some_that_are_selected(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    jobs = failed(stage, queue, 5)
    page = look(address(site, queue, "failed"))
    for job in jobs[1:4]:
        page.get_by_role("checkbox", name=f"Select {job.key}").check()
    bulk = page.get_by_role("group", name="Selected jobs")
    expect(bulk.locator("strong")).to_have_text("3 selected")
    bulk.get_by_role("button", name="Retry").click()
    confirm(page, "Retry these 3 jobs?", "Retry 3")
    expect(toast(page)).to_contain_text("3 jobs queued again.")
    expect(page.locator(".jobs td.c-key")).to_have_text(["card 004", "card 000"])
    assert [status(stage, queue, job) for job in jobs] == [
        Status.FAILED, Status.QUEUED, Status.QUEUED, Status.QUEUED, Status.FAILED,
    ]  # fmt: skip


def test_all_that_match(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    stage.run(queue.enqueue_many([f"many{i % 2}" for i in range(240)]))
    page = look(f"{address(site, queue)}?function=many1")
    page.get_by_role("checkbox", name="Select all on this page").check()
    bulk = page.get_by_role("group", name="Selected jobs")
    expect(bulk.locator("strong")).to_have_text("50 selected")
    bulk.get_by_role("button", name="Select all that match").click()
    expect(bulk.locator("strong")).to_have_text("All 120 that match")
    bulk.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("120 jobs.")
    confirm(page, "Delete all that match?", "Delete 120")
    expect(toast(page)).to_contain_text("120 jobs deleted.")
    expect(page.locator(".empty")).to_have_text("No job matches.")
    assert stage.run(queue.count("queued")) == 120


def test_groups_of_failed_jobs(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    failed(stage, queue, 4)
    worker = stage.worker(queue)
    stage.ended(queue, *(stage.enqueue(queue, "sync_account", account=i) for i in range(2)))
    stage.run(worker.stop())
    page = look(f"{site}failed")
    page.get_by_role("button", name=re.compile("^Retry 4 jobs: charge_card")).click()
    confirm(page, "Retry these 4 jobs?", "Retry 4")
    expect(page.locator(".groups tbody tr")).to_have_count(1)
    assert stage.run(queue.count("queued")) == 4
    page.get_by_role("button", name="Delete all").click()
    confirm(page, "Delete all failed jobs?", "Delete 2")
    expect(page.locator(".empty")).to_have_text("No failed jobs.")


def test_too_late(look: Open, guard: Guard, stage: Stage, queue: Queue, site: str) -> None:
    guard.allowed.add("409")
    (job,) = failed(stage, queue, 1)
    page = look(address(site, queue, job=job))
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_have_count(1)
    assert stage.run(queue.requeue(job.key))
    confirm(page, "Delete this job?", "Delete")
    expect(page.locator(".toast[data-kind=late]")).to_contain_text("Too late.")
    assert status(stage, queue, job) is Status.QUEUED


def test_some_of_many_too_late(look: Open, stage: Stage, queue: Queue, site: str) -> None:
    jobs = failed(stage, queue, 3)
    page = look(address(site, queue, "failed"))
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("group", name="Selected jobs").get_by_role("button", name="Delete").click()
    assert stage.run(queue.requeue(jobs[0].key))
    confirm(page, "Delete these 3 jobs?", "Delete 3")
    expect(page.locator(".toast[data-kind=good]")).to_contain_text("2 jobs deleted.")
    expect(page.locator(".toast[data-kind=late]")).to_contain_text("1 job left alone")
    assert [status(stage, queue, job) for job in jobs] == [Status.QUEUED, None, None]


def test_read_only_offers_nothing(look: Open, stage: Stage, queue: Queue) -> None:
    (job,) = failed(stage, queue, 1)
    worker = stage.worker(queue, cron_jobs=cron())
    stage.enqueue(queue, "send_email", to="a@example.org", scheduled=time.time() + 600)
    site = stage.serve([queue], read_only=True)
    page = look(site)
    expect(page.locator("header .chip")).to_have_text("read-only")
    words = re.compile("Retry|Requeue|Abort|Delete|Run|Pause|Resume|Ask|Select", re.IGNORECASE)
    for path, there in (
        ("", queue.name),
        (paths.join("queues", queue.name) + "?state=failed", job.key),
        (paths.join("queues", queue.name, "jobs", job.key), "charge_card"),
        ("failed", "charge_card"),
        ("schedule", "build_report"),
        ("workers", worker.id),
    ):
        page.goto(f"{site}{path}")
        expect(page.locator("main")).to_contain_text(there)
        expect(page.locator("header .chip")).to_have_text("read-only")
        expect(page.locator("main").get_by_role("button", name=words)).to_have_count(0)
        expect(page.locator("main").get_by_role("checkbox")).to_have_count(0)
