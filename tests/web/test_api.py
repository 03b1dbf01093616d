"""What the routes answer, over each face."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from saq import Job, Queue, Status
from saq.web import paths
from saq.web.http import MAX_BODY
from saq.web.present import LONG, SHORT
from tests.web.conftest import ODD
from tests.web.faces import Face, change

#: Keys that a careless router, decoder or page would trip over.
KEYS = [
    "plain",
    "",
    ".",
    "..",
    "...",
    "../..",
    "=",
    "=.",
    "=..",
    "x/retry",
    "x/abort",
    "/",
    "//",
    "jobs/x",
    "%",
    "%2F",
    "%252F",
    "%zz",
    "a b+c",
    "?x=1&y=2#z",
    ";a=1",
    "\x00",
    "a\nb\r\nc\td",
    "\u202egnp.exe",
    "ü€😀",
    "\ud800",
    "\ud83d\ude00",
    "\\..\\x",
    "C:\\x",
    "'\"`",
    "<script>alert(1)</script>",
    "__proto__",
    "k" * 2000,
]

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "${alert(1)}{{alert(1)}}",
    "</script><script>alert(1)</script>",
    "&lt;b&gt;",
    "\u2028\u2029",
    "\ud800",
]


def job_path(key: str, queue: str = "default") -> str:
    return f"/api/{paths.join('queues', queue, 'jobs', key)}"


def as_json(text: str) -> str:
    """Two surrogates of one character come back as that character; the path tells them apart."""
    return str(json.loads(json.dumps(text)))


async def claim(worker: Queue) -> Job:
    job = await worker.dequeue(timeout=5)
    assert job is not None
    return job


async def end(worker: Queue, **fields: Any) -> None:
    await worker.finish(await claim(worker), **fields)


# Reading --------------------------------------------------------------------------------------------------


async def test_all_queues(face: Face, queue: Queue, odd: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="a")
    await queue.enqueue("f", key="b")
    await queue.enqueue("f", key="c", scheduled=time.time() + 100)
    await odd.enqueue("f")
    await claim(worker)
    await worker.worker_info("w", queue_key="default", metadata={"host": "h"})
    reply = await face.ask("GET", "/api/queues")
    assert reply.status == 200
    first, second = reply.json["queues"]
    assert (first["name"], first["queued"], first["active"], first["scheduled"]) == ("default", 1, 1, 1)
    assert first["workers"]["w"]["metadata"] == '{"host": "h"}'
    assert first["workers"]["w"]["stats"]["complete"] == 0
    assert first["jobs"] == []
    assert (second["name"], second["queued"]) == (ODD, 1)
    assert reply.json["unavailable"] == []
    assert (await face.ask("GET", "/api/" + second["path"])).json["queue"]["queued"] == 1


async def test_a_queue_with_a_page_of_jobs(face: Face, queue: Queue) -> None:
    await queue.enqueue_many([Job("f", {"n": n}, key=f"k{n}") for n in range(5)])
    await queue.enqueue("g", key="later", scheduled=time.time() + 100)
    answer = (await face.ask("GET", "/api/queues/default?offset=1&limit=2")).json
    assert [job["key"] for job in answer["queue"]["jobs"]] == ["k1", "k2"]
    assert (answer["offset"], answer["limit"]) == (1, 2)
    answer = (await face.ask("GET", "/api/queues/default?offset=4")).json
    assert [(job["key"], job["state"], job["status"]) for job in answer["queue"]["jobs"]] == [
        ("k4", "queued", "queued"),
        ("later", "scheduled", "queued"),
    ]
    assert answer["queue"]["jobs"][0]["kwargs"] == '{"n": 4}'


async def test_a_running_job_is_among_the_jobs_of_its_queue(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="runs")
    await queue.enqueue("f", key="waits")
    await claim(worker)
    answer = (await face.ask("GET", "/api/queues/default")).json
    assert [(job["key"], job["state"]) for job in answer["queue"]["jobs"]] == [
        ("runs", "active"),
        ("waits", "queued"),
    ]


@pytest.mark.parametrize(
    ("query", "offset", "limit"),
    [
        ("", 0, 50),
        ("?offset=-5&limit=-5", 0, 1),
        ("?offset=99999999999999999&limit=99999", 1_000_000_000, 100),
        ("?offset=" + "9" * 5000, 0, 50),
        ("?offset=1e3&limit=NaN", 0, 50),
        ("?offset=&limit=", 0, 50),
        ("?offset=%D9%A3", 0, 50),  # an Arabic three
        ("?offset=1&offset=2", 1, 50),
        ("?" + "&".join(["offset=1"] * 500), 0, 50),
        ("?%ff=%ff&%", 0, 50),
    ],
)
async def test_a_page_is_kept_within_bounds(face: Face, query: str, offset: int, limit: int) -> None:
    reply = await face.ask("GET", f"/api/queues/default{query}")
    assert reply.status == 200
    assert (reply.json["offset"], reply.json["limit"]) == (offset, limit)


async def test_a_job_with_all_its_fields(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="a", x=[1, "ü"], retries=2, priority=3, meta={"m": 1})
    await end(worker, status=Status.COMPLETE, result={"r": None})
    reply = await face.ask("GET", "/api/queues/default/jobs/a")
    job = reply.json["job"]
    assert job["kwargs"] == '{"x": [1, "ü"]}'
    assert job["result"] == '{"r": null}'
    assert job["meta"] == '{"m": 1}'
    assert (job["status"], job["state"], job["attempts"], job["retries"]) == ("complete", "complete", 1, 2)
    assert job["started"] >= job["queued"] > 0
    assert job["completed"] >= job["started"]
    assert (job["function"], job["queue"], job["priority"], job["error"]) == ("f", "default", 3, None)
    assert job["progress"] == 1.0
    assert job["path"] == "queues/default/jobs/a"


async def test_what_is_long_is_cut(face: Face, queue: Queue, worker: Queue) -> None:
    trace = "Traceback\n" + "  line\n" * 10_000 + "ValueError: the end"
    await queue.enqueue("f" * 20_000, key="a", x="y" * 1_000_000, n=list(range(100_000)), ttl=0)
    listed = (await face.ask("GET", "/api/queues/default")).json["queue"]["jobs"][0]
    assert len(listed["kwargs"]) <= SHORT + 2
    await end(worker, status=Status.FAILED, error=trace)
    reply = await face.ask("GET", "/api/queues/default/jobs/a")
    assert len(reply.body) < 10 * LONG
    job = reply.json["job"]
    assert job["error"].startswith("Traceback")
    assert job["error"].endswith("ValueError: the end")
    assert len(job["kwargs"]) <= LONG + 2


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_is_reached_and_found_under_its_path(
    face: Face, queue: Queue, odd: Queue, key: str
) -> None:
    for shown in (queue, odd):
        await shown.enqueue("f", key=key, of=shown.name)
        await shown.enqueue("f", key="x", scheduled=time.time() + 100)
        queue_path = "/api/" + paths.join("queues", shown.name)
        (listed, _) = (await face.ask("GET", queue_path)).json["queue"]["jobs"]
        assert listed["key"] == as_json(key)
        assert listed["path"].isascii()
        job = (await face.ask("GET", "/api/" + listed["path"])).json["job"]
        assert job["key"] == as_json(key)
        assert shown.name in job["kwargs"]
        assert (await face.ask("GET", "/" + listed["path"])).status == 200
        reply = await change(face, "/api/" + listed["path"] + "/abort")
        assert reply.status == 200
        assert reply.json["job"]["status"] == "aborted"
        other = await shown.job("x")
        assert other is not None
        assert other.status is Status.QUEUED
        assert (await change(face, "/api/" + listed["path"] + "/retry")).json["job"]["status"] == "queued"


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_arrives_as_text(face: Face, queue: Queue, worker: Queue, text: str) -> None:
    vnode = {"type": "script", "props": {"dangerouslySetInnerHTML": {"__html": text}}, "text": text}
    await queue.enqueue(text, key=text, group_key=text, meta={text: vnode}, arg=vnode)
    await worker.worker_info(text, queue_key=text, metadata={text: vnode})
    await end(worker, status=Status.FAILED, error=text, result=vnode)
    reply = await face.ask("GET", job_path(text))
    assert reply.body.isascii()
    assert reply.headers["x-content-type-options"] == "nosniff"
    job = reply.json["job"]
    assert (job["function"], job["key"]) == (text, text)
    # What cannot be encoded, Redis holds as its escape.
    assert job["error"] == text.encode("utf-8", "backslashreplace").decode()
    for name, value in job.items():
        if name in ("actions", "timeline"):
            continue
        assert isinstance(value, str | int | float | bool | None), name
    found = (await face.ask("GET", "/api/queues/default")).json["queue"]["workers"][text]
    assert found["queue_key"] == text
    assert isinstance(found["metadata"], str)
    page = await face.ask("GET", job_path(text).removeprefix("/api"))
    assert text.encode("utf-8", "surrogatepass") not in page.body


async def test_what_is_not_there(face: Face) -> None:
    for path, code in [
        ("/api/queues/none", "no_such_queue"),
        ("/api/queues/none/jobs/x", "no_such_queue"),
        ("/api/queues/default/jobs/none", "no_such_job"),
        ("/api/queues/default/jobs/%FF", "not_found"),  # no key has such bytes
        ("/api/queues/default/jobs/a/b", "not_found"),
        ("/api/queues/default/nothing", "not_found"),
        ("/api/queues/", "no_such_queue"),
        ("/api/queues/default/", "not_found"),
        ("/api", "not_found"),
        ("/api/", "not_found"),
        ("//api/queues", "not_found"),
        ("/API/queues", "not_found"),
        ("/queues", "not_found"),
        ("/%61pi/queues", "not_found"),
    ]:
        reply = await face.ask("GET", path)
        assert (reply.status, reply.json["error"]) == (404, code), path
        assert reply.json["message"]
    for action in ("retry", "abort"):
        reply = await change(face, f"/api/queues/default/jobs/none/{action}")
        assert (reply.status, reply.json["error"]) == (404, "no_such_job")


# Changing -------------------------------------------------------------------------------------------------


async def test_retry(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="a")
    reply = await change(face, "/api/queues/default/jobs/a/retry")
    assert (reply.status, reply.json["error"]) == (409, "not_finished")
    await claim(worker)
    reply = await change(face, "/api/queues/default/jobs/a/retry")
    assert (reply.status, reply.json["error"]) == (409, "running")
    job = await worker.job("a")
    assert job is not None
    assert job.status is Status.ACTIVE
    await worker.finish(job, Status.FAILED, error="boom")
    reply = await change(face, "/api/queues/default/jobs/a/retry")
    assert (reply.status, reply.json["job"]["status"], reply.json["job"]["attempts"]) == (200, "queued", 0)
    assert await queue.count("queued") == 1


async def test_a_job_that_this_very_process_runs_is_not_retried(face: Face, queue: Queue) -> None:
    await queue.enqueue("f", key="a", retries=5)
    job = await claim(queue)
    reply = await change(face, "/api/queues/default/jobs/a/retry")
    assert (reply.status, reply.json["error"]) == (409, "running")
    await queue.finish(job, Status.COMPLETE)
    assert job.status is Status.COMPLETE


async def test_abort(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="waits")
    await queue.enqueue("f", key="later", scheduled=time.time() + 100)
    for key in ("waits", "later"):
        reply = await change(face, f"/api/queues/default/jobs/{key}/abort")
        assert (reply.status, reply.json["job"]["status"]) == (200, "aborted")
        assert reply.json["job"]["error"] == "aborted from the web interface"
        reply = await change(face, f"/api/queues/default/jobs/{key}/abort")
        assert (reply.status, reply.json["error"]) == (409, "finished")
    await queue.enqueue("f", key="runs")
    job = await claim(worker)
    reply = await change(face, "/api/queues/default/jobs/runs/abort")
    assert (reply.status, reply.json["job"]["status"]) == (200, "aborting")
    assert "worker" in reply.json["message"]
    await worker.finish(job, Status.ABORTED, error="stopped")


async def test_a_job_that_keeps_no_record_is_aborted(face: Face, queue: Queue) -> None:
    await queue.enqueue("f", key="a", ttl=-1)
    reply = await change(face, "/api/queues/default/jobs/a/abort")
    assert (reply.status, reply.json["job"]) == (200, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{}", 200),
        (b" {} ", 200),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 10_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b'{"ttl": 1}', 422),
        (b" " * (MAX_BODY + 1), 413),
        (b"x" * 3_000_000, 413),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_the_body_of_a_change(face: Face, queue: Queue, body: bytes, status: int) -> None:
    await queue.enqueue("f", key="a")
    reply = await change(face, "/api/queues/default/jobs/a/abort", body=body)
    assert reply.status == status
    assert await queue.count("queued") == (0 if status == 200 else 1)
    if status != 200:
        assert reply.json["error"]


async def test_a_change_is_logged(face: Face, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "saq")
    await queue.enqueue("f", key="a\nb")
    await change(face, "/api/queues/default/jobs/a%0Ab/abort")
    assert "127.0.0.1 aborted the job 'a\\nb' of the queue 'default'" in caplog.text
