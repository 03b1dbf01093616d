"""Metrics, read back by Prometheus' own parsers from real worker processes, and from workers in this one."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from saq import Status, Worker
from saq.observe import metrics
from saq.observe.figures import OF_QUEUES, OF_WORKERS
from saq.observe.meter import BOUNDS, OUTCOMES, UNKNOWN, Histogram
from saq.observe.monitor import Monitor, monitor_of
from saq.observe.server import MOST_REQUESTS, serve
from saq.queue.redis import RedisQueue
from tests.commands.conftest import Start
from tests.commands.test_cli import registered
from tests.conftest import MakeServer
from tests.observe.support import Answer, get
from tests.ports import free_ports
from tests.processes import APP, Command
from tests.worker.conftest import MakeQueue
from tests.worker.support import ended, enqueue, make_worker, running, until

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def nothing(ctx: Any) -> None:
    pass


@pytest.fixture
def port() -> int:
    return free_ports(1)


async def scrape(port: int, accept: str = "") -> Answer:
    answer = await get(f"http://127.0.0.1:{port}/metrics", accept)
    assert answer.status == 200, answer
    return answer


@asynccontextmanager
async def watched(queue: RedisQueue, functions: dict[str, Any], **settings: Any) -> AsyncIterator[Monitor]:
    """A worker in this process, with a monitor."""
    monitor = Monitor(make_worker(queue, functions, **settings))
    async with running(monitor.worker):
        await until(lambda: monitor.watches[0].claimed_at)
        yield monitor


async def counted(port: int, attempts: int, accept: str = "") -> Answer:
    """What is scraped when so many attempts have ended there: a client may hear of an end first."""

    async def all_of_them() -> Answer | None:
        found = await scrape(port, accept)
        return found if sum(found.values("saq_jobs_ended_total").values()) == attempts else None

    found: Answer = await until(all_of_them)
    return found


async def settled(monitor: Monitor, attempts: int) -> None:
    """Waits until so many attempts have ended in this process."""
    cells = monitor.watches[0].meter.cells.values()
    await until(lambda: sum(ending.count for cell in cells for _, ending in cell.endings()) == attempts)


def of_worker(monitor: Monitor) -> Answer:
    """What would be scraped of it."""
    body, content_type = metrics.render(metrics.of_workers([monitor]))
    return Answer(200, content_type, body.decode())


# A worker process -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", OPENMETRICS, "text/plain; version=nonsense", "*/*;q=0.1"])
async def test_a_worker_process_tells_what_it_did(
    start: Start, client: RedisQueue, port: int, accept: str
) -> None:
    start(APP, "--metrics-port", str(port))
    await registered(client, 1)
    for n in range(5):
        assert await client.apply("add", a=n, b=1) == n + 1
    for _ in range(2):
        await ended(client, await enqueue(client, "fail"))
    await ended(client, await enqueue(client, "fail", retries=3))
    waiting = await enqueue(client, "wait", seconds=60)
    await until(lambda: _is(client, waiting.key, Status.ACTIVE))
    later = await enqueue(client, "add", a=1, b=1, scheduled=int(time.time()) + 1000)
    found = await counted(port, 10, accept)

    assert found.content_type.startswith("application/openmetrics" if accept == OPENMETRICS else "text/plain")
    # What this process did.
    assert found.value("saq_jobs_started_total", queue="default", function="add") == 5
    assert found.value("saq_jobs_started_total", queue="default", function="fail") == 5
    assert found.value("saq_jobs_ended_total", function="add", status="complete") == 5
    assert found.value("saq_jobs_ended_total", function="fail", status="failed") == 3
    assert found.value("saq_jobs_ended_total", function="fail", status="retried") == 2
    assert found.value("saq_jobs_ended_total", function="crash", status="complete") == 0
    assert found.value("saq_job_wait_seconds_count", function="fail") == 3
    assert found.value("saq_job_run_seconds_count", function="add", status="complete") == 5
    assert found.value("saq_worker_slots", queue="default") == 10
    assert found.value("saq_worker_slots_busy", queue="default") == 1
    assert found.value("saq_worker_leases_lost_total", queue="default") == 0
    assert time.time() - (found.value("saq_worker_last_claim_timestamp_seconds") or 0) < 20
    lag = found.value("saq_worker_event_loop_lag_seconds")
    assert lag is not None
    assert 0 <= lag < 20
    assert set(found.values("saq_worker_redis_errors_total").values()) == {0.0}
    # The queue as a whole.
    assert found.value("saq_queue_up", queue="default") == 1
    assert found.value("saq_queue_workers", queue="default") == 1
    assert found.value("saq_queue_jobs", state="active") == 1
    assert found.value("saq_queue_jobs", state="scheduled") == 1
    assert found.value("saq_queue_jobs", state="queued") == 0
    assert found.value("saq_queue_kept_jobs", state="failed") == 3
    assert found.value("saq_queue_jobs_enqueued_total") == 10
    assert found.value("saq_queue_jobs_completed_total") == 5
    assert found.value("saq_queue_jobs_failed_total") == 3
    assert found.value("saq_queue_jobs_retried_total") == 2
    assert found.value("saq_queue_jobs_aborted_total") == 0
    assert found.value("saq_queue_jobs_lost_total") == 0
    # And the process itself.
    assert (found.value("process_resident_memory_bytes") or 0) > 1e6

    await client.abort(waiting, "enough")
    await ended(client, waiting)
    await client.abort(later, "enough")
    found = await counted(port, 11, accept)
    assert found.value("saq_jobs_ended_total", function="wait", status="aborted") == 1
    assert found.value("saq_queue_jobs_aborted_total") == 2


async def _is(client: RedisQueue, key: str, status: Status) -> bool:
    job = await client.job(key)
    return job is not None and job.status is status


async def test_each_of_several_processes_has_a_port_of_its_own(start: Start, client: RedisQueue) -> None:
    first = free_ports(2)
    command = start(APP, "--workers", "2", "--metrics-port", str(first))
    await registered(client, 2)
    pids: set[int] = set()
    while len(pids) < 2:
        pids |= set(await client.map("where", [{"seconds": 0.05} for _ in range(20)]))
    done = (await client.views.counts()).stats["complete"]

    async def both() -> list[Answer] | None:
        answers = [await scrape(port) for port in (first, first + 1)]
        parts = [
            answer.value("saq_jobs_ended_total", function="where", status="complete") for answer in answers
        ]
        return answers if all(parts) and sum(part or 0 for part in parts) == done else None

    found = await until(both)
    # What is true of the queue, both say.
    assert [answer.value("saq_queue_jobs_completed_total") for answer in found] == [done, done]
    command.send(signal.SIGTERM)
    assert await command.end() == 0
    with pytest.raises(OSError):
        await scrape(first)


async def test_a_port_that_is_taken_says_so_and_ends(start: Start, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))):
        command = start(APP, "--metrics-port", str(port))
        assert await command.end() == 2
        assert f"saq: the metrics port {port} is taken" in command.text()
        assert "another --metrics-port" in command.text()
        assert "Traceback" not in command.text()


async def test_so_does_that_of_any_of_several_processes(start: Start) -> None:
    first = free_ports(3)
    with closing(socket.create_server(("127.0.0.1", first + 1))):
        command = start(APP, "--workers", "3", "--metrics-port", str(first))
        assert await command.end() == 2
        assert f"saq: the metrics port {first + 1} is taken" in command.text()
        assert command.text().count("is taken") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics-port", "65536"), "is not a port"),
        (("--metrics-port", "-1"), "is not a port"),
        (("--metrics-port", "nine"), "is not a port"),
        (("--workers", "3", "--metrics-port", "65534"), "no port above 65535"),
        (("--metrics-port", "0", "--metrics-host", "no.such.host.invalid"), "no address of this machine"),
        (("--metrics-port", "0", "--metrics-host", "192.0.2.1"), "no address of this machine"),
    ],
)
async def test_what_cannot_be_is_an_error(start: Start, words: tuple[str, ...], said: str) -> None:
    command = start(APP, *words)
    assert await command.end() == 2
    assert said in command.text()
    assert "Traceback" not in command.text()


async def test_any_free_port_is_said(start: Start, client: RedisQueue) -> None:
    command = start(APP, "-v", "--metrics-port", "0")
    address = await command.says(r"(?<=Metrics and health are at )http://127.0.0.1:\d+/")
    await registered(client, 1)
    assert (await get(f"{address}metrics")).value("saq_worker_slots") == 10


async def test_metrics_of_the_users_own_are_there_too(
    redis_url: str, client: RedisQueue, port: int, tmp_path: Any
) -> None:
    env = {"SAQ_TEST_URL": redis_url, "SAQ_TEST_SPANS": str(tmp_path / "spans")}
    with closing(Command("-m", "saq", "tests.observe.app.settings", "--metrics-port", str(port), env=env)):
        await registered(client, 1)
        await client.apply("in_loop")
        assert (await scrape(port)).value("app_letters_total") == 3


async def test_a_killed_worker_counts_as_lost(start: Start, client: RedisQueue, port: int) -> None:
    victim = start(APP, settings={"lease": 0.5})
    await registered(client, 1)
    job = await enqueue(client, "crash", times=1)
    assert await victim.end() == -signal.SIGKILL
    start(APP, "--metrics-port", str(port), settings={"lease": 0.5})
    assert (await ended(client, job, 20)).result == "attempt 2"
    assert (await scrape(port)).value("saq_queue_jobs_lost_total") == 1


# What is counted --------------------------------------------------------------------------------------------


async def test_every_metric_is_there_with_its_kind_and_labels(queue: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}) as monitor:
        await queue.apply("nothing")
        await settled(monitor, 1)
        readings = await metrics.read([queue])
        body, _ = metrics.render(metrics.of_queues(readings), metrics.of_workers([monitor]))
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    figures = {figure.name.removesuffix("_total"): figure for figure in (*OF_QUEUES, *OF_WORKERS)}
    assert set(families) == set(figures)
    for name, figure in figures.items():
        assert families[name].type == figure.kind
        assert families[name].documentation == figure.help
        assert families[name].samples, name
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == set(figure.labels), sample


def test_names_and_labels_are_by_convention() -> None:
    bounded = {"queue", "function", "status", "state", "kind", "version", "python", "speedups"}
    for figure in (*OF_QUEUES, *OF_WORKERS):
        assert figure.name.startswith("saq_")
        assert figure.name.endswith("_total") is (figure.kind == "counter"), figure
        assert figure.kind != "histogram" or figure.name.endswith("_seconds"), figure
        assert not figure.name.endswith(("_ms", "_milliseconds", "_count", "_sum", "_bucket")), figure
        assert set(figure.labels) <= bounded
        assert figure.help.endswith("."), figure


async def test_no_label_grows_with_what_anybody_enqueues(queue: RedisQueue, client: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}) as monitor:
        await client.apply("nothing")
        await enqueue(client, "unknown-0")
        await settled(monitor, 2)
        before = of_worker(monitor).body.count("\n")
        for n in range(1, 30):
            await enqueue(client, f"unknown-{n}", key=f"key-{n}")
        await until(lambda: monitor.watches[0].meter.cells[UNKNOWN].returned.count >= 30)
        found = of_worker(monitor)
        assert found.body.count("\n") == before
        assert (found.value("saq_jobs_started_total", function=UNKNOWN) or 0) >= 30


async def test_a_histogram_adds_up(queue: RedisQueue) -> None:
    async def sleep(ctx: Any, *, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with watched(queue, {"sleep": sleep}) as monitor:
        for seconds in (0.0, 0.03, 0.2):
            await queue.apply("sleep", seconds=seconds)
        await settled(monitor, 3)
        found = of_worker(monitor)
    buckets = found.values("saq_job_run_seconds_bucket", function="sleep", status="complete")
    by_bound = {float(dict(labels)["le"]): count for labels, count in buckets.items()}
    assert sorted(by_bound) == [*BOUNDS, float("inf")]
    assert list(by_bound.values()) == sorted(by_bound.values())
    assert by_bound[0.025] == 1
    assert by_bound[float("inf")] == found.value("saq_job_run_seconds_count", function="sleep") == 3
    # A timer of the loop may be a millisecond early.
    assert 0.227 <= (found.value("saq_job_run_seconds_sum", function="sleep") or 0) < 5


def test_a_duration_lies_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    for position, bound in enumerate(BOUNDS):
        histogram = Histogram()
        histogram.add(bound)
        histogram.add(bound * 1.0001)
        assert (histogram.counts[position], histogram.counts[position + 1]) == (1, 1)
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(1e9)
    assert histogram.counts[0] == histogram.counts[-1] == 1


async def test_a_wait_begins_when_the_job_is_due(queue: RedisQueue, client: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}) as monitor:
        job = await enqueue(client, "nothing", scheduled=time.time() + 0.5)
        await ended(client, job)
        waits = monitor.watches[0].meter.cells["nothing"].waits
        assert sum(waits.counts) == 1
        assert waits.seconds < 0.4


async def test_how_attempts_can_end(queue: RedisQueue, client: RedisQueue) -> None:
    begun = asyncio.Event()

    async def wait(ctx: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    async def fail(ctx: Any) -> None:
        raise ValueError

    async def before(ctx: Any) -> None:
        if ctx["job"].function == "barred":
            raise PermissionError

    functions = {"wait": wait, "fail": fail, "barred": nothing}
    async with watched(queue, functions, before_process=before, lease=0.5) as monitor:
        cells = monitor.watches[0].meter.cells
        await ended(client, await enqueue(client, "fail", retries=2))
        await ended(client, await enqueue(client, "barred"))
        await ended(client, await enqueue(client, "wait", timeout=0.05))
        begun.clear()
        aborted = await enqueue(client, "wait")
        await begun.wait()
        await aborted.abort("enough")
        await ended(client, aborted)
        begun.clear()
        lost = await enqueue(client, "wait", key="lost")
        await begun.wait()
        # As if its lease had run out and a sweep had given the job to another worker.
        await client.redis.delete("saq:{default}:active")
        await until(lambda: monitor.watches[0].meter.lost == 1)
        begun.clear()
        await enqueue(client, "wait", key="returned")
        await begun.wait()
    assert lost.key == "lost"
    counted = {
        (function, outcome): ending.count
        for function, cell in cells.items()
        for outcome, ending in cell.endings()
    }
    assert {ending: count for ending, count in counted.items() if count} == {
        ("fail", "retried"): 1,
        ("fail", "failed"): 1,
        ("barred", "failed"): 1,
        ("wait", "failed"): 1,
        ("wait", "aborted"): 1,
        ("wait", "returned"): 1,
    }
    found = of_worker(monitor)
    assert found.value("saq_worker_leases_lost_total") == 1
    assert found.value("saq_jobs_started_total", function="wait") == 4
    # Its function did not run.
    assert found.value("saq_job_run_seconds_count", function="barred", status="failed") == 0
    assert {outcome for _, outcome in counted} == set(OUTCOMES)


async def test_a_result_that_came_too_late_is_stale(queue: RedisQueue, client: RedisQueue) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(ctx: Any) -> None:
        begun.set()
        await go_on.wait()

    async with watched(queue, {"wait": wait}, lease=60) as monitor:
        await enqueue(client, "wait")
        await begun.wait()
        await client.redis.delete("saq:{default}:active")
        go_on.set()
        await until(lambda: monitor.watches[0].meter.cells["wait"].stale.count == 1)


async def test_what_no_job_does_costs_no_count(queue: RedisQueue, client: RedisQueue) -> None:
    """Jobs that are claimed ahead and given back before they were started are nobody's attempts."""
    async with watched(queue, {"nothing": nothing}, concurrency=2) as monitor:
        await client.map("nothing", [{} for _ in range(500)])
        await settled(monitor, 500)
        cell = monitor.watches[0].meter.cells["nothing"]
        assert cell.started == cell.complete.count == 500
        assert sum(cell.complete.runs.counts) == sum(cell.waits.counts) == 500


