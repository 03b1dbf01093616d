"""What may be done, over each face: to one job, to many, to a queue; and what is said when it is too late."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from saq import Job, Queue, Status
from saq.web import paths
from saq.web.search import LOOK
from tests.conftest import SERVER_KIND
from tests.servers import Server
from tests.web.faces import AsgiFace, Face, Reply, change, served, shut_down
from tests.web.targets import TARGETS, prepare
from tests.web.test_api import claim

BULK = "/api/queues/default/bulk"


async def on(face: Face, key: str, action: str, **body: Any) -> Reply:
    path = f"/api/{paths.join('queues', 'default', 'jobs', key)}/{action}"
    return await change(face, path, body=json.dumps(body).encode())


async def bulk(face: Face, action: str, **body: Any) -> Reply:
    return await change(face, f"{BULK}/{action}", body=json.dumps(body).encode())


async def status(queue: Queue, key: str) -> Status | None:
    job = await queue.job(key)
    return job.status if job is not None else None


async def in_every_state(queue: Queue, worker: Queue) -> None:
    """Jobs that are called like the state they are in."""
    for key in ("complete", "failed", "active"):
        await queue.enqueue("f", key=key)
        job = await claim(worker)
        if key != "active":
            await worker.finish(job, Status(key), error="boom" if key == "failed" else None)
    await queue.enqueue("f", key="aborted")
    await queue.abort(Job("f", key="aborted"), "no more")
    await queue.enqueue("f", key="queued")
    await queue.enqueue("f", key="scheduled", scheduled=time.time() + 1000)


#: What comes of each action in each state: a state, None for a job that is gone, or why nothing changed.
EXPECTED: dict[str, dict[str, str | None]] = {
    "retry": {
        "queued": "not_finished",
        "scheduled": "not_finished",
        "active": "running",
        "complete": "queued",
        "failed": "queued",
        "aborted": "queued",
    },
    "abort": {
        "queued": "aborted",
        "scheduled": "aborted",
        "active": "aborting",
        "complete": "finished",
        "failed": "finished",
        "aborted": "finished",
    },
    "delete": {
        "queued": None,
        "scheduled": None,
        "active": "running",
        "complete": None,
        "failed": None,
        "aborted": None,
    },
    "run": {
        "queued": "not_scheduled",
        "scheduled": "queued",
        "active": "running",
        "complete": "queued",
        "failed": "queued",
        "aborted": "queued",
    },
}


@pytest.mark.parametrize("action", EXPECTED)
async def test_every_action_in_every_state(face: Face, queue: Queue, worker: Queue, action: str) -> None:
    await in_every_state(queue, worker)
    for state, expected in EXPECTED[action].items():
        before = await status(queue, state)
        offered = (await face.ask("GET", f"/api/queues/default/jobs/{state}")).json["job"]["actions"]
        reply = await on(face, state, action)
        if expected in (None, *Status):
            assert reply.status == 200, (state, reply.body)
            assert await status(queue, state) == expected
            assert (reply.json["job"] and reply.json["job"]["status"]) == expected
            assert reply.json["message"]
        else:
            assert (reply.status, reply.json["error"]) == (409, expected)
            assert "nothing was changed" in reply.json["message"]
            assert await status(queue, state) == before
            assert action not in offered
    assert (await on(face, "nothing", action)).status == 404


@pytest.mark.parametrize(
    ("action", "seen", "there"),
    [
        ("delete", "failed", "queued"),
        ("delete", "queued", "scheduled"),
        ("abort", "queued", "active"),
        ("abort", "scheduled", "queued"),
        ("run", "scheduled", "complete"),
        ("delete", "failed", "complete"),
        ("retry", "aborted", "failed"),
    ],
)
async def test_an_action_is_meant_for_what_was_seen(
    face: Face, queue: Queue, worker: Queue, action: str, seen: str, there: str
) -> None:
    """Without the state that somebody has seen, each of these would have been done."""
    await in_every_state(queue, worker)
    before = await status(queue, there)
    reply = await on(face, there, action, state=seen)
    assert reply.status == 409
    assert there in reply.json["message"]
    assert await status(queue, there) == before
    assert (await on(face, there, action, state=there)).status in (200, 409)


async def test_some_by_their_keys(face: Face, queue: Queue, worker: Queue) -> None:
    await in_every_state(queue, worker)
    keys = ["failed", "complete", "queued", "active", "nothing", "failed"]
    answer = (await bulk(face, "delete", keys=keys)).json
    assert (answer["matched"], answer["done"], answer["next"]) == (5, 3, None)
    assert {one["key"]: one["error"] for one in answer["refused"]} == {
        "active": "running",
        "nothing": "no_such_job",
    }
    assert [await status(queue, key) for key in keys[:4]] == [None, None, None, Status.ACTIVE]
    answer = (await bulk(face, "delete", keys=["aborted", "scheduled"], state="scheduled")).json
    assert [one["error"] for one in answer["refused"]] == ["moved_on"]
    assert await status(queue, "aborted") is Status.ABORTED


async def test_some_that_have_come_to_another_end(face: Face, queue: Queue, worker: Queue) -> None:
    await in_every_state(queue, worker)
    answer = (await bulk(face, "delete", keys=["failed", "complete", "nothing"], state="failed")).json
    assert (answer["matched"], answer["done"]) == (3, 1)
    assert [(one["key"], one["error"]) for one in answer["refused"]] == [
        ("complete", "moved_on"),
        ("nothing", "no_such_job"),
    ]
    answer = (await bulk(face, "delete", keys=["complete", "aborted"], state="finished")).json
    assert (answer["done"], answer["refused"]) == (2, [])


async def test_all_that_match_slice_by_slice(face: Face, queue: Queue) -> None:
    await queue.enqueue_many([Job(f"f{n % 2}", {"n": n}, key=f"k{n}") for n in range(2 * LOOK)])
    body: dict[str, Any] = {"match": {"state": "queued", "function": "f1"}}
    first = (await bulk(face, "delete", **body)).json
    assert 0 < first["done"] <= 250
    # Who comes while one is at it is not meant.
    await queue.enqueue("f1", key="late")
    done, cursor = first["done"], first["next"]
    while cursor is not None:
        answer = (await bulk(face, "delete", **body, cursor=cursor)).json
        done, cursor = done + answer["done"], answer["next"]
        assert answer["refused"] == []
    assert done == LOOK
    assert await queue.count("queued") == LOOK + 1
    assert await status(queue, "late") is Status.QUEUED


async def test_all_that_match_what_is_searched_for(face: Face, queue: Queue, worker: Queue) -> None:
    for n in range(6):
        await queue.enqueue("f", key=f"k{n}", n=n)
        await worker.finish(await claim(worker), Status.FAILED, error=f"Traceback\nValueError: {n % 2}")
    answer = (await bulk(face, "retry", match={"state": "failed", "text": "VALUEERROR: 1"})).json
    assert (answer["done"], answer["matched"], answer["searched"]) == (3, 3, 6)
    assert [await status(queue, f"k{n}") for n in range(6)] == [Status.FAILED, Status.QUEUED] * 3
    (group,) = (await face.ask("GET", "/api/queues/default/failures")).json["groups"]
    assert (group["error"], group["count"]) == ("ValueError: N", 3)
    answer = (await bulk(face, "delete", match={"state": "failed", "group": group["group"]})).json
    assert answer["done"] == 3
    assert (await face.ask("GET", "/api/queues/default/failures")).json["groups"] == []


async def test_what_there_was_no_time_for_is_left_to_the_next_request(
    face: Face, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saq.web.views.actions.PATIENCE", -1.0)
    await queue.enqueue_many([Job("f", key=f"k{n}") for n in range(3)])
    answer = (await bulk(face, "delete", keys=["k0", "k1"])).json
    assert (answer["done"], [one["error"] for one in answer["refused"]]) == (1, ["no_time"])
    answer = (await bulk(face, "delete", match={"state": "queued"})).json
    assert (answer["matched"], answer["searched"]) == (1, 1)
    answer = (await bulk(face, "delete", match={"state": "queued"}, cursor=answer["next"])).json
    assert (answer["done"], answer["next"]) == (1, None)
    assert await queue.count("queued") == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"keys": []},
        {"keys": ["a"], "match": {"state": "queued"}},
        {"keys": ["a"] * 251},
        {"keys": [1]},
        {"keys": "a"},
        {"keys": [None]},
        {"match": {}},
        {"match": {"state": "nowhere"}},
        {"match": {"state": "queued", "text": 1}},
        {"match": {"state": "queued", "sql": ""}},
        {"match": {"state": "queued"}, "cursor": "nonsense"},
        {"match": {"state": "queued"}, "cursor": 5},
        {"keys": ["a"], "state": "nowhere"},
        {"keys": ["a"], "other": 1},
    ],
    ids=str,
)
async def test_a_body_that_cannot_be(face: Face, queue: Queue, body: dict[str, Any]) -> None:
    await queue.enqueue("f", key="a")
    for action in EXPECTED:
        reply = await bulk(face, action, **body)
        assert (reply.status, set(reply.json)) == (422, {"error", "message"})
    assert await status(queue, "a") is Status.QUEUED


async def test_pause_and_resume(face: Face, queue: Queue, worker: Queue) -> None:
    await queue.enqueue("f", key="a")
    reply = await change(face, "/api/queues/default/pause")
    assert reply.status == 200
    assert reply.json["paused"] > 0
    assert (await face.ask("GET", "/api/queues/default")).json["queue"]["paused"] == reply.json["paused"]
    assert await worker.dequeue(timeout=0.05) is None
    reply = await change(face, "/api/queues/default/resume")
    assert (reply.status, reply.json["paused"]) == (200, None)
    assert (await claim(worker)).key == "a"


async def test_what_many_is_logged_in_one_line(
    face: Face, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saq")
    await queue.enqueue_many([Job("f", key=f"k{n}") for n in range(3)])
    await bulk(face, "delete", keys=["k0", "k1", "k2", "none"])
    assert "127.0.0.1 deleted 3 of 4 jobs of the queue 'default'" in caplog.text


async def test_read_only_changes_nothing(queue: Queue) -> None:
    async with served([queue], read_only=True) as face:
        for target in TARGETS:
            await prepare(queue)
            before = await queue.views.counts()
            reply = await face.ask(target.method, target.path, {}, target.body)
            if target.method == "POST":
                reply = await change(face, target.path, body=target.body)
                assert (reply.status, reply.json["error"]) == (403, "read_only")
            else:
                assert reply.status == target.status
            after = await queue.views.counts()
            assert after._replace(now=0) == before._replace(now=0)
        assert (await face.ask("GET", "/api/about")).json["read_only"] is True
        assert (await face.ask("GET", "/api/queues/default/jobs/a")).json["job"]["actions"] == []


async def test_a_server_that_goes_away_amid_it(redis_url: str) -> None:
    from saq.web.starlette import saq_web

    with Server(SERVER_KIND) as server:
        queue = Queue.from_url(server.url())
        app = saq_web("", [queue])
        face = AsgiFace(app)
        await queue.enqueue("f", key="a")
        assert (await face.ask("GET", "/api/queues")).status == 200
        server.stop()
        for reply in (
            await face.ask("GET", "/api/queues"),
            await on(face, "a", "delete"),
            await bulk(face, "delete", keys=["a"]),
        ):
            assert (reply.status, reply.json["error"]) == (503, "unavailable")
        await shut_down(app)
