"""Mounted in FastAPI, Starlette and Litestar, and served by uvicorn: real ones, asked through a socket."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from saq import Queue
from saq.web import paths
from tests.processes import Command
from tests.web.faces import HttpFace, change


@contextmanager
def uvicorn(app: str, url: str) -> Iterator[Command]:
    words = ("-m", "uvicorn", f"tests.web.mounts:{app}", "--factory", "--port", "0")
    command = Command(*words, env={"SAQ_TEST_URL": url})
    try:
        yield command
    finally:
        command.close()


async def port_of(command: Command) -> int:
    return int((await command.says(r"running on http://127\.0\.0\.1:\d+")).rpartition(":")[2])


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Queue]:
    queue = Queue.from_url(redis_url, name="other")
    yield queue
    await queue.disconnect()


@pytest.mark.parametrize("app", ["fastapi", "starlette", "litestar"])
async def test_mounted_twice(redis_url: str, queue: Queue, other: Queue, app: str) -> None:
    keys = ["plain", "x/retry", "..", "", "a b?c#d", "%2F", "ü"]
    for key in keys:
        await queue.enqueue("f", key=key)
    await other.enqueue("g", key="of the other")
    with uvicorn(app, redis_url) as command:
        port = await port_of(command)
        one, two = HttpFace(port, b"/monitor"), HttpFace(port, b"/deep/er")
        assert b"hello" in (await HttpFace(port).ask("GET", "/hello")).body
        for face, names in ((one, ["default"]), (two, ["other"])):
            page = await face.ask("GET", "/")
            assert page.status == 200
            root = re.search(r'data-root="([^"]+)"', page.body.decode())
            assert root is not None
            assert root[1] == "./"
            assert (await face.ask("GET", "/static/vendor/preact.mjs")).status == 200
            assert [q["name"] for q in (await face.ask("GET", "/api/queues")).json["queues"]] == names
            assert (await face.ask("GET", "")).status in (307, 308, 200)
        for key in keys:
            path = paths.join("queues", "default", "jobs", key)
            assert (await one.ask("GET", f"/{path}")).status == 200
            assert (await one.ask("GET", f"/api/{path}")).json["job"]["key"] == key
            assert (await change(one, f"/api/{path}/abort")).json["job"]["status"] == "aborted"
        assert (await change(two, "/api/queues/other/pause")).status == 403
        events = await one.ask("GET", "/api/events")
        assert b"event: live" in events.body
        command.send(signal.SIGINT)
        await command.end()
        assert "Traceback" not in command.text()


async def test_served_by_itself(redis_url: str, queue: Queue) -> None:
    await queue.enqueue("f", key="a")
    with uvicorn("bare", redis_url) as command:
        face = HttpFace(await port_of(command))
        assert (await face.ask("GET", "/api/queues/default/jobs/a")).status == 200
        assert b"event: live" in (await face.ask("GET", "/api/events")).body
        command.send(signal.SIGTERM)
        await command.end()
        assert "Traceback" not in command.text()
