"""Who comes in, what changes something, what every response says, and what none says: over each face."""

from __future__ import annotations

import asyncio
import base64
import gzip
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saq import Queue, Status
from saq.errors import DecodeError, RunningError
from saq.web.security import HEADERS, Credentials, same_origin
from tests.web.faces import CHANGE, AsgiFace, Face, HttpFace, Reply, change, open_face, parse, served
from tests.web.targets import IDS, TARGETS, Target, prepare
from tests.web.test_api import as_json

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
GONE = "redis://:secret@127.0.0.1:1/0"


def basic(user: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


# Methods --------------------------------------------------------------------------------------------------


def accepted(target: Target) -> tuple[str, ...]:
    """The methods that a path takes: of any route that has it."""
    return ("GET", "HEAD") if target.method == "GET" else ("POST",)


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
async def test_every_route_with_every_method(face: Face, queue: Queue, target: Target) -> None:
    await prepare(queue, target)
    for tried in METHODS:
        if tried in accepted(target):
            continue
        reply = await face.ask(tried, target.path, CHANGE, target.body)
        assert reply.status == 405, tried
        assert reply.headers["allow"] == ", ".join(accepted(target))
        if tried == "HEAD":
            assert reply.body == b""
        else:
            assert reply.json["error"] == "wrong_method"
    for tried in accepted(target):
        reply = await face.ask(tried, target.path, CHANGE, target.body)
        assert reply.status == target.status, reply.body
        if target.streams:
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert (reply.body == b"") is (tried == "HEAD")
        else:
            assert int(reply.headers["content-length"]) > 0
            assert len(reply.body) == (0 if tried == "HEAD" else int(reply.headers["content-length"]))


async def test_health_with_every_method(face: Face) -> None:
    for method in METHODS:
        reply = await face.ask(method, "/health", CHANGE)
        assert reply.status == (200 if method in ("GET", "HEAD") else 405)


# Authentication -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [None, "me", "ü:ser"[:1]])
async def test_a_password_is_asked_for_everywhere(
    kind: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, user: str | None
) -> None:
    monkeypatch.setenv("AUTH_PASSWORD", "p:ässword")
    if user is not None:
        monkeypatch.setenv("AUTH_USER", user)
    name = user or "admin"
    await queue.enqueue("f", key="a")
    async with open_face(kind, [queue]) as face:
        wrong: list[dict[str, str]] = [
            {},
            basic(name, "p:ässwor"),
            basic(name, "p:ässword "),
            basic(name, "P:ÄSSWORD"),
            basic(name, ""),
            basic("", "p:ässword"),
            basic(name + "x", "p:ässword"),
            basic(name, "p:ässword", "Bearer"),
            {"Authorization": ""},
            {"Authorization": "Basic"},
            {"Authorization": "Basic %%%"},
            {"Authorization": "Basic " + base64.b64encode(b"admin").decode()},
            {"Authorization": "Basic " + "A" * 5000},
        ]
        targets = [(target.method, target.path) for target in TARGETS]
        targets += [("GET", "/nonsense"), ("DELETE", "/"), ("GET", "/health/"), ("GET", "/static/x")]
        for method, target in targets:
            for headers in wrong if target == "/" else wrong[:2]:
                reply = await face.ask(method, target, {**CHANGE, **headers})
                assert reply.status == 401, (target, headers)
                assert reply.headers["www-authenticate"] == 'Basic realm="saq", charset="UTF-8"'
                assert reply.json["error"] == "unauthorized"
        assert await queue.count("queued") == 1
        for scheme in ("Basic", "basic", "BASIC"):
            reply = await face.ask("GET", "/api/queues", basic(name, "p:ässword", scheme))
            assert reply.status == 200
        reply = await face.ask("GET", "/health")
        assert (reply.status, reply.body) == (200, b"OK")


async def test_credentials_are_read_when_the_app_is_made(
    kind: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_face(kind, [queue]) as face:
        monkeypatch.setenv("AUTH_PASSWORD", "x")
        assert (await face.ask("GET", "/")).status == 200
        async with open_face(kind, [queue]) as other:
            assert (await other.ask("GET", "/")).status == 401


def test_an_empty_password_is_none_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AUTH_PASSWORD", "")
    assert Credentials.from_environment() is None
    assert "AUTH_PASSWORD is empty" in caplog.text


# Where a change comes from --------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
SAME = "same-origin"


@pytest.mark.parametrize("target", [target for target in TARGETS if target.method == "POST"], ids=str)
async def test_every_change_asks_where_it_comes_from(face: Face, queue: Queue, target: Target) -> None:
    await prepare(queue, target)
    before = [(job.key, job.status) async for job in queue.iter_jobs()]
    for headers in ({}, JSON, {"Sec-Fetch-Site": SAME}, {**JSON, "Sec-Fetch-Site": "cross-site"}):
        reply = await change(face, target.path, headers, target.body)
        assert reply.status == 403
        assert reply.json["error"] in ("cross_origin", "not_json")
    assert [(job.key, job.status) async for job in queue.iter_jobs()] == before
    counts = await queue.views.counts()
    assert not counts.paused
    assert (await queue.views.workers()).workers[0].quiet == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**JSON, "Sec-Fetch-Site": SAME}, 200),
        ({**JSON, "Sec-Fetch-Site": SAME, "Origin": "http://proxied.example"}, 200),
        ({"Content-Type": "Application/JSON; charset=utf-8", "Sec-Fetch-Site": SAME}, 200),
        ({**JSON, "Origin": "http://shop.example", "Host": "shop.example"}, 200),
        ({**JSON, "Origin": "https://shop.example", "Host": "shop.example:443"}, 200),
        ({**JSON, "Origin": "http://[::1]:8080", "Host": "[::1]:8080"}, 200),
        ({}, 403),
        (JSON, 403),
        ({"Sec-Fetch-Site": SAME}, 403),
        ({"Content-Type": "text/plain", "Sec-Fetch-Site": SAME}, 403),
        ({"Content-Type": "text/plain; application/json", "Sec-Fetch-Site": SAME}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": SAME}, 403),
        ({"Content-Type": "multipart/form-data", "Sec-Fetch-Site": SAME}, 403),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**JSON, "Sec-Fetch-Site": "same-site"}, 403),
        ({**JSON, "Sec-Fetch-Site": "none"}, 403),
        ({**JSON, "Sec-Fetch-Site": ""}, 403),
        ({**JSON, "Sec-Fetch-Site": "Same-Origin"}, 403),
        ({**JSON, "Sec-Fetch-Site": "cross-site", "Origin": "http://h", "Host": "h"}, 403),
        ({**JSON, "Origin": "http://evil.example", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "http://shop.example.evil.example", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "http://shop.example:81", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "http://shop.example@evil.example", "Host": "evil.example"}, 403),
        ({**JSON, "Origin": "http://evil.example/shop.example", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "null", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "shop.example", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "file://shop.example", "Host": "shop.example"}, 403),
        ({**JSON, "Origin": "http://[::1", "Host": "[::1"}, 403),
        ({**JSON, "Origin": "http://h:x", "Host": "h:x"}, 403),
        ({**JSON, "Referer": "http://shop.example/", "Host": "shop.example"}, 403),
    ],
)
async def test_only_our_own_page_changes_something(
    face: Face, queue: Queue, headers: dict[str, str], status: int
) -> None:
    await queue.enqueue("f", key="a")
    for action in ("abort", "retry"):
        reply = await change(face, f"/api/queues/default/jobs/a/{action}", headers)
        assert reply.status == status
        assert "access-control-allow-origin" not in reply.headers
    job = await queue.job("a")
    assert job is not None
    assert job.queued
    assert job.completed == 0
    if status == 403:
        assert reply.json["error"] in ("not_json", "cross_origin")


