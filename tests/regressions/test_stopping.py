"""Workers that stopped, and servers that were away."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from saq import Status
from saq.queue.redis import RedisQueue
from tests.conftest import MakeServer
from tests.worker.conftest import MakeQueue, Work
from tests.worker.support import ended, enqueue, idle, make_worker, running, took


async def test_a_job_whose_hooks_run_when_the_worker_stops_is_run_by_the_next(
    make_queue: MakeQueue, client: RedisQueue
) -> None:
    """A job that was claimed and had not begun was left behind: it was swept a minute later, or failed."""
    hook, ran = asyncio.Event(), 0

    async def wait(ctx: Any) -> None:
        hook.set()
        await asyncio.Event().wait()

    async def count(ctx: Any) -> int:
        nonlocal ran
        ran += 1
        return ran

    async with running(make_worker(make_queue(), {"count": count}, before_process=wait)):
        job = await enqueue(client, "count")
        await hook.wait()
    await job.refresh()
    assert (job.status, job.error, ran) == (Status.QUEUED, "cancelled", 0)
    async with running(make_worker(make_queue(), {"count": count})), took(at_most=2.0):
        assert (await ended(client, job)).result == 1


async def test_a_server_that_is_away_is_asked_calmly_and_that_is_said_once(
    make_server: MakeServer, make_queue: MakeQueue, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Each slot of a worker asked again at once, as often as it could, and said nothing at all."""
    server = make_server()
    queue, client = make_queue(server.url()), make_queue(server.url())
    tries = 0

    def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.transport.abort()

    async def nothing(ctx: Any) -> str:
        return "well"

    await work({"nothing": nothing}, queue=queue, concurrency=50)
    await idle(client)
    caplog.set_level(logging.INFO, "saq")
    caplog.clear()
    server.kill()
    async with await asyncio.start_server(refuse, "127.0.0.1", server.port):
        await asyncio.sleep(2.0)  # time itself is the subject
    assert 4 <= tries <= 60
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(said) <= 6, said
    server.start()
    assert await client.apply("nothing", timeout=10) == "well"
