"""What is hidden is not shown, not found by a search, and not in an error either."""

from __future__ import annotations

from typing import Any

import pytest

from saq import Job, Queue, Status
from saq.web import redact
from saq.web.present import LONG, Presenter
from tests.web.faces import served
from tests.web.test_api import claim

JOB = Job("f", key="k")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"user": "ann", "password": "x"}, {"user": "ann", "password": "(hidden)"}),
        (
            {"API_KEY": 1, "apiKey": 2, "api-key": 3},
            dict.fromkeys(("API_KEY", "apiKey", "api-key"), "(hidden)"),
        ),
        ([{"auth": {"X-Auth-Token": ["x"]}}], [{"auth": {"X-Auth-Token": "(hidden)"}}]),
        ({1: {"secret": "x"}}, {1: {"secret": "(hidden)"}}),
        ("redis://me:pw@host/0", "redis://(hidden)@host/0"),
        ("token=abc&page=2", "token=(hidden)&page=2"),
        ("Authorization: Bearer abc.def", "Authorization: (hidden)"),
        ("{'password': 'a b', 'n': 1}", "{'password': (hidden), 'n': 1}"),
        ("keyboard, monkey, tokyo", "keyboard, monkey, tokyo"),
        (12, 12),
        (None, None),
    ],
)
def test_secrets(given: Any, shown: Any) -> None:
    assert redact.secrets("kwargs", given, JOB) == shown


def test_secrets_are_hidden_however_deep() -> None:
    value: Any = {"password": "x"}
    for _ in range(100):
        value = [value]
    assert "x" not in str(redact.secrets("kwargs", value, JOB)).replace("(hidden)", "")


def test_everything() -> None:
    assert redact.everything("kwargs", {"n": 1}, JOB) == "(hidden)"
    assert redact.everything("error", "Traceback\nValueError: 4711", JOB) == "ValueError: (hidden)"
    assert redact.everything("error", "4711 is wrong", JOB) == "(hidden)"


def test_a_hook_that_fails_hides(caplog: pytest.LogCaptureFixture) -> None:
    def fail(name: str, value: Any, job: Job) -> Any:
        raise RuntimeError(value)

    job = Job("f", {"password": "hunter2"}, key="k", error="hunter2", result="hunter2", meta={"a": "hunter2"})
    shown = Presenter(fail).job(job, LONG)
    assert "hunter2" not in str(shown)
    assert "redact failed for kwargs" in caplog.text


async def test_what_is_hidden_is_nowhere(queue: Queue, worker: Queue) -> None:
    for n in range(2):
        await queue.enqueue("f", key=f"k{n}", password="hunter2", retries=2, meta={"token": "hunter2"})
        job = await claim(worker)
        await worker.retry(job, "Traceback\nValueError: password=hunter2")
        await worker.finish(
            await claim(worker), Status.FAILED, error="Traceback\nValueError: password=hunter2"
        )
    await queue.enqueue("f", key="waits", password="hunter2")
    async with served([queue], redact=redact.secrets) as face:
        for path in (
            "/api/queues/default",
            "/api/queues/default/jobs",
            "/api/queues/default/jobs?state=failed",
            "/api/queues/default/jobs/k0",
            "/api/queues/default/failures",
        ):
            reply = await face.ask("GET", path)
            assert reply.status == 200
            assert b"hunter2" not in reply.body, path
        for state in ("failed", "queued"):
            found = (await face.ask("GET", f"/api/queues/default/jobs?state={state}&text=hunter2")).json
            assert found["jobs"] == []
        assert (await face.ask("GET", "/api/queues/default/jobs?text=password")).json["jobs"] != []