async def test_a_header_that_comes_twice_is_none(queue: Queue) -> None:
    await queue.enqueue("f", key="a")
    head = "POST /api/queues/default/jobs/a/abort HTTP/1.1\r\nContent-Type: application/json\r\n"
    async with open_face("aiohttp", [queue]) as face:
        assert isinstance(face, HttpFace)
        for twice in (
            "Host: h\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Site: same-origin",
            "Host: h\r\nOrigin: http://h\r\nOrigin: http://evil.example",
        ):
            answer = await face.send(f"{head}{twice}\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
    assert await queue.count("queued") == 1


@given(st.text(), st.text())
def test_no_other_origin_is_ours(origin: str, host: str) -> None:
    if same_origin({"origin": origin, "host": host}):
        assert host.split(":")[0].lower() in origin.lower()


# What every response says ---------------------------------------------------------------------------------


async def every_kind_of_response(face: Face, queue: Queue) -> list[Reply]:
    await prepare(queue)
    etag = (await face.ask("GET", "/static/icon.svg")).headers["etag"]
    return [
        *[await face.ask(target.method, target.path, CHANGE, target.body) for target in TARGETS],
        await face.ask("GET", "/health"),
        await face.ask("HEAD", "/"),
        await face.ask("GET", "/nonsense"),
        await face.ask("GET", "/queues/none"),
        await face.ask("GET", "/api/queues/none"),
        await face.ask("PUT", "/"),
        await face.ask("POST", "/api/queues/default/jobs/a/abort"),
        await face.ask("POST", "/api/queues/default/jobs/a/abort", CHANGE, b"x" * 100_000),
        await face.ask("GET", "/static/icon.svg", {"If-None-Match": etag}),
    ]


async def test_headers(face: Face, queue: Queue) -> None:
    assert dict(HEADERS) == {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
    }
    seen = set()
    for reply in await every_kind_of_response(face, queue):
        seen.add(reply.status)
        is_file = "etag" in reply.headers
        for name, value in HEADERS.items():
            expected = "no-cache" if is_file and name == "Cache-Control" else value
            assert reply.headers[name.lower()] == expected
        assert not {"set-cookie", "access-control-allow-origin", "x-powered-by"} & reply.headers.keys()
        assert reply.headers.get("server", "saq") == "saq"
        if reply.status >= 400 and reply.body and "html" not in reply.headers["content-type"]:
            assert set(reply.json) == {"error", "message"}
    assert seen == {200, 304, 403, 404, 405, 409, 413}


# What goes wrong ------------------------------------------------------------------------------------------

SECRETS = (b"Traceback", b"redis", b"secret", b"127.0.0.1", b"site-packages", b".py", b"Error")


def assert_quiet(reply: Reply) -> None:
    assert not [secret for secret in SECRETS if secret in reply.body]


async def test_a_server_that_is_away(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue.from_url(GONE)
    async with open_face(kind, [queue]) as face:
        for target in TARGETS:
            reply = await face.ask(target.method, target.path, CHANGE, target.body)
            if target.path == "/ready":
                assert (reply.status, reply.json["failing"]) == (503, ["server"])
            elif not target.api:
                assert reply.status == target.status
            elif target.path in ("/api/events", "/api/live"):
                assert reply.status == 200
                assert b'"unavailable":[{"name":"default","path":"queues/default"}]' in reply.body
            else:
                assert (reply.status, reply.json["error"]) == (503, "unavailable"), target
                assert int(reply.headers["retry-after"]) > 0
                assert_quiet(reply)
        assert (await face.ask("GET", "/health")).status == 200
    assert "secret" not in caplog.text
    await queue.disconnect()


async def test_an_outage_is_logged_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue.from_url(GONE)
    async with open_face(kind, [queue]) as face:
        for _ in range(3):
            assert (await face.ask("GET", "/api/queues")).status == 503
    assert len([record for record in caplog.records if "Web [" in record.getMessage()]) == 1
    await queue.disconnect()


async def test_a_queue_that_is_away_does_not_hide_the_others(kind: str, queue: Queue) -> None:
    gone = Queue.from_url(GONE, name="gone")
    async with open_face(kind, [gone, queue]) as face:
        answer = (await face.ask("GET", "/api/queues")).json
        assert [queue["name"] for queue in answer["queues"]] == ["default"]
        assert answer["unavailable"] == [{"name": "gone", "path": "queues/gone"}]
    async with open_face(kind, [gone, Queue.from_url(GONE)]) as face:
        assert (await face.ask("GET", "/api/queues")).status == 503
    await gone.disconnect()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("redis://:secret@127.0.0.1 in /site-packages/x.py"), 500),
        (DecodeError("secret"), 500),
        (ExceptionGroup("secret", [ValueError("secret")]), 500),
        (RunningError("secret"), 409),
        (TimeoutError("secret"), 503),
        (ConnectionResetError("secret"), 503),
        (FileNotFoundError(2, "secret"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_exception_is_for_the_log(
    kind: str,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
) -> None:
    caplog.set_level("INFO", "saq")

    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("info", "server_time", "pause", "resume"):
        monkeypatch.setattr(queue, name, fail)
    for name in ("jobs", "browse", "workers", "schedule", "quiet"):
        monkeypatch.setattr(queue.views, name, fail)
    async with open_face(kind, [queue]) as face:
        for target in TARGETS:
            # Those that act on many do it one by one; what is sampled is tried again.
            if target.api and "/bulk/" not in target.path and target.path not in ("/api/events", "/api/live"):
                reply = await face.ask(target.method, target.path, CHANGE, target.body)
                assert reply.status == status, target
                assert_quiet(reply)
                assert len(reply.json["id"]) == 12
                if status == 500:
                    assert reply.json["id"] in caplog.text
                    assert "Traceback" in caplog.text
    assert "Web [" in caplog.text


async def test_a_view_that_takes_too_long(kind: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(queue, "info", hang)
    monkeypatch.setattr("saq.web.app.PATIENCE", 0.05)
    async with open_face(kind, [queue]) as face:
        for path in ("/api/queues", "/api/queues/default"):
            assert (await face.ask("GET", path)).status == 503


@pytest.mark.parametrize("rest", ["Content-Length: 10\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
async def test_a_body_that_does_not_arrive(queue: Queue, monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setattr("saq.web.aiohttp.BODY_PATIENCE", 0.05)
    monkeypatch.setattr("saq.web.aiohttp.LINGER", 0.05)
    await queue.enqueue("f", key="a")
    head = (
        "POST /api/queues/default/jobs/a/abort HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
    )
    async with served([queue]) as face:
        answer = parse(await face.send((head + rest).encode()))
        assert (answer.status, answer.json["error"]) == (408, "no_body")
    assert await queue.count("queued") == 1


async def test_a_compressed_body_is_not_unpacked(queue: Queue) -> None:
    await queue.enqueue("f", key="a")
    async with served([queue]) as face:
        headers = {**CHANGE, "Content-Encoding": "gzip"}
        body = gzip.compress(b" " * 10_000_000)
        reply = await change(face, "/api/queues/default/jobs/a/abort", headers, body)
        assert reply.status in (400, 413)
    assert await queue.count("queued") == 1


async def test_a_client_that_goes(queue: Queue) -> None:
    async with open_face("asgi", [queue]) as face:
        assert isinstance(face, AsgiFace)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await face.app(scope, receive, send)


# Anything at all ------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    rb"/ .. . = %2e%2e %2F %00 % %zz %FF \ ? # ; & * //evil.example http://evil.example/ offset=1 "
    rb"api queues default jobs a retry abort static app.js health tools monitor".split()
)
TARGET = st.one_of(
    st.lists(PIECES, max_size=12).map(b"".join),
    st.lists(PIECES, max_size=7).map(b"/".join),
    st.binary(max_size=60),
)
METHOD = st.sampled_from(METHODS)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=METHOD, target=TARGET, trusted=st.booleans())
async def test_any_path(face: Face, method: str, target: bytes, trusted: bool) -> None:
    if isinstance(face, HttpFace):
        target = target.translate(None, b" \t\r\n\x0b\x0c\x00")
    reply = await face.ask(method, b"/" + target, CHANGE if trusted else {})
    assert reply.status < 500
    assert b"Traceback" not in reply.body
    location = reply.headers.get("location", "./")
    assert location.startswith("./")
    if isinstance(face, AsgiFace) or reply.status != 400:  # aiohttp itself refuses what is not HTTP
        assert reply.headers["x-content-type-options"] == "nosniff"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(codec=None, exclude_categories=()), max_size=20))
async def test_any_text_is_a_key(face: Face, queue: Queue, worker: Queue, key: str) -> None:
    job = await queue.enqueue("f", key=key)
    assert job is not None
    (listed,) = (await face.ask("GET", "/api/queues/default")).json["queue"]["jobs"]
    assert listed["key"] == as_json(key)
    assert (await face.ask("GET", "/api/" + listed["path"])).json["job"]["key"] == as_json(key)
    claimed = await worker.dequeue(timeout=5)
    assert claimed is not None
    await worker.finish(claimed, Status.COMPLETE)
    await queue.delete(key)
