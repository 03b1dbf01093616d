"""What is each face's own: serving, mounting, and the page with its files."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from saq import Queue
from saq.errors import UsageError
from saq.listening import cannot_listen
from saq.web.aiohttp import create_app, serve
from saq.web.app import WebApp
from saq.web.security import is_loopback
from saq.web.starlette import saq_web
from saq.web.views.pages import assets
from tests.web.faces import CHANGE, AsgiFace, Face, change, open_face, served, shut_down
from tests.web.test_security import basic

# The page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/", "./", 200),
        ("/?x=1", "./", 200),
        ("/queues/default", "../", 200),
        ("/queues/none", "../", 404),
        ("/queues/default/jobs/x", "../../../", 200),
        ("/queues/default/jobs/x%2Fy", "../../../", 200),
        ("/queues/default/jobs/", "../../../", 200),
        ("/queues/none/jobs/x", "../../../", 404),
    ],
)
async def test_the_page_finds_its_root(face: Face, path: str, root: str, status: int) -> None:
    reply = await face.ask("GET", path)
    assert reply.status == status
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    text = reply.body.decode()
    assert f'<html lang="en" data-root="{root}">' in text
    assert f'src="{root}static/app.js"' in text
    assert "{root}" not in text


@pytest.mark.parametrize("name", ["app.js", "pages/job.js", "css/base.css", "vendor/preact.mjs", "icon.svg"])
async def test_a_file(face: Face, name: str) -> None:
    reply = await face.ask("GET", f"/static/{name}")
    assert (reply.status, reply.headers["content-type"]) == (200, assets()[name].content_type)
    assert reply.body == resources.files("saq.web").joinpath("static", name).read_bytes()
    etag = reply.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = await face.ask("GET", f"/static/{name}", {"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert (await face.ask("GET", f"/static/{name}", {"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index.html",
        "none",
        "..",
        "=..",
        "%2e%2e",
        "%252e%252e",
        "../app.py",
        "..%2Fapp.py",
        "..%5Capp.py",
        "..\\app.py",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "app.js%00",
        "app.js.gz",
        "app.js/",
        "APP.JS",
        "__proto__",
        "vendor",
        "vendor/",
        "vendor/vendor.json",
        "vendor/../app.js",
        "css//base.css",
        "C:%5Cwindows%5Cwin.ini",
    ],
)
async def test_no_other_file(face: Face, name: str) -> None:
    reply = await face.ask("GET", f"/static/{name}")
    assert (reply.status, reply.json["error"]) == (404, "not_found")


async def test_every_file_of_the_page_is_served_and_no_other(face: Face) -> None:
    for name in ("app.js", *(name for name in assets() if name.endswith(("js", "css")))):
        reply = await face.ask("GET", f"/static/{name}")
        assert reply.status == 200, name
        for wanted in re.findall(r"""(?:from|import) ?"(\.[^"]+)";?""", reply.body.decode()):
            found = await face.ask("GET", str(URL(f"/static/{name}").join(URL(wanted))))
            assert found.status == 200, f"{name} asks for {wanted}"
    page = (await face.ask("GET", "/")).body.decode()
    for wanted in re.findall(r'(?:src|href)="\./(static/[^"]+)"', page):
        assert (await face.ask("GET", f"/{wanted}")).status == 200, wanted


def test_the_page_draws_nothing_but_text() -> None:
    folder = Path(str(resources.files("saq.web").joinpath("static")))
    own = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*.*")
        if "vendor" not in path.parts
    }
    assert len(own) > 30
    forbidden = (
        "innerHTML",
        "InnerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "setHTML",
        "srcdoc",
        "eval(",
        "Function(",
        "javascript:",
        'setTimeout("',
        "http://",
        "https://",
    )
    for name, text in own.items():
        text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not [word for word in forbidden if word in text], name
    page = own["index.html"]
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?!( type=\"module\")? src=)", page)
    assert not re.search(r"(src|href)=\"(?!\{root\}|#)", page)


# aiohttp --------------------------------------------------------------------------------------------------


async def test_a_real_client(queue: Queue) -> None:
    await queue.enqueue("f", key="x/retry")
    async with served([queue]) as face, aiohttp.ClientSession() as session:
        url = URL(f"http://127.0.0.1:{face.port}/api/queues/default/jobs/x%2Fretry", encoded=True)
        async with session.get(url) as response:
            assert (await response.json())["job"]["key"] == "x/retry"
        async with session.post(URL(f"{url}/abort", encoded=True), json={}, headers=CHANGE) as response:
            assert response.status == 200


async def test_it_says_where_it_is_and_leaves_the_queue_connected(
    queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "saq")
    calls = []
    disconnect = queue.disconnect

    async def counted() -> None:
        calls.append(1)
        await disconnect()

    monkeypatch.setattr(queue, "disconnect", counted)
    async with serve([queue], port=0) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/", url)
        assert f"The web interface is at {url}" in caplog.text
    assert calls == []
    async with open_face("aiohttp", [queue]):
        pass
    assert calls == [1]


async def test_a_long_key(queue: Queue) -> None:
    await queue.enqueue("f", key="k" * 50_000)
    async with served([queue]) as face:
        assert (await face.ask("GET", "/api/queues/default/jobs/" + "k" * 50_000)).status == 200