async def test_the_report_in_redis_is_as_it_was(queue: RedisQueue, client: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}):
        await client.map("nothing", [{} for _ in range(50)])
    found = await client.views.history(range(int(time.time()) // 3600 - 1, int(time.time()) // 3600 + 1))
    failed, runs = found.functions["nothing"]
    assert failed == 0
    assert sum(runs.values()) == 50


async def test_names_that_are_hard_to_print_arrive(make_queue: MakeQueue) -> None:
    queue = make_queue(name='say "cheese"\n{x}\\')
    async with watched(queue, {'f"\\\n': nothing, "g\ud800": nothing}) as monitor:
        await queue.apply("g\ud800")
        readings = await metrics.read([queue])
        for accept in ("", OPENMETRICS):
            body, kind = metrics.render(
                metrics.of_queues(readings), metrics.of_workers([monitor]), accept=accept
            )
            found = Answer(200, kind, body.decode())
            assert found.value("saq_queue_up", queue=queue.name) == 1
            assert found.value("saq_jobs_started_total", queue=queue.name, function='f"\\\n') == 0
            assert found.value("saq_jobs_started_total", queue=queue.name, function="g\\ud800") == 1


# Redis ------------------------------------------------------------------------------------------------------


async def test_errors_of_redis_are_counted_by_kind(make_server: MakeServer, make_queue: MakeQueue) -> None:
    server = make_server()
    queue = make_queue(server.url())
    async with watched(queue, {"nothing": nothing}) as monitor:
        assert dict(queue.server_errors) == {"connect": 0, "lost": 0, "refused": 0}
        server.kill()
        await until(lambda: queue.server_errors["lost"] and queue.server_errors["connect"])
        found = of_worker(monitor)
        assert (found.value("saq_worker_redis_errors_total", kind="lost") or 0) >= 1
        assert (found.value("saq_worker_redis_errors_total", kind="connect") or 0) >= 1
        body, kind = metrics.render(metrics.of_queues(await metrics.read([queue])))
        away = Answer(200, kind, body.decode())
        assert away.value("saq_queue_up") == 0
        assert away.value("saq_queue_workers") is None
        server.start()
        server.client().config_set("maxmemory", 1)
        with pytest.raises(Exception, match="OOM"):
            await queue.enqueue("nothing")
        assert queue.server_errors["refused"] >= 1


async def test_what_is_no_error_does_not_count(client: RedisQueue) -> None:
    await client.enqueue("nothing")
    await client.redis.script_flush()
    await client.enqueue("nothing")  # NOSCRIPT, and once more
    job = await client.dequeue()
    assert job is not None
    assert await client.dequeue(0.05) is not None
    assert await client.dequeue(0.05) is None  # its wait was ended on purpose
    await client.disconnect()
    assert dict(client.server_errors) == {"connect": 0, "lost": 0, "refused": 0}


async def test_the_oldest_job_has_an_age(client: RedisQueue) -> None:
    await client.enqueue("nothing")
    await client.pause()

    async def age() -> float:
        body, kind = metrics.render(metrics.of_queues(await metrics.read([client])))
        found = Answer(200, kind, body.decode())
        assert found.value("saq_queue_paused") == 1
        assert found.value("saq_queue_jobs", state="queued") == 1
        return found.value("saq_queue_oldest_job_age_seconds") or 0

    async def old() -> bool:
        return await age() >= 0.05

    await until(old)


# The port ---------------------------------------------------------------------------------------------------


async def test_what_is_served_is_found_and_nothing_else(queue: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}) as monitor, serve(monitor, 0) as address:
        assert monitor.served
        assert (await get(f"{address}metrics?name[]=x")).status == 200
        for path in ("", "metrics/", "api/queues", "../etc/passwd"):
            answer = await get(f"{address}{path}")
            assert (answer.status, answer.body) == (404, "There are /metrics, /ready and /health.")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.split(":")[-1].strip("/")))
        writer.write(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        head = (await reader.read()).decode()
        assert "200 OK" in head
        assert head.endswith("\r\n\r\n")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.split(":")[-1].strip("/")))
        writer.write(b"POST /metrics HTTP/1.0\r\n\r\n")
        assert b" 501 " in await reader.read()
        writer.close()
    assert not monitor.served


