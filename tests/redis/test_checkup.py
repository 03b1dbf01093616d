"""What is said of a server whose settings may lose jobs: on servers that are set up that way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from saq.errors import ServerError
from saq.queue.redis import RedisQueue, checkup
from tests.conftest import MakeServer
from tests.worker.support import make_worker, running, until

GOOD = {"appendonly": "yes"}
KEEPS_NOTHING = "appendonly is no: Redis keeps nothing on disk: a restart loses all jobs; set appendonly yes"


@pytest.fixture
async def make_queue() -> AsyncIterator[Callable[[str], RedisQueue]]:
    made: list[RedisQueue] = []

    def make(url: str) -> RedisQueue:
        made.append(RedisQueue.from_url(url))
        return made[-1]

    yield make
    for queue in made:
        await queue.disconnect()


MakeQueue = Callable[[str], RedisQueue]


@pytest.mark.parametrize("kind", ["embedded", "redis62"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (GOOD, []),
        ({}, [KEEPS_NOTHING]),
        ({"save": [60, 1]}, ["appendonly is no: Redis takes snapshots only (save 60 1): "]),
        (GOOD | {"maxmemory": "100mb", "maxmemory-policy": "noeviction"}, []),
        (GOOD | {"maxmemory-policy": "allkeys-lru"}, ["maxmemory-policy is allkeys-lru: "]),
        (GOOD | {"maxmemory-policy": "volatile-ttl"}, ["maxmemory-policy is volatile-ttl: "]),
        ({"maxmemory-policy": "allkeys-random"}, ["set maxmemory-policy noeviction", "set appendonly yes"]),
    ],
    ids=lambda value: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
async def test_what_is_said_of_these_settings(
    kind: str, options: dict[str, Any], says: list[str], make_server: MakeServer, make_queue: MakeQueue
):
    queue = make_queue(make_server(kind, **options).url())
    said = await queue.check()
    assert len(said) == len(says)
    for sentence, expected in zip(said, says, strict=True):
        assert expected in sentence
        assert "; set " in sentence


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        ("+@all -config", ["appendonly is no: a crash may lose jobs; set appendonly yes", "allkeys-lru"]),
        ("+@all -config -info", []),
        ("+@all -@dangerous +client", []),
    ],
)
async def test_a_user_who_may_not_ask_is_told_what_there_is_to_know(
    rights: str, says: list[str], make_server: MakeServer, make_queue: MakeQueue
):
    server = make_server(**{"maxmemory-policy": "allkeys-lru"})
    server.client().execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", *rights.split())
    queue = make_queue(server.url().replace("redis://", "redis://worker:secret@"))
    said = await queue.check()
    assert len(said) == len(says)
    assert all(any(part in sentence for sentence in said) for part in says)


async def test_a_config_command_of_another_name(make_server: MakeServer, make_queue: MakeQueue):
    server = make_server(**{"rename-command": ["CONFIG", "not-for-you"]})
    (said,) = await make_queue(server.url()).check()
    assert said == "appendonly is no: a crash may lose jobs; set appendonly yes"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "saq.checkup"]


async def test_a_worker_says_it_once_and_goes_on(
    redis_url: str, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
):
    async def f(ctx: Any) -> str:
        return "done"

    caplog.set_level(logging.WARNING, "saq.checkup")
    queue = make_queue(redis_url)
    async with running(make_worker(make_queue(redis_url), {"f": f})):
        assert await queue.apply("f", timeout=10) == "done"
    assert warnings(caplog) == [f"The queue default: {KEEPS_NOTHING}"]
    caplog.clear()
    caplog.set_level(logging.ERROR, "saq.checkup")
    worker = make_worker(make_queue(redis_url), {"f": f})
    async with running(worker):
        assert await queue.apply("f", timeout=10) == "done"
    assert warnings(caplog) == []


async def test_an_embedded_server_is_set_up_well(tmp_path: Any, make_queue: MakeQueue):
    assert await make_queue(f"embedded://{tmp_path}").check() == []


async def test_a_server_that_is_too_old_is_an_error_that_says_so(
    redis_url: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkup, "OLDEST", (99, 0))  # there is no older server to be had
    queue = make_queue(redis_url)
    with pytest.raises(ServerError, match=r"is Redis \d+\.\d+\.\d+, and SAQ needs 6\.2 or later, or Valkey"):
        await queue.check()
    worker = make_worker(queue, {})
    with pytest.raises(ServerError, match="SAQ needs"):
        await asyncio.wait_for(worker.start(), 10)


async def test_it_costs_no_round_trip_of_its_own(redis_url: str, make_queue: MakeQueue):
    queue = make_queue(redis_url)
    await queue.connect()
    wire = queue._session.wire
    send, sent = wire.send, list[tuple[str, bool]]()

    def note(*command: Any) -> Any:
        assert wire._pipe is not None
        sent.append((command[0], bool(wire._pipe.waiting)))
        return send(*command)

    wire.send = note  # type: ignore[method-assign]
    async with running(make_worker(queue, {})):
        await until(lambda: len(sent) >= 4)
    first = dict(sent[:3])
    assert first.keys() == {"INFO", "CONFIG", "EVALSHA"}, "that is the registration"
    assert list(first.values()) == [False, True, True], "on their way together"
