"""/health and /ready: on the port of a real worker process, and as the views of the web interface."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from saq import Status
from saq.observe import health
from saq.observe.monitor import Monitor
from saq.observe.server import serve
from saq.queue.redis import RedisQueue
from saq.web.app import WebApp
from saq.web.http import Request
from tests.commands.conftest import Start
from tests.commands.test_cli import registered
from tests.conftest import MakeServer
from tests.observe.support import Answer, get
from tests.ports import free_ports
from tests.processes import APP, ROOT
from tests.worker.conftest import MakeQueue
from tests.worker.support import enqueue, make_worker, running, until


async def nothing(ctx: Any) -> None:
    pass


@pytest.fixture
def port() -> int:
    return free_ports(1)


async def answered(port: int, path: str) -> Answer | None:
    """What it answers, or None while nobody listens."""
    try:
        return await get(f"http://127.0.0.1:{port}/{path}")
    except OSError:
        return None


async def becomes_ready(port: int) -> Answer:
    async def ready() -> Answer | None:
        answer = await answered(port, "ready")
        return answer if answer is not None and answer.status == 200 else None

    found: Answer = await until(ready, timeout=20)
    return found


async def fails(port: int, check: str) -> Answer:
    """Waits until it is not ready for this reason."""

    async def failing() -> Answer | None:
        answer = await answered(port, "ready")
        return answer if answer is not None and check in answer.json["failing"] else None

    found: Answer = await until(failing, timeout=20)
    assert found.status == 503
    assert found.json["ready"] is False
    assert found.json["checks"][check]["ok"] is False
    return found


# A worker process -------------------------------------------------------------------------------------------


async def test_a_worker_that_works_is_ready(start: Start, client: RedisQueue, port: int) -> None:
    start(APP, "--metrics-port", str(port))
    found = await becomes_ready(port)
    assert found.content_type.startswith("application/json")
    assert found.json["failing"] == []
    checks = found.json["checks"]
    assert set(checks) == {"worker", "claim", "loop", "server"}
    assert checks["worker"] == {"ok": True, "state": "working"}
    assert 0 <= checks["claim"]["age_seconds"] < checks["claim"]["limit_seconds"]
    assert checks["server"] == {"ok": True, "queues": {"default": True}}
    health_answer = await answered(port, "health")
    assert health_answer is not None
    assert (health_answer.status, health_answer.body) == (200, "OK")
    # `--check` asks the same of the queue as a whole.
    check = start(APP, "--check")
    assert await check.end() == 0


async def test_a_blocked_event_loop_is_seen_while_it_is_blocked(
    start: Start, client: RedisQueue, port: int
) -> None:
    start(APP, "--metrics-port", str(port))
    await becomes_ready(port)
    await enqueue(client, "freeze", seconds=health.LAG_LIMIT + 4)
    found = await fails(port, "loop")
    assert found.json["checks"]["loop"]["lag_seconds"] >= health.LAG_LIMIT
    assert "blocked" in found.json["checks"]["server"]["reason"]
    assert str(os.getpid()) not in found.body
    # The process lives, and what it knows by itself it still says.
    alive = await answered(port, "health")
    assert alive is not None
    assert alive.status == 200
    metrics = await answered(port, "metrics")
    assert metrics is not None
    assert (metrics.value("saq_worker_event_loop_lag_seconds") or 0) >= health.LAG_LIMIT
    assert metrics.value("saq_worker_slots_busy") == 1
    assert metrics.value("saq_jobs_started_total", function="freeze") == 1
    assert metrics.value("saq_queue_up") == 0
    await becomes_ready(port)


async def test_a_server_that_is_away_is_no_reason_for_a_new_process(
    start: Start, make_server: MakeServer, port: int
) -> None:
    server = make_server()
    start(APP, "--metrics-port", str(port), url=server.url())
    await becomes_ready(port)
    server.kill()
    found = await fails(port, "server")
    assert found.json["checks"]["server"]["queues"] == {"default": False}
    # Nobody learns from it where the server is.
    assert str(server.port) not in found.body
    alive = await answered(port, "health")
    assert alive is not None
    assert alive.status == 200
    server.start()
    await becomes_ready(port)


async def test_a_server_that_does_not_answer_is_away(
    start: Start, make_server: MakeServer, port: int
) -> None:
    server = make_server()
    start(APP, "--metrics-port", str(port), url=server.url())
    await becomes_ready(port)
    server.pause()
    await fails(port, "server")
    server.resume()
    await becomes_ready(port)


async def test_a_worker_that_stops_is_not_ready_and_lives(
    start: Start, client: RedisQueue, port: int
) -> None:
    command = start(APP, "--metrics-port", str(port), settings={"shutdown_grace_period_s": 30})
    await becomes_ready(port)
    job = await enqueue(client, "wait", seconds=60)
    await until(lambda: _active(client, job.key))
    command.send(signal.SIGTERM)
    found = await fails(port, "worker")
    assert found.json["checks"]["worker"]["state"] == "stopping"
    alive = await answered(port, "health")
    assert alive is not None
    assert alive.status == 200
    command.send(signal.SIGTERM)
    assert await command.end() == 0


async def _active(client: RedisQueue, key: str) -> bool:
    job = await client.job(key)
    return job is not None and job.status is Status.ACTIVE


async def test_a_full_worker_is_ready(start: Start, client: RedisQueue, port: int) -> None:
    start(APP, "--metrics-port", str(port), settings={"concurrency": 1})
    await becomes_ready(port)
    job = await enqueue(client, "wait", seconds=60)
    await until(lambda: _active(client, job.key))
    found = await becomes_ready(port)
    assert found.json["checks"]["claim"]["reason"] == "all slots are taken"


async def test_check_says_whether_anybody_works(start: Start, client: RedisQueue) -> None:
    assert await start(APP, "--check").end() == 1
    start(APP)
    await registered(client, 1)
    assert await start(APP, "--check").end() == 0


# What is judged ---------------------------------------------------------------------------------------------


async def test_before_it_has_begun_it_is_not_ready(queue: RedisQueue) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def startup(ctx: Any) -> None:
        begun.set()
        await go_on.wait()

    monitor = Monitor(make_worker(queue, {"nothing": nothing}, startup=startup))
    async with serve(monitor, 0) as address, running(monitor.worker):
        await begun.wait()
        found = await get(f"{address}ready")
        assert found.status == 503
        assert set(found.json["failing"]) >= {"worker", "claim"}
        assert found.json["checks"]["worker"]["state"] == "waiting"
        go_on.set()
        await until(lambda: monitor.since_claim is not None)
        assert (await get(f"{address}ready")).status == 200
    assert not health.readiness({"default": True}, monitor).ready


async def test_a_claim_that_is_long_ago_is_not_recent(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor(make_worker(queue, {"nothing": nothing}, concurrency=2))
    reached = {"default": True}
    async with running(monitor.worker):
        await until(lambda: monitor.since_claim is not None)
        assert health.readiness(reached, monitor).ready
        monkeypatch.setattr(health, "CLAIM_LIMIT", 0.0)
        found = health.readiness(reached, monitor)
        assert [name for name, check in found.checks.items() if not check["ok"]] == ["claim"]
        await queue.views.quiet(monitor.worker.id, 60)
        await until(lambda: monitor.worker.quiet)
        found = health.readiness(reached, monitor)
        assert found.ready
        assert found.checks["claim"]["reason"] == "it was asked to take no jobs"


async def test_an_idle_worker_stays_ready(queue: RedisQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for work in time, although there is none, and also on a queue that is paused."""
    worker = make_worker(queue, {"nothing": nothing}, lease=0.6)  # so it looks every 0.1 s
    monkeypatch.setattr(health, "CLAIM_LIMIT", 3.0)
    monitor = Monitor(worker)
    async with running(worker):
        for change in (None, queue.pause):
            if change is not None:
                await change()
            began = monitor.watches[0].claimed_at
            await until(lambda began=began: monitor.watches[0].claimed_at > began)  # type: ignore[misc]
            began = monitor.watches[0].claimed_at
            await until(lambda began=began: monitor.watches[0].claimed_at > began)  # type: ignore[misc]
            assert health.readiness({"default": True}, monitor).ready