async def test_clients_that_say_nothing_do_not_keep_others_out_for_long(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saq.observe.server._Handler.timeout", 0.3)
    async with watched(queue, {"nothing": nothing}) as monitor, serve(monitor, 0) as address:
        port = int(address.split(":")[-1].strip("/"))
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_REQUESTS)]

        async def answered() -> bool:
            try:
                return (await get(f"{address}health")).status == 200
            except OSError:
                return False

        await until(answered)
        for _, writer in silent:
            writer.close()


async def test_ipv6_is_an_address_like_any_other(queue: RedisQueue) -> None:
    async with watched(queue, {"nothing": nothing}) as monitor, serve(monitor, 0, "::1") as address:
        assert address.startswith("http://[::1]:")
        assert (await get(f"{address}health")).status == 200


async def test_a_monitor_is_found_by_its_queue_as_long_as_there_is_one(make_queue: MakeQueue) -> None:
    queue = make_queue()
    assert monitor_of(queue) is None
    monitor = Monitor(make_worker(queue, {"nothing": nothing}))
    assert monitor_of(queue) is monitor
    assert monitor_of(make_queue()) is None


# Several queues ---------------------------------------------------------------------------------------------


async def test_a_worker_of_several_queues_tells_of_each(make_queue: MakeQueue) -> None:
    one, other = make_queue(name="one"), make_queue(name="other")
    worker: Worker[Any] = Worker(queues=[one, other], functions=[("nothing", nothing)])
    worker.SIGNALS = []  # type: ignore[misc]
    monitor = Monitor(worker)
    assert monitor_of(one) is monitor_of(other) is monitor
    async with running(worker):
        await one.map("nothing", [{}] * 3)
        await other.apply("nothing")
        await until(lambda: [w.meter.cells["nothing"].complete.count for w in monitor.watches] == [3, 1])
        found = of_worker(monitor)
        assert found.value("saq_jobs_started_total", queue="one", function="nothing") == 3
        assert found.value("saq_jobs_started_total", queue="other", function="nothing") == 1
        assert found.value("saq_job_run_seconds_count", queue="other") == 1
        assert all(found.values("saq_worker_last_claim_timestamp_seconds").values())
        assert len(found.values("saq_worker_last_claim_timestamp_seconds")) == 2
        assert found.value("saq_worker_slots") == 10
