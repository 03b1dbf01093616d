"""Log lines: the fields they carry, both formats, and what they must not give away."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from saq.logs import FIELDS, JsonFormatter, TextFormatter, hide_secrets
from saq.queue.redis import RedisQueue
from tests.processes import APP, Command, saq
from tests.worker.support import ended, enqueue, make_worker, running, until


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisQueue]:
    queue = RedisQueue.from_url(redis_url)
    yield queue
    await queue.disconnect()


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[RedisQueue]:
    queue = RedisQueue.from_url(redis_url, name="mails")
    yield queue
    await queue.disconnect()


def said(formatter: logging.Formatter, write: Callable[[logging.Logger], None]) -> str:
    """What a logger writes with this formatter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("saq.tested", logging.DEBUG)
    logger.addHandler(handler)
    write(logger)
    return stream.getvalue()


# Fields ----------------------------------------------------------------------------------------------------


async def test_records_of_a_job_carry_what_it_is_about(
    queue: RedisQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saq")

    async def flaky(ctx: Any) -> None:
        if ctx["job"].attempts == 1:
            raise ValueError("once")

    async with running(make_worker(queue, {"flaky": flaky}, id="w1")):
        await ended(queue, await enqueue(queue, "flaky", key="the-key", retries=2))
        await until(lambda: "Finished" in caplog.text)
    records: list[Any] = [record for record in caplog.records if hasattr(record, "job_key")]
    assert [(r.msg.split()[0], r.attempt, getattr(r, "status", None)) for r in records] == [
        ("Processing", 1, None),
        ("Error", 1, None),
        ("Retrying", 1, "queued"),
        ("Processing", 2, None),
        ("Finished", 2, "complete"),
    ]
    for record in records:
        about = (record.job_key, record.function, record.queue, record.worker_id)
        assert about == ("the-key", "flaky", "mails", "w1")
    assert records[1].error == "ValueError: once"
    assert 0 <= records[-1].duration_ms < 5000
    assert {name for record in records for name in FIELDS if hasattr(record, name)} == set(FIELDS)
    starts = [r for r in caplog.records if r.getMessage().startswith("Worker w1")]
    assert starts
    assert {(r.worker_id, r.queue) for r in starts} == {("w1", "mails")}  # type: ignore[attr-defined]


async def test_a_level_that_is_off_makes_nothing_of_a_job(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its description nor its fields: a job that goes well costs the log nothing."""
    made: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        def make(*_: object) -> dict[str, Any]:
            made.append(name)
            return {}

        return make

    logging.getLogger("saq").setLevel(logging.WARNING)
    try:
        monkeypatch.setattr("saq.job.Job.info", note("info"))
        monkeypatch.setattr("saq.worker.runner.job_fields", note("fields"))
        async with running(make_worker(queue, {"nothing": _nothing})):
            await queue.map("nothing", [{}] * 20, timeout=10)
        assert made == []
    finally:
        logging.getLogger("saq").setLevel(logging.NOTSET)


async def _nothing(ctx: Any) -> None:
    pass


# Formats ---------------------------------------------------------------------------------------------------


async def test_log_format_json_is_one_object_a_line(client: RedisQueue, redis_url: str) -> None:
    with closing(saq(APP, "-v", "--log-format", "json", url=redis_url)) as worker:
        await ended(client, await enqueue(client, "add", a=1, b=2, key="good"))
        await ended(client, await enqueue(client, "fail", key="bad\nINFO forged"))
        await worker.says('"status": "failed"')
        lines = [json.loads(line) for line in worker.text().splitlines()]
    by_key = [(line["message"].split()[0], line["job_key"]) for line in lines if "job_key" in line]
    assert by_key == [
        ("Processing", "good"),
        ("Finished", "good"),
        ("Processing", "bad\nINFO forged"),
        ("Error", "bad\nINFO forged"),
        ("Finished", "bad\nINFO forged"),
    ]
    for line in lines:
        assert {"time", "level", "logger", "message", "process"} <= line.keys()
        assert line["time"].endswith("+00:00")
        assert line["logger"] == "saq"
    (error,) = [line for line in lines if line["level"] == "ERROR"]
    assert error["error"] == "ValueError: as it was told"
    assert "Traceback (most recent call last)" in error["message"]


async def test_a_fleet_logs_json_as_well(client: RedisQueue, redis_url: str) -> None:
    with closing(saq(APP, "-v", "--log-format", "json", "--workers", "2", url=redis_url)) as parent:
        await ended(client, await enqueue(client, "add", a=1, b=2, key="good"))
        await parent.says('"status": "complete"')
        lines = [json.loads(line) for line in parent.text().splitlines()]
    assert {line["process"] for line in lines} > {parent.pid}


def test_json_takes_what_others_give_and_what_json_cannot_say() -> None:
    def write(logger: logging.Logger) -> None:
        try:
            raise KeyError("gone\n")
        except KeyError:
            logger.exception("no %s", "luck", extra={"mine": {1, 2}, "url": "amqp://me:secret@host/"})

    text = said(JsonFormatter(), write)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["message"], line["mine"], line["url"]) == ("no luck", "{1, 2}", "amqp://me:***@host/")
    assert line["exception"].endswith("KeyError: 'gone\\n'")


def test_text_is_one_line_an_event_and_the_rest_indented() -> None:
    text = said(TextFormatter(), lambda log: log.info("done %s", "key\n2030-01-01 INFO forged\r\x1b[2J\tx"))
    first, second = text.splitlines()
    assert first.endswith(" INFO    done key")
    assert second == "    2030-01-01 INFO forged\\r\\x1b[2J\tx"


def test_what_was_configured_already_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import logging\n"
        "from saq import logs\n"
        "logging.basicConfig(format='mine %(message)s')\n"
        "logs.configure(2, 'json')\n"
        "logging.getLogger('saq').warning('hello')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr == "mine hello\n"


# Secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("redis://me:secret@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("at rediss://me:se@cr:et@host/1, or", "at rediss://me:***@host/1, or"),
        ("a://b:secret@c and d://e:secret@f", "a://b:***@c and d://e:***@f"),
        ("'postgres://u:secret@h/db'", "'postgres://u:***@h/db'"),
        ("https://h/?token=secret&x=1", "https://h/?token=***&x=1"),
        ("redis://h?username=u&password=secret", "redis://h?username=u&password=***"),
        ("https://h/a?API_KEY=secret#there", "https://h/a?API_KEY=***#there"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("mail me@host: 5:4", "mail me@host: 5:4"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("", ""),
    ],
)
def test_secrets_in_urls_are_hidden(text: str, hidden: str) -> None:
    assert hide_secrets(text) == hidden


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_reaches_the_log(form: str, client: RedisQueue, redis_url: str) -> None:
    with closing(saq(APP, "-vv", "--log-format", form, url=redis_url)) as worker:
        url = "postgres://me:hunter2@db/x"
        job = await enqueue(client, "add", kwargs={"a": url, "b": [url]}, key=f"copy {url}")
        await ended(client, job)
        await worker.says("Finished")
        assert "postgres://me:***@db/x" in worker.text()
        assert "hunter2" not in worker.text()


async def test_no_secret_is_said_of_settings_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "from saq import Queue\nsettings = {'queue': Queue.from_url('reddis://me:hunter2@host')}\n"
    )
    for words in (["conf.settings"], ["info", "conf.settings"], ["repair", "conf.settings"]):
        with closing(Command("-m", "saq", *words, cwd=tmp_path)) as command:
            assert await command.end() == 2
            assert "no backend goes by the URL" in command.text()
            assert "hunter2" not in command.text()