async def test_a_loop_that_is_dead_needs_a_new_process(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor(make_worker(queue, {"nothing": nothing}))
    assert health.alive(monitor)
    async with running(monitor.worker), serve(monitor, 0) as address:
        await until(lambda: monitor.since_claim is not None)
        assert (await get(f"{address}health")).status == 200
        monkeypatch.setattr(health, "DEAD_LIMIT", -1.0)
        found = await get(f"{address}health")
        assert (found.status, found.body) == (503, "the event loop is dead")
    assert health.alive(monitor)  # what has stopped is not dead


async def test_a_worker_can_be_started_again(queue: RedisQueue, client: RedisQueue) -> None:
    monitor = Monitor(make_worker(queue, {"nothing": nothing}))
    for _ in range(2):
        async with running(monitor.worker):
            await until(lambda: monitor.since_claim is not None)
            await client.apply("nothing")
            assert health.readiness({}, monitor).ready
        assert not health.readiness({}, monitor).ready
    assert monitor.watches[0].meter.cells["nothing"].started == 2


async def test_nobody_watches_unless_asked(queue: RedisQueue, client: RedisQueue) -> None:
    worker = make_worker(queue, {"nothing": nothing})
    async with running(worker):
        await client.apply("nothing")
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "saq-beat" not in names
        assert "saq-registration" in names
        job = await client.job((await enqueue(client, "nothing")).key)
        assert job is not None
    Monitor(worker)
    async with running(worker):
        await client.apply("nothing")
        assert "saq-beat" in {task.get_name() for task in asyncio.all_tasks()}


# The web interface ------------------------------------------------------------------------------------------
# Its routes are tested with all others in tests/web; here it is what they answer.


async def ask(path: str, *queues: RedisQueue, accept: str = "") -> Answer:
    """What a web interface of these queues answers."""
    app = WebApp(queues)
    response = await app.handle(Request("GET", path.encode(), {"accept": accept}))
    await app.close()
    return Answer(response.status, response.headers["Content-Type"], response.body.decode())


async def test_the_web_interface_is_ready_if_its_servers_are(
    client: RedisQueue, make_queue: MakeQueue, make_server: MakeServer
) -> None:
    server = make_server()
    other = make_queue(server.url(), name="other")
    found = await ask("/ready", client, other)
    assert (found.status, found.json["checks"]) == (
        200,
        {"server": {"ok": True, "queues": {"default": True, "other": True}}},
    )
    server.kill()
    found = await ask("/ready", client, other)
    assert found.status == 503
    assert found.json == {
        "ready": False,
        "failing": ["server"],
        "checks": {"server": {"ok": False, "queues": {"default": True, "other": False}}},
    }


async def test_beside_a_worker_it_asks_for_that_as_well(queue: RedisQueue) -> None:
    monitor = Monitor(make_worker(queue, {"nothing": nothing}))
    found = await ask("/ready", queue)
    assert (found.status, found.json["failing"]) == (503, ["worker", "claim"])
    async with running(monitor.worker):
        await until(lambda: monitor.since_claim is not None)
        found = await ask("/ready", queue)
        assert found.status == 200
        assert set(found.json["checks"]) == {"worker", "claim", "loop", "server"}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
async def test_its_metrics_are_those_of_the_queues_and_of_workers_without_a_port(
    queue: RedisQueue, client: RedisQueue, make_queue: MakeQueue, accept: str
) -> None:
    other = make_queue(name="other")
    await other.enqueue("nothing")
    found = await ask("/metrics", client, other, accept=accept)
    assert found.status == 200
    assert ("openmetrics" in found.content_type) is bool(accept)
    assert found.value("saq_queue_jobs", queue="default", state="queued") == 0
    assert found.value("saq_queue_jobs", queue="other", state="queued") == 1
    assert found.values("saq_worker_slots") == {}
    monitor = Monitor(make_worker(queue, {"nothing": nothing}))
    async with running(monitor.worker):
        await client.apply("nothing")
        found = await ask("/metrics", queue, other, accept=accept)
        assert found.value("saq_jobs_started_total", function="nothing") == 1
        assert found.value("saq_worker_slots", queue="default") == 10
        async with serve(monitor, 0):
            found = await ask("/metrics", queue, other, accept=accept)
            assert found.values("saq_worker_slots") == {}
            assert found.value("saq_queue_jobs_completed_total", queue="default") == 1


async def test_a_server_that_is_away_is_no_error_of_its_metrics(
    make_queue: MakeQueue, make_server: MakeServer
) -> None:
    server = make_server()
    queue = make_queue(server.url())
    server.kill()
    found = await ask("/metrics", queue)
    assert found.status == 200
    assert found.value("saq_queue_up", queue="default") == 0
    assert found.values("saq_queue_workers") == {}


WITHOUT_THE_LIBRARY = """
import sys
sys.modules["prometheus_client"] = None
"""


def test_without_the_library_the_page_of_metrics_says_what_is_missing() -> None:
    code = f"""{WITHOUT_THE_LIBRARY}
import asyncio
from saq.web.app import WebApp
from saq.web.http import Request
for path in (b"/ready", b"/metrics"):
    response = asyncio.run(WebApp([]).handle(Request("GET", path)))
    print(response.status, response.body.decode() if response.status != 200 else "")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    said, problem = done.stdout.splitlines()
    assert said == "200 "
    assert problem.startswith("501 ")
    assert json.loads(problem.removeprefix("501 "))["message"] == (
        'This needs prometheus-client on the server: pip install "saq[metrics]".'
    )


@pytest.mark.parametrize("words", [[], ["--workers", "2"]])
def test_without_the_library_a_metrics_port_is_an_error(words: list[str], redis_url: str) -> None:
    arguments = [APP, "--metrics-port", "0", *words]
    code = f"{WITHOUT_THE_LIBRARY}\nfrom saq.cli import main\nsys.exit(main({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SAQ_TEST_URL": redis_url},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        1,
        'saq: metrics need prometheus-client: pip install "saq[metrics]"\n',
    )


def test_what_ready_says_is_plain_json() -> None:
    found = health.readiness(None).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["failing"] == ["server"]
