"""`saq web`: a process that shows queues and works on none."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saq import Queue
from saq.serve import main
from tests.processes import APP, Command, saq
from tests.web.faces import HttpFace, change
from tests.web.test_security import basic

REDACT = "tests.web.test_serve.hide"


def hide(name: str, value: object, job: object) -> str:
    return f"{name} is hidden"


@contextmanager
def web(*words: str, url: str, env: dict[str, str] | None = None) -> Iterator[Command]:
    command = saq("web", *words, "--port", "0", url=url) if env is None else _with(env, url, words)
    try:
        yield command
    finally:
        command.close()


def _with(env: dict[str, str], url: str, words: tuple[str, ...]) -> Command:
    return Command("-m", "saq", "web", *words, "--port", "0", env={"SAQ_TEST_URL": url, **env})


async def face_of(command: Command) -> HttpFace:
    said = await command.says(r"The web interface is at http://[\d.]+:\d+/")
    return HttpFace(int(said.rpartition(":")[2].rstrip("/")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_until_it_is_told_to_end(
    redis_url: str, queue: Queue, number: signal.Signals
) -> None:
    await queue.enqueue("f", key="a")
    with web(APP, url=redis_url) as command:
        face = await face_of(command)
        assert (await face.ask("GET", "/")).status == 200
        assert (await face.ask("GET", "/api/queues/default")).json["queue"]["queued"] == 1
        assert (await change(face, "/api/queues/default/jobs/a/abort")).status == 200
        # A stream that is open does not keep it.
        assert b"event: live" in (await face.ask("GET", "/api/events")).body
        command.send(number)
        assert await command.end(5) == 0
        assert "Traceback" not in command.text()
    assert (await queue.info())["workers"] == {}


@pytest.mark.parametrize("verb", ["web", "--web"])
async def test_read_only_and_redacted(redis_url: str, queue: Queue, verb: str) -> None:
    """By itself, and beside a worker."""
    await queue.enqueue("f", key="a", scheduled=time.time() + 3600, password="x")
    command = saq(verb, APP, "--port", "0", "-v", "--read-only", "--redact", REDACT, url=redis_url)
    with contextlib.closing(command):
        face = await face_of(command)
        about = (await face.ask("GET", "/api/about")).json
        assert (about["read_only"], about["redacted"], about["actions"]) == (True, True, [])
        assert (await change(face, "/api/queues/default/pause")).status == 403
        job = (await face.ask("GET", "/api/queues/default/jobs/a")).json["job"]
        assert job["kwargs"] == '"kwargs is hidden"'


async def test_a_password(redis_url: str) -> None:
    env = {"AUTH_PASSWORD": "p", "AUTH_USER": "me"}
    with web(APP, "--host", "0.0.0.0", url=redis_url, env=env) as command:
        said = await command.says(r"The web interface is at http://\S+:\d+/")
        face = HttpFace(int(said.rpartition(":")[2].rstrip("/")))
        assert (await face.ask("GET", "/")).status == 401
        assert (await face.ask("GET", "/", basic("me", "p"))).status == 200


async def test_without_a_password_it_listens_nowhere_else(redis_url: str) -> None:
    with web(APP, "--host", "0.0.0.0", url=redis_url) as command:
        assert await command.end() == 2
        assert "AUTH_PASSWORD" in command.text()
        assert "Traceback" not in command.text()
    with web(APP, "--host", "0.0.0.0", "--insecure", url=redis_url) as command:
        await command.says("The web interface is at")


async def test_it_shows_that_redis_is_away(tmp_path: Path) -> None:
    with web(APP, url="redis://127.0.0.1:1") as command:
        face = await face_of(command)
        assert (await face.ask("GET", "/")).status == 200
        assert (await face.ask("GET", "/api/queues")).status == 503


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.such.settings"], "cannot import"),
        ([APP, "--redact", "no.such.function"], "cannot import 'no.such.function'"),
        ([APP, "--redact", "tests.web.test_serve.REDACT"], "is not a function"),
        ([APP, "--redact", "nothing"], "cannot import 'nothing'"),
    ],
)
def test_what_cannot_be(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAQ_TEST_URL", "redis://127.0.0.1:1")
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], [APP, "--port", "70000"], [APP, "--port", "x"], [APP, "--nonsense"]])
def test_words_that_are_none(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
