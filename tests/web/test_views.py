"""What each view tells: lists, searches, workers, cron entries, the history, and what happens at present."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from saq import Job, Queue, Status
from saq.queue.views import COUNTERS, CronEntry, Mark, Report
from saq.web import live
from saq.web.app import WebApp
from saq.web.cursors import Cursor
from saq.web.http import Request
from saq.web.search import LOOK
from saq.web.views.schedule import next_tick, words
from tests.web.faces import Face, change, open_face, served
from tests.web.test_api import claim, end

JOBS = "/api/queues/default/jobs"


async def pages(face: Face, query: str) -> Iterator[list[str]]:
    """The keys of each page, one after the other."""
    found, cursor = [], ""
    while cursor is not None:
        answer = (await face.ask("GET", f"{JOBS}?{query}&cursor={quote(cursor)}")).json
        found.append([job["key"] for job in answer["jobs"]])
        cursor = answer["next"]
    return iter(found)


# Lists ----------------------------------------------------------------------------------------------------


async def test_each_state_in_its_order(face: Face, queue: Queue, worker: Queue) -> None:
    soon = time.time() + 100
    for n in (2, 0, 1):
        await queue.enqueue("f", key=f"active {n}", priority=-100 + n)
    active = [(await claim(worker)).key for _ in range(3)]
    for n in range(3):
        await queue.enqueue("f", key=f"failed {n}", priority=-10)
        await end(worker, status=Status.FAILED, error="no")
        await queue.enqueue("f", key=f"done {n}", priority=-10)
        await end(worker, status=Status.COMPLETE)
    await queue.enqueue("f", key="last", priority=9)
    await queue.enqueue("f", key="first", priority=1)
    await queue.enqueue("f", key="later", scheduled=soon + 9)
    await queue.enqueue("f", key="sooner", scheduled=soon)
    expected = {
        "queued": ["first", "last"],
        "scheduled": ["sooner", "later"],
        "active": active,
        "finished": ["done 2", "done 1", "done 0"],
        "failed": ["failed 2", "failed 1", "failed 0"],
    }
    for state, keys in expected.items():
        for limit in (1, 2, 50):
            found = [key for page in await pages(face, f"state={state}&limit={limit}") for key in page]
            assert found == keys, (state, limit)
        answer = (await face.ask("GET", f"{JOBS}?state={state}")).json
        assert (answer["total"], answer["position"], answer["searched"]) == (len(keys), 0, len(keys))
        assert answer["next"] is None


async def test_a_page_stays_where_it_was_whatever_comes_and_goes(face: Face, queue: Queue) -> None:
    await queue.enqueue_many([Job("f", key=f"k{n}") for n in range(6)])
    first = (await face.ask("GET", f"{JOBS}?limit=2")).json
    assert [job["key"] for job in first["jobs"]] == ["k0", "k1"]
    for key in ("k0", "k1", "k2"):
        await queue.delete(key)
    await queue.enqueue("f", key="urgent", priority=-5)
    second = (await face.ask("GET", f"{JOBS}?limit=2&cursor={quote(first['next'])}")).json
    assert [job["key"] for job in second["jobs"]] == ["k3", "k4"]


async def test_a_search_looks_at_a_slice_and_goes_on(face: Face, queue: Queue) -> None:
    await queue.enqueue_many([Job("f", {"n": n}, key=f"k{n}") for n in range(LOOK + 20)])
    await queue.enqueue("g", key="needle", of="Haystack")
    first = (await face.ask("GET", f"{JOBS}?text=HAYSTACK")).json
    assert (first["jobs"], first["searched"], first["total"]) == ([], LOOK, LOOK + 21)
    second = (await face.ask("GET", f"{JOBS}?text=HAYSTACK&cursor={quote(first['next'])}")).json
    assert [job["key"] for job in second["jobs"]] == ["needle"]
    assert (second["position"], second["searched"], second["next"]) == (LOOK, 21, None)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("function=f", ["a", "b"]),
        ("function=nothing", []),
        ("text=B", ["b"]),
        ("text=needle", ["a"]),
        ("text=g", ["c"]),
        ("text=%00", []),
        ("function=f&text=b", ["b"]),
        ("status=queued", ["a", "b", "c"]),
        ("status=complete", []),
        ("text=" + "x" * 5000, []),
        ("group=nonsense", []),
    ],
)
async def test_filters(face: Face, queue: Queue, query: str, keys: list[str]) -> None:
    await queue.enqueue("f", key="a", x="Needle")
    await queue.enqueue("f", key="b")
    await queue.enqueue("g", key="c")
    answer = (await face.ask("GET", f"{JOBS}?{query}")).json
    assert [job["key"] for job in answer["jobs"]] == keys
    counted = (await face.ask("GET", f"/api/queues/default/count?{query}")).json
    assert (counted["matched"], counted["next"]) == (len(keys), None)


@pytest.mark.parametrize(
    "query", ["state=nowhere", "status=odd", "cursor=x", "cursor=%00", "cursor=MDsxO2E%3D%3D%3D"]
)
async def test_a_query_that_cannot_be(face: Face, query: str) -> None:
    reply = await face.ask("GET", f"{JOBS}?{query}")
    assert reply.status == 422, reply.body
    assert reply.json["error"] == "bad_value"


async def test_what_cannot_be_read_is_shown_and_can_be_deleted(redis_url: str, queue: Queue) -> None:
    def refuse(data: Any) -> Any:
        raise ValueError("not mine")

    await queue.enqueue("f", key="a", x=1)
    other = Queue.from_url(redis_url, dump=lambda value: json.dumps(value).encode(), load=refuse)
    async with served([other]) as face:
        for path in (f"{JOBS}/a", JOBS, "/api/queues/default", f"{JOBS}?text=a"):
            assert (await face.ask("GET", path)).status == 200
        assert "not mine" in (await face.ask("GET", f"{JOBS}/a")).json["job"]["error"]
        assert (await change(face, f"{JOBS}/a/delete")).status == 200
    await other.disconnect()


# Jobs -----------------------------------------------------------------------------------------------------


async def test_the_timeline_of_a_job(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="a", retries=3)
    for n in range(2):
        await worker.retry(await claim(worker), f"Traceback\nValueError: {n}")
    running = await claim(worker)
    timeline = (await face.ask("GET", f"{JOBS}/a")).json["job"]["timeline"]
    assert [(one["number"], one["outcome"]) for one in timeline] == [
        (1, "retried"),
        (2, "retried"),
        (3, None),
    ]
    assert timeline[0]["error"].endswith("ValueError: 0")
    assert timeline[2]["ended"] is None
    await worker.finish(running, Status.COMPLETE, result=1)
    timeline = (await face.ask("GET", f"{JOBS}/a")).json["job"]["timeline"]
    assert timeline[2]["outcome"] == "complete"
    assert timeline[2]["ended"] >= timeline[2]["started"] >= timeline[1]["ended"]


async def test_failures_in_groups(face: Face, queue: Queue, worker: Queue) -> None:
    for n in range(5):
        await queue.enqueue("charge", key=f"k{n}")
        await end(worker, status=Status.FAILED, error=f"Traceback\n  line {n}\nDeclined: card {n}")
    await queue.enqueue("other", key="o")
    await end(worker, status=Status.FAILED, error="Declined: card 1")
    answer = (await face.ask("GET", "/api/queues/default/failures")).json
    assert [(one["function"], one["error"], one["count"], one["key"]) for one in answer["groups"]] == [
        ("other", "Declined: card N", 1, "o"),
        ("charge", "Declined: card N", 5, "k4"),
    ]
    assert (answer["searched"], answer["total"]) == (6, 6)
    group = answer["groups"][1]["group"]
    listed = (await face.ask("GET", f"{JOBS}?state=failed&group={group}")).json
    assert [job["key"] for job in listed["jobs"]] == ["k4", "k3", "k2", "k1", "k0"]


# Workers --------------------------------------------------------------------------------------------------


async def test_workers(face: Face, queue: Queue, worker: Queue) -> None:
    about = {"host": "h1", "pid": 7, "version": "1.2.3", "python": "3.11", "concurrency": 5, "uptime": 60_000}
    await queue.worker_info("w", queue_key="default", metadata={"zone": "a"})
    await queue.report("w", Report(about, (), {}, {}))
    await queue.enqueue("f", key="runs")
    await claim(worker)
    answer = (await face.ask("GET", "/api/workers")).json
    shown, gone = answer["workers"]
    assert (shown["id"], shown["state"], shown["host"], shown["pid"]) == ("w", "live", "h1", 7)
    assert (shown["version"], shown["python"], shown["concurrency"]) == ("1.2.3", "3.11", 5)
    assert shown["metadata"] == '{"zone": "a"}'
    assert abs(shown["started"] - (answer["now"] - 60_000)) < 5000
    # Claimed by hand, by somebody who has not registered.
    assert (gone["state"], gone["running"], gone["jobs"][0]["function"]) == ("gone", 1, "f")
    assert gone["lease_left_ms"] > 0
    assert (await face.ask("GET", "/api/queues/default/workers")).json["workers"][0]["id"] == "w"


async def test_a_worker_is_quiet_for_some_time(face: Face, queue: Queue) -> None:
    await queue.worker_info("w", queue_key="default")
    path = "/api/queues/default/workers/w"
    for body, seconds in (
        (b"", 3600),
        (b'{"seconds": 60}', 60),
        (b'{"seconds": -5}', 1),
        (b'{"seconds": 1e400}', 604800),
    ):
        reply = await change(face, f"{path}/quiet", body=body)
        assert reply.status == 200
        assert abs(reply.json["quiet"] - reply.json["now"] - seconds * 1000) < 5000
        assert (await face.ask("GET", "/api/workers")).json["workers"][0]["state"] == "quiet"
    assert (await change(face, f"{path}/resume")).json["quiet"] is None
    assert (await face.ask("GET", "/api/workers")).json["workers"][0]["state"] == "live"
    for action in ("quiet", "resume"):
        reply = await change(face, f"/api/queues/default/workers/none/{action}")
        assert (reply.status, reply.json["error"]) == (404, "no_such_worker")


# Cron entries ---------------------------------------------------------------------------------------------


def entry(
    name: str, cron: str, timezone: str = "UTC", *, unique: bool = True, function: str = "f"
) -> CronEntry:
    return CronEntry(name, cron, timezone, unique, Job(function, {"n": 1}, key=f"cron:{name}", ttl=7))


async def test_cron_entries(face: Face, queue: Queue) -> None:
    await queue.worker_info("w")
    await queue.tick("a", 1000, Job("f", key="cron:a"))
    await queue.report("w", Report({}, [entry("b", "@hourly", "nowhere"), entry("a", "0 3 * * *")], {}, {}))
    first, second = (await face.ask("GET", "/api/schedule")).json["entries"]
    assert (first["name"], first["cron"], first["words"]) == ("a", "0 3 * * *", "At 03:00")
    assert (first["last"], first["workers"], first["kwargs"]) == (1_000_000, 1, '{"n": 1}')
    assert first["next"] % 86_400_000 == 3 * 3_600_000
    assert (second["name"], second["next"], second["last"]) == ("b", None, None)


async def test_a_cron_entry_is_run_now(face: Face, queue: Queue) -> None:
    await queue.worker_info("w")
    await queue.report(
        "w", Report({}, [entry("a:0 3 * * *", "0 3 * * *"), entry("b", "0 3 * * *", unique=False)], {}, {})
    )
    path = "/api/" + (await face.ask("GET", "/api/schedule")).json["entries"][0]["path"]
    reply = await change(face, f"{path}/run")
    assert (reply.status, reply.json["job"]["key"]) == (200, "cron:a:0 3 * * *")
    job = await queue.job("cron:a:0 3 * * *")
    assert job is not None
    assert (job.function, job.kwargs, job.ttl, job.status) == ("f", {"n": 1}, 7, Status.QUEUED)
    reply = await change(face, f"{path}/run")
    assert (reply.status, reply.json["error"]) == (409, "incomplete")
    shown = (await face.ask("GET", "/api/queues/default/schedule")).json["entries"]
    assert shown[0]["job"]["state"] == "queued"
    for _ in range(2):
        assert (await change(face, "/api/queues/default/schedule/b/run")).status == 200
        await asyncio.sleep(0.002)
    assert await queue.count("queued") == 3
    reply = await change(face, "/api/queues/default/schedule/none/run")
    assert (reply.status, reply.json["error"]) == (404, "no_such_entry")


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/5 * * * *", "Every 5 minutes"),
        ("0 3 * * *", "At 03:00"),
        ("30 2 1 * *", "At 02:30, on day 1 of the month"),
        ("0 8 * * 1-5", "At 08:00, Monday through Friday"),
        ("0 0 * * 0", "At 00:00, only on Sunday"),
        ("0 0 * * 7", "At 00:00, only on Sunday"),
        ("* * * * * */10", "Every 10 seconds"),
        ("@hourly", "Every hour"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_cron_lines_in_words(cron: str, said: str) -> None:
    assert words(cron) == said


def test_the_next_tick_follows_the_time_zone() -> None:
    at = 1_700_000_000.0
    assert next_tick("0 3 * * *", "UTC", at) == 1_700_017_200
    assert next_tick("0 3 * * *", "UTC+02:00", at) == 1_700_010_000
    assert next_tick("0 3 * * *", "Europe/Berlin", at) == 1_700_013_600
    for cron, timezone in (("nonsense", "UTC"), ("0 3 * * *", "Mars/Olympus"), ("0 0 30 2 *", "UTC")):
        assert next_tick(cron, timezone, at) is None


# The history ----------------------------------------------------------------------------------------------


async def test_the_history(face: Face, queue: Queue, odd: Queue) -> None:
    for shown in (queue, odd):
        await shown.worker_info("w")
        await shown.report("w", Report({}, (), {0: 6}, {"f": (1, {-4: 3}), "g": (0, {4: 1})}))
        await shown.sweep()
    for minutes, step, points in ((60, 60, 60), (1440, 600, 144), (4320, 1800, 144), (5, 60, 5), (7, 60, 7)):
        answer = (await face.ask("GET", f"/api/history?minutes={minutes}")).json
        assert (answer["step"], len(answer["times"])) == (step, points)
        assert answer["times"][-1] <= answer["now"] / 1000 < answer["times"][-1] + step
        columns = [answer[name] for name in (*COUNTERS, "queued", "active", "scheduled")]
        columns += [answer[kind][name] for kind in ("wait", "run") for name in ("count", "p50", "p95", "p99")]
        assert {len(column) for column in columns} == {points}
        assert sum(answer["wait"]["count"]) == answer["totals"]["wait"]["count"] == 12
        assert answer["totals"]["run"]["count"] == 8
        assert [(row["function"], row["count"], row["failed"]) for row in answer["functions"]] == [
            ("f", 6, 2),
            ("g", 2, 0),
        ]
        one = (await face.ask("GET", f"/api/queues/default/history?minutes={minutes}")).json
        assert one["totals"]["wait"]["count"] == 6
        assert 800 < one["totals"]["wait"]["p50"] < 1200
    for query in ("minutes=0", "minutes=-1", "minutes=99999999", "minutes=x", ""):
        answer = (await face.ask("GET", f"/api/history?{query}")).json
        assert answer["minutes"] in (5, 60, 4320)
        assert len(answer["times"]) <= 150


async def test_hours_that_are_over_are_read_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    views = queue.views.history

    async def history(hours: Any) -> Any:
        read.extend(hours)
        return await views(hours)

    monkeypatch.setattr(queue.views, "history", history)
    async with served([queue]) as face:
        await face.ask("GET", "/api/history?minutes=4320")
        assert len(read) == 73
        read.clear()
        await face.ask("GET", "/api/history?minutes=4320")
        assert len(read) == 1
        # However many stretches somebody asks for, only some are remembered.
        for minutes in range(100, 130):
            await face.ask("GET", f"/api/history?minutes={minutes}")


# Second by second -----------------------------------------------------------------------------------------


async def test_samples_are_taken_while_somebody_asks(
    kind: str, queue: Queue, odd: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY", 0.02)
    async with open_face(kind, [queue, odd]) as face:
        first = (await face.ask("GET", "/api/live")).json
        assert first["queues"].keys() == {queue.name, odd.name}
        await queue.enqueue("f")
        after = max(sample[0] for samples in first["queues"].values() for sample in samples)
        while True:
            answer = (await face.ask("GET", f"/api/live?after={after}")).json
            rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["queues"]["default"]]
            assert all(row["at"] > after for row in rows)
            if rows and rows[-1]["queued"] == 1:
                break
            await asyncio.sleep(0.01)
        assert rows[-1]["enqueued"] == 1


async def test_nobody_asks_and_nothing_is_sampled(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)
    monkeypatch.setattr(live, "WATCHED", 0.03)
    app = WebApp([queue])
    assert (await app.handle(Request("GET", b"/api/live"))).status == 200
    sampler = app._site.live._sampler
    assert sampler is not None
    await asyncio.wait([sampler], timeout=5)
    assert sampler.done()
    assert (await app.handle(Request("GET", b"/api/live"))).status == 200
    assert app._site.live._sampler is not sampler
    await app.close()


async def test_streams_are_bounded_and_end(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    monkeypatch.setattr(live, "LONGEST", 0.05)
    app = WebApp([queue])
    streams = [(await app.handle(Request("GET", b"/api/events"))).stream for _ in range(2)]
    refused = await app.handle(Request("GET", b"/api/events"))
    assert refused.status == 503
    assert json.loads(refused.body)["error"] == "too_many_streams"
    assert (await app.handle(Request("HEAD", b"/api/events"))).status == 503
    for stream in streams:
        assert stream is not None
        assert (b"".join([piece async for piece in stream])).endswith(b"event: end\ndata: {}\n\n")
        await stream.aclose()
        await stream.aclose()
    again = await app.handle(Request("GET", b"/api/events"))
    assert again.stream is not None
    await again.stream.aclose()
    await app.close()


async def test_a_stream_goes_on_where_it_was(queue: Queue) -> None:
    async with served([queue]) as face:
        reply = await face.ask("GET", "/api/events")
        (number,) = [line[4:] for line in reply.body.decode().splitlines() if line.startswith("id: ")]
        reply = await face.ask("GET", "/api/events", {"Last-Event-ID": number})
        data = next(line[6:] for line in reply.body.decode().splitlines() if line.startswith("data: "))
        assert all(row[0] > int(number) for row in json.loads(data)["queues"]["default"])


@pytest.mark.parametrize("state", ["queued", "scheduled", "active", "finished", "failed"])
@pytest.mark.parametrize("score", [b"0", b"-0", b"-1", b"9e999", b"-9e999", b"1e-999", b"9" * 20, b"1.5"])
async def test_a_cursor_from_elsewhere_is_a_place_like_any_other(
    queue: Queue, state: str, score: bytes
) -> None:
    await queue.enqueue("f", key="a")
    await queue.enqueue("f", key="b", scheduled=time.time() + 100)
    await queue.enqueue("f", key="c", priority=-1)
    await queue.dequeue(timeout=1)
    app = WebApp([queue])
    for key in (b"", b"a", b"\xff\x00;;", b"x" * 5000):
        cursor = quote(str(Cursor(Mark(score, key), 2**53)))
        for path in (
            f"{JOBS}?state={state}&cursor={cursor}",
            f"/api/queues/default/count?state={state}&cursor={cursor}",
        ):
            response = await app.handle(Request("GET", path.encode()))
            assert response.status == 200, response.body
            assert json.loads(response.body)["position"] in range(3)
    await app.close()