async def test_a_port_that_is_taken(queue: Queue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"^port {port} is taken.*--port"):
            async with serve([queue], port=port):
                pass


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "no address of this machine"),
        ("no.such.host.invalid", "no address of this machine"),
        ("a" * 300, "no address of this machine"),
    ],
)
async def test_an_address_that_is_not_ours(queue: Queue, host: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        async with serve([queue], host, 0, insecure=True):
            pass


def test_what_cannot_be_listened_at_is_said() -> None:
    assert "from 1024 on" in cannot_listen("127.0.0.1", 80, PermissionError(errno.EACCES, "x"))
    assert "cannot listen" in cannot_listen("127.0.0.1", 80, OSError(errno.EMFILE, "x"))


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org"])
async def test_another_address_needs_a_password(queue: Queue, host: str) -> None:
    with pytest.raises(UsageError, match=r"AUTH_PASSWORD.*--host.*--insecure"):
        async with serve([queue], host, 0):
            pass


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_another_address_with_a_password_or_insecure(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served([queue], host="0.0.0.0", insecure=True) as face:
        assert (await face.ask("GET", "/", {"Host": "queues.example"})).status == 200
    monkeypatch.setenv("AUTH_PASSWORD", "x")
    async with served([queue], host="0.0.0.0") as face:
        assert (await face.ask("GET", "/", {"Host": "queues.example"})).status == 401
        headers = {"Host": "queues.example", **basic("admin", "x")}
        assert (await face.ask("GET", "/", headers)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("app.localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("192.168.0.5", 200),  # cannot be made to point elsewhere
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
async def test_on_the_loopback_no_other_name_is_answered(queue: Queue, host: str, status: int) -> None:
    await queue.enqueue("f", key="a")
    async with served([queue]) as face:
        for path in ("/", "/api/queues", "/static/app.js"):
            reply = await face.ask("GET", path, {"Host": host})
            assert reply.status in (status, 400 if status == 403 else status)
        reply = await change(face, "/api/queues/default/jobs/a/abort", {**CHANGE, "Host": host})
        assert reply.status in (status, 400 if status == 403 else status)
        if host:
            assert (await face.ask("GET", "/health")).status == 200
    async with served([queue], insecure=True) as face:
        if status == 200 or "evil" in host:
            assert (await face.ask("GET", "/", {"Host": host})).status == 200


async def test_routes_of_another_app_are_left_alone(queue: Queue) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    outer = web.Application()
    outer.router.add_get("/hello", hello)
    outer.add_subapp("/saq", create_app([queue]))
    runner = web.AppRunner(outer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path, text in (("/hello", "hello"), ("/saq/health", "OK")):
                async with session.get(path) as response:
                    assert await response.text() == text
            async with session.get("/saq", allow_redirects=False) as response:
                assert (response.status, response.headers["Location"]) == (308, "./saq/")
            async with session.get("/saq") as response:
                assert response.status == 200
                assert str(response.url).endswith("/saq/")
    finally:
        await runner.cleanup()


# ASGI -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "prefix", "stripped", "raw_path"),
    [
        ("", "", False, True),
        ("/monitor", "/monitor", False, True),
        ("/monitor", "/monitor", True, True),
        ("monitor/", "/monitor", False, True),
        ("", "/monitor", False, True),
        ("/monitor", "", False, True),
        ("/monitor", "/proxy/monitor", False, True),
        ("/monitor", "/proxy", True, True),
        ("/my tool", "/my tool", True, False),
        ("/monitor", "/monitor", False, False),
        ("/ü", "/ü", False, False),
    ],
)
async def test_wherever_it_is_mounted(
    queue: Queue, given: str, prefix: str, stripped: bool, raw_path: bool
) -> None:
    await queue.enqueue("f", key="a b")
    face = AsgiFace(saq_web(given, [queue]), prefix, stripped=stripped, raw_path=raw_path)
    assert (await face.ask("GET", "/")).status == 200
    assert (await face.ask("GET", "/queues/default/jobs/a%20b")).status == 200
    assert (await face.ask("GET", "/api/queues/default/jobs/a%20b")).json["job"]["key"] == "a b"
    assert (await face.ask("GET", "/static/app.js")).status == 200


async def test_the_mount_point_without_its_slash(queue: Queue) -> None:
    face = AsgiFace(saq_web("/monitor", [queue]), "/monitor")
    reply = await face.ask("GET", "")
    assert (reply.status, reply.headers["location"]) == (308, "./monitor/")


async def test_several_in_one_process(queue: Queue, odd: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    one = AsgiFace(saq_web("/one", [queue]), "/one")
    monkeypatch.setenv("AUTH_PASSWORD", "x")
    two = AsgiFace(saq_web("/two", [odd]), "/two")
    assert [q["name"] for q in (await one.ask("GET", "/api/queues")).json["queues"]] == [queue.name]
    assert (await two.ask("GET", "/api/queues")).status == 401
    answer = (await two.ask("GET", "/api/queues", basic("admin", "x"))).json
    assert [q["name"] for q in answer["queues"]] == [odd.name]


async def test_served_by_itself_it_disconnects_at_the_end(queue: Queue) -> None:
    sent = await shut_down(saq_web("", [queue]))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_it_speaks_no_websocket(queue: Queue) -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await saq_web("", [queue])({"type": "websocket", "path": "/"}, receive, send)
    assert sent == ["websocket.close"]


# Both -----------------------------------------------------------------------------------------------------


def test_two_queues_of_one_name(queue: Queue, worker: Queue, caplog: pytest.LogCaptureFixture) -> None:
    app = WebApp([queue, worker, queue])
    assert app.queues == {"default": queue}
    assert app.queues["default"] is queue
    assert caplog.text.count("Two queues have the name 'default'") == 1


@pytest.mark.parametrize(
    ("module", "absent"),
    [("saq.web", ("aiohttp", "starlette")), ("saq.web.starlette", ("aiohttp", "starlette"))],
)
def test_nothing_optional_is_imported(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in {absent!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
