"""Several worker processes under one parent: signals, deaths, limits, replacement, with real processes."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from saq import Job, Status
from saq.queue.redis import RedisQueue
from tests.commands.conftest import Start
from tests.conftest import MakeServer
from tests.ports import free_port
from tests.processes import APP, Command
from tests.worker.support import ended, enqueue, took, until


async def registered(client: RedisQueue, count: int) -> set[str]:
    """Waits for so many registrations; the names."""
    found: set[str] = set()

    async def there() -> bool:
        found.clear()
        found.update((await client.info())["workers"])
        return len(found) == count

    await until(there, timeout=30)
    return found


async def pids(client: RedisQueue) -> dict[int, str]:
    """The processes of the registered workers, and the names of these."""
    view = await client.views.workers()
    return {worker.about["pid"]: worker.id for worker in view.workers if worker.about}


async def known(client: RedisQueue, count: int) -> dict[int, str]:
    """Waits until so many workers have said which process they are."""
    found: dict[int, str] = {}

    async def there() -> bool:
        found.clear()
        found.update(await pids(client))
        return len(found) == count

    await until(there, timeout=30)
    return found


async def is_queued(client: RedisQueue) -> bool:
    """Whether a job waits, and none runs. A claim that was under way brings it, and it is given back."""
    return (await client.count("queued"), await client.count("active")) == (1, 0)


async def stopped(parent: Command, at_most: float = 8.0, code: int = 0) -> None:
    """Tells it to stop, and waits for its end."""
    parent.send(signal.SIGTERM)
    async with took(at_most=at_most):
        assert await parent.end(timeout=at_most) == code, parent.text()
    assert "Traceback" not in parent.text()


# Deaths ----------------------------------------------------------------------------------------------------


async def test_the_registration_of_a_child_that_was_killed_is_taken_away(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--workers", "2", "-v")
    before = await known(client, 2)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)

    async def gone() -> bool:
        return before[victim] not in (await client.info())["workers"]

    # Long before it runs out, which takes 30 s.
    await until(gone, timeout=10)
    after = await known(client, 2)
    assert victim not in after
    await parent.says(r"Worker process \d+ died \(killed by SIGKILL\) and is replaced in 0\.\d s")
    await stopped(parent)
    assert (await client.info())["workers"] == {}


async def test_without_any_worker_that_works_deaths_at_the_start_are_given_up(
    start: Start, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "import os, multiprocessing\n"
        "from saq import Queue\n"
        "if multiprocessing.parent_process() is not None: os._exit(9)\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': []}}\n"
    )
    parent = start("conf.settings", "--workers", "2", cwd=tmp_path)
    async with took(at_most=20.0):
        assert await parent.end(timeout=20) == 1
    assert "Worker processes die as they start (3 in a row, the last with exit code 9): giving up" in (
        parent.text()
    )


async def test_why_workers_cannot_start_is_said_once(
    start: Start, make_server: Callable[..., object]
) -> None:
    parent = start(APP, "--workers", "3", url="redis://user:secret@127.0.0.1:1")
    async with took(at_most=20.0):
        assert await parent.end(timeout=20) == 1
    assert parent.text().count("cannot reach Redis at") == 1
    assert "giving up" in parent.text()
    assert "secret" not in parent.text()


async def test_a_worker_that_dies_while_others_work_is_tried_again_and_again(
    client: RedisQueue, start: Start, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "import os, multiprocessing\n"
        "from saq import Queue\n"
        "async def where(ctx): return os.getpid()\n"
        "if multiprocessing.parent_process() is not None and os.path.exists('broken'): os._exit(9)\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [where]}}\n"
    )
    parent = start("conf.settings", "--workers", "2", cwd=tmp_path)
    before = await known(client, 2)
    (tmp_path / "broken").touch()
    os.kill(min(before), signal.SIGKILL)
    # More than would be given up, if none worked.
    await until(lambda: parent.text().count("exit code 9") >= 4, timeout=30)
    assert await client.apply("where", timeout=10) == max(before)
    (tmp_path / "broken").unlink()
    await known(client, 2)
    await stopped(parent)


async def test_a_death_is_seen_though_a_child_of_the_worker_lives_on(
    client: RedisQueue, start: Start, tmp_path: Path, redis_url: str
) -> None:
    """It holds open what its parent inherited: the pipe whose end says that the worker has ended."""
    (tmp_path / "conf.py").write_text(
        "import os, time\n"
        "from saq import Queue\n"
        "async def have_child(ctx):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: time.sleep(30); os._exit(0)\n"
        "    return pid\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [have_child]}}\n"
    )
    parent = start("conf.settings", "--workers", "2", cwd=tmp_path)
    before = await known(client, 2)
    job = await enqueue(client, "have_child")
    grandchild = (await ended(client, job)).result
    try:
        worker = psutil.Process(grandchild).ppid()
        os.kill(worker, signal.SIGKILL)
        await parent.says("died .killed by SIGKILL.", timeout=5)
        assert psutil.pid_exists(grandchild)
        assert worker in before

        async def replaced() -> bool:
            now = await pids(client)
            return len(now) == 2 and worker not in now

        await until(replaced, timeout=20)
    finally:
        os.kill(grandchild, signal.SIGKILL)
    await stopped(parent)


async def test_no_worker_outlives_a_parent_that_is_killed_as_they_start(start: Start) -> None:
    for pause in (0.0, 0.15, 0.3):
        parent = start(APP, "--workers", "2")
        await until(lambda parent=parent: len(parent.children()) == 2, timeout=15)  # type: ignore[misc]
        await asyncio.sleep(pause)  # anywhere in their start
        children = parent.children()
        parent.send(signal.SIGKILL)
        assert len(children) == 2
        for child in children:
            await until(lambda child=child: not child.is_running(), timeout=10)  # type: ignore[misc]


async def test_a_right_that_is_missing_is_named(start: Start, make_server: MakeServer) -> None:
    server = make_server()
    with server.client() as redis:
        redis.acl_setuser(
            "poor",
            enabled=True,
            passwords=["+pw"],
            keys=["*"],
            channels=["*"],
            commands=["+@all", "-evalsha"],
        )
    worker = start(APP, url=f"redis://poor:pw@127.0.0.1:{server.port}")
    assert await worker.end(timeout=20) == 1
    assert "saq: NOPERM" in worker.text()
    assert "evalsha" in worker.text()
    assert "lacks that right" in worker.text()


async def test_a_fleet_of_several_queues(start: Start, tmp_path: Path, redis_url: str) -> None:
    """A dead worker is gone from all of them, and its limit counts the jobs of all."""
    (tmp_path / "conf.py").write_text(
        "import os\n"
        "from saq import Queue\n"
        "async def where(ctx): return os.getpid()\n"
        f"queues = [Queue.from_url({redis_url!r}, name=name) for name in ('high', 'low')]\n"
        "settings = {'queues': queues, 'functions': [where]}\n"
    )
    high, low = (RedisQueue.from_url(redis_url, name=name) for name in ("high", "low"))
    parent = start("conf.settings", "--workers", "2", "--max-jobs", "10", cwd=tmp_path)
    try:
        before = await known(high, 2)
        assert before == await known(low, 2)
        os.kill(min(before), signal.SIGKILL)

        async def replaced(queue: RedisQueue) -> bool:
            now = await pids(queue)
            return len(now) == 2 and min(before) not in now

        await until(lambda: replaced(high), timeout=20)
        await until(lambda: replaced(low), timeout=20)
        ran = Counter(await high.map("where", [{}] * 15, timeout=30))
        ran += Counter(await low.map("where", [{}] * 15, timeout=30))
        assert max(ran.values()) <= 10
        assert len(ran) >= 3
        await stopped(parent)
        assert (await high.info())["workers"] == (await low.info())["workers"] == {}
    finally:
        await high.disconnect()
        await low.disconnect()


# Signals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_child_that_somebody_else_stops_is_replaced(
    number: signal.Signals, client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--workers", "2", "-v")
    before = await known(client, 2)
    os.kill(min(before), number)

    async def replaced() -> bool:
        now = await pids(client)
        return len(now) == 2 and min(before) not in now

    await until(replaced, timeout=20)
    assert "died" not in parent.text()
    await stopped(parent)


async def test_a_child_that_is_stopped_as_it_starts_is_replaced(client: RedisQueue, start: Start) -> None:
    parent = start(APP, "--workers", "2")
    children = await until(parent.children, timeout=15)
    children[0].send_signal(signal.SIGTERM)
    assert children[0].pid not in await known(client, 2)
    await stopped(parent)


async def test_sigtstp_to_the_parent_has_all_take_nothing_more_until_sigcont(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--workers", "2", "-v")
    await known(client, 2)
    running = await enqueue(client, "wait", seconds=0.5)
    await until(lambda: client.count("active"))
    parent.send(signal.SIGTSTP)
    await until(lambda: len(re_findall(parent, "holds: it takes no jobs")) == 2)
    assert (await ended(client, running)).status is Status.COMPLETE
    waiting = await enqueue(client, "add", a=1, b=2)
    # One that is started meanwhile holds as well.
    victim = min(await pids(client))
    os.kill(victim, signal.SIGKILL)
    await until(lambda: len(re_findall(parent, "holds: it takes no jobs")) == 3, timeout=20)
    view = await client.views.workers()
    await until(lambda: is_queued(client))
    assert all(worker.about.get("held") for worker in view.workers)
    parent.send(signal.SIGCONT)
    assert (await ended(client, waiting)).result == 3
    await stopped(parent)


def re_findall(parent: Command, words: str) -> list[str]:
    return [line for line in parent.text().splitlines() if words in line]


async def test_sigtstp_to_a_worker_by_itself(client: RedisQueue, start: Start) -> None:
    worker = start(APP, "-v")
    await registered(client, 1)
    worker.send(signal.SIGTSTP)
    await worker.says("holds: it takes no jobs")
    job = await enqueue(client, "add", a=1, b=2)
    assert psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED
    await until(lambda: is_queued(client))
    worker.send(signal.SIGCONT)
    assert (await ended(client, job)).result == 3
    worker.send(signal.SIGTSTP)
    await until(lambda: len(re_findall(worker, "holds: it takes no jobs")) == 2)
    await stopped(worker)


async def test_sigtstp_as_a_worker_starts_holds_it_from_the_beginning(
    client: RedisQueue, start: Start, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "import pathlib, time\n"
        "from saq import Queue\n"
        "async def hello(ctx): return 'hello'\n"
        "pathlib.Path('importing').touch()\n"
        "while not pathlib.Path('go on').exists(): time.sleep(0.01)\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [hello]}}\n"
    )
    worker = start("conf.settings", "-v", cwd=tmp_path)
    await until((tmp_path / "importing").exists)
    worker.send(signal.SIGTSTP)
    (tmp_path / "go on").touch()
    job = await enqueue(client, "hello")
    await registered(client, 1)
    await worker.says("holds")
    await until(lambda: is_queued(client))
    worker.send(signal.SIGCONT)
    assert (await ended(client, job)).result == "hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_as_a_worker_by_itself_starts_ends_it_with_0(
    number: signal.Signals, start: Start, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "import pathlib, time\n"
        "from saq import Queue\n"
        "pathlib.Path('importing').touch()\n"
        "time.sleep(60)\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': []}}\n"
    )
    worker = start("conf.settings", cwd=tmp_path)
    await until((tmp_path / "importing").exists)
    worker.send(number)
    async with took(at_most=5.0):
        assert await worker.end() == 0, worker.text()
    assert worker.text() == ""


async def test_a_fleet_that_does_not_end_is_killed_after_a_third_signal(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--workers", "2", settings={"shutdown_grace_period_s": 60})
    await registered(client, 2)
    job = await enqueue(client, "freeze", seconds=60, timeout=0)
    await until(lambda: client.count("active"))
    for _ in range(3):
        parent.send(signal.SIGTERM)
        await asyncio.sleep(0.2)
    async with took(at_most=5.0):
        assert await parent.end() == 1
    await job.refresh()
    assert job.status is Status.ACTIVE  # its lease gives it back


async def test_sighup_from_a_terminal_that_hangs_up_ends_the_fleet(
    client: RedisQueue, redis_url: str
) -> None:
    """And one that is sent does not: see below."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["SAQ_TEST_URL"] = redis_url
        os.execv(sys.executable, [sys.executable, "-m", "saq", APP, "--workers", "2"])
    try:
        await registered(client, 2)
        os.close(terminal)
        terminal = -1
        await registered(client, 0)
        await until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
        pid = 0
    finally:
        if terminal >= 0:
            os.close(terminal)
        if pid:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)


async def test_sighup_as_they_start_is_obeyed_when_they_work(client: RedisQueue, start: Start) -> None:
    """They may have read the old code already."""
    for pause in (0.0, 0.3):
        parent = start(APP, "--workers", "2")
        await until(lambda parent=parent: len(parent.children()) == 2, timeout=15)  # type: ignore[misc]
        await asyncio.sleep(pause)
        first = {child.pid for child in parent.children()}
        parent.send(signal.SIGHUP)

        async def replaced(first: set[int] = first) -> bool:
            now = (await pids(client)).keys()
            return len(now) == 2 and not now & first

        await until(replaced, timeout=30)
        await stopped(parent)


async def test_sighup_to_a_worker_by_itself_stops_it_and_nohup_turns_that_off(
    client: RedisQueue, start: Start, redis_url: str
) -> None:
    worker = start(APP)
    await registered(client, 1)
    worker.send(signal.SIGHUP)
    async with took(at_most=5.0):
        assert await worker.end() == 0
    assert await registered(client, 0) == set()
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.executable, "
    code += "[sys.executable, '-m', 'saq', sys.argv[1]])"
    worker = Command("-c", code, APP, env={"SAQ_TEST_URL": redis_url})
    try:
        await registered(client, 1)
        worker.send(signal.SIGHUP)
        assert await client.apply("add", a=1, b=2, timeout=10) == 3
        worker.send(signal.SIGTERM)
        assert await worker.end() == 0
    finally:
        worker.close()


@pytest.mark.parametrize("words", [[], ["--workers", "2"]], ids=["alone", "several"])
async def test_a_port_that_is_taken_is_said_and_ends_it(words: list[str], start: Start) -> None:
    pytest.importorskip("saq.web.aiohttp", exc_type=ImportError)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = start(APP, "--web", "--port", port, *words)
        async with took(at_most=15.0):
            assert await command.end() == 2, command.text()
    assert command.text().count(f"port {port} is taken") == 1


# Limits ----------------------------------------------------------------------------------------------------


async def test_max_jobs_replaces_a_worker_after_exactly_so_many(client: RedisQueue, start: Start) -> None:
    await client.enqueue_many(Job("where", key=f"{n}") for n in range(35))
    parent = start(APP, "--workers", "2", "--max-jobs", "5", "-v")
    ran: Counter[int] = Counter()
    for n in range(35):
        job = await ended(client, f"{n}", timeout=25)
        assert job.attempts == 1
        ran[job.result] += 1
    assert len(ran) >= 7
    assert max(ran.values()) == 5
    assert "died" not in parent.text()
    assert "is replaced" in parent.text()
    await registered(client, 2)
    await stopped(parent)


async def test_the_place_of_a_worker_at_its_limit_is_filled_while_its_last_job_runs(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--max-jobs", "1")
    first = (await known(client, 1)).popitem()[0]
    long = await enqueue(client, "where", seconds=4)
    await until(lambda: client.count("active"))
    # Nobody would run it for as long as the first one does.
    second = await client.apply("where", timeout=20)
    assert second != first
    await long.refresh()
    assert long.status is Status.ACTIVE
    job = await ended(client, long)
    assert (job.result, job.attempts, job.status) == (first, 1, Status.COMPLETE)
    await stopped(parent)


async def test_max_memory_replaces_a_worker_after_its_running_jobs(
    client: RedisQueue, start: Start, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "import asyncio, os\n"
        "from saq import Queue\n"
        "kept = []\n"
        "async def eat(ctx, *, megabytes, seconds=0):\n"
        "    kept.append(os.urandom(megabytes << 20))\n"
        "    await asyncio.sleep(seconds)\n"
        "    return os.getpid()\n"
        "async def where(ctx): return os.getpid()\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [eat, where]}}\n"
    )
    parent = start("conf.settings", "--max-memory", "250M", "-v", cwd=tmp_path)
    first = (await known(client, 1)).popitem()[0]
    assert await client.apply("where", timeout=10) == first
    running = await enqueue(client, "eat", megabytes=250, seconds=2)
    await parent.says(r"holds \d+ MiB of memory, more than --max-memory")
    job = await ended(client, running)
    assert (job.result, job.attempts) == (first, 1)
    assert await client.apply("where", timeout=10) != first
    assert "died" not in parent.text()
    await stopped(parent)


async def test_a_limit_below_what_a_worker_holds_anyway_is_refused(start: Start) -> None:
    parent = start(APP, "--max-memory", "1M", "--workers", "2")
    async with took(at_most=15.0):
        assert await parent.end() == 2
    assert "--max-memory 1 MiB is too little: a worker holds" in parent.text()
    assert parent.text().count("too little") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--max-jobs", "0"], "--max-jobs: '0' is not a number from 1"),
        (["--max-memory", "lots"], "--max-memory: 'lots' is not a size such as 500M or 2G"),
        (["--max-memory", "0"], "--max-memory: '0' is not a size"),
        (["--log-format", "xml"], "--log-format: invalid choice: 'xml'"),
        (["--reload-dir", "/no/such/folder"], "--reload-dir '/no/such/folder' is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_limits_that_cannot_be_are_refused(words: list[str], says: str, start: Start) -> None:
    command = start(APP, *words)
    assert await command.end() == 2
    assert says in command.text()


async def test_a_name_in_the_settings_is_told_apart_by_the_process(client: RedisQueue, start: Start) -> None:
    parent = start(APP, "--workers", "2", settings={"id": "mail"})
    names = await registered(client, 2)
    assert names == {f"mail-{child.pid}" for child in parent.children()}
    await stopped(parent)


# Replacement -----------------------------------------------------------------------------------------------


async def test_sighup_replaces_every_worker_and_a_new_one_that_cannot_start_changes_nothing(
    client: RedisQueue, start: Start, tmp_path: Path, redis_url: str
) -> None:
    def write(version: int, first_line: str = "") -> None:
        (tmp_path / "conf.py").write_text(
            f"{first_line}\n"
            "import asyncio\n"
            "from saq import Queue\n"
            f"async def version(ctx, *, seconds=0): await asyncio.sleep(seconds); return {version}\n"
            f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [version]}}\n"
        )

    write(1)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    parent = Command("-m", "saq", "conf.settings", "--workers", "2", "-v", cwd=tmp_path, env=env)
    try:
        before = await known(client, 2)
        running = await enqueue(client, "version", seconds=3)
        await until(lambda: client.count("active"))
        write(2)
        parent.send(signal.SIGHUP)

        async def replaced() -> bool:
            now = await pids(client)
            return len(now) == 2 and not now.keys() & before.keys()

        await until(replaced, timeout=30)
        assert await client.map("version", [{}] * 4, timeout=10) == [2] * 4
        job = await ended(client, running)
        assert (job.result, job.attempts) == (1, 1)

        now = await pids(client)
        write(3, "raise RuntimeError('not ready yet')")
        parent.send(signal.SIGHUP)
        await parent.says("the old workers go on", timeout=20)
        assert await pids(client) == now
        assert await client.map("version", [{}] * 4, timeout=10) == [2] * 4
        parent.send(signal.SIGTERM)
        assert await parent.end() == 0
    finally:
        parent.close()


async def test_reload_starts_again_when_files_change_also_after_a_mistake(
    client: RedisQueue, tmp_path: Path, redis_url: str
) -> None:

    def write(version: int, first_line: str = "") -> None:
        (tmp_path / "conf.py").write_text(
            f"{first_line}\n"
            "from saq import Queue\n"
            f"async def version(ctx): return {version}\n"
            f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [version]}}\n"
        )

    write(1)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    parent = Command("-m", "saq", "conf.settings", "--reload", "-v", cwd=tmp_path, env=env)
    try:
        assert await client.apply("version", timeout=15) == 1
        write(2)
        await parent.says("Files have changed")

        async def is_now(version: int) -> bool:
            return bool(await client.apply("version", timeout=10) == version)

        await until(lambda: is_now(2), timeout=20)
        write(3, "this is no Python")
        await parent.says("it starts again when files change", timeout=20)
        write(4)
        await until(lambda: is_now(4), timeout=20)
        parent.send(signal.SIGINT)
        async with took(at_most=5.0):
            assert await parent.end() == 0, parent.text()
    finally:
        parent.close()


async def test_the_web_page_is_there_again_after_a_rolling_restart(client: RedisQueue, start: Start) -> None:
    pytest.importorskip("saq.web.aiohttp", exc_type=ImportError)
    port = free_port()

    async def is_served() -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.startswith(b"HTTP/1.1 200")

    parent = start(APP, "--web", "--port", str(port), "--workers", "2")
    before = (await known(client, 2)).keys()
    await until(is_served)
    parent.send(signal.SIGHUP)

    async def replaced() -> bool:
        now = (await pids(client)).keys()
        return len(now) == 2 and not now & before

    await until(replaced, timeout=30)
    await until(is_served)
    assert "died" not in parent.text()
    await stopped(parent)


async def test_a_process_that_listens_is_replaced_when_it_has_ended() -> None:
    """Two of them cannot share the port; the others are replaced before they end."""
    port = free_port()
    parent = Command("-m", "tests.commands.listening", str(port))
    try:
        await until(lambda: sorted(parent.text().split("\n")) == ["", "begun 0", "begun 1"], timeout=20)
        parent.send(signal.SIGHUP)
        await until(lambda: len(parent.text().splitlines()) == 6, timeout=20)
        said = parent.text().splitlines()[2:]
        assert [line for line in said if line.endswith("1")] == ["begun 1", "over 1"]
        assert [line for line in said if line.endswith("0")] == ["over 0", "begun 0"]
        parent.send(signal.SIGTERM)
        assert await parent.end() == 0, parent.text()
    finally:
        parent.close()


JOBS = 50_000
RESTARTS = 20


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rolling_restart_of_a_loaded_fleet_runs_every_job_exactly_once(
    client: RedisQueue, tmp_path: Path, redis_url: str
) -> None:
    """15 times all are replaced, one after the other, and 5 times somebody stops a single one."""
    (tmp_path / "conf.py").write_text(
        "import asyncio, os\n"
        "from saq import Queue\n"
        "journal = os.open('journal', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "async def note(ctx, *, n):\n"
        "    await asyncio.sleep(0.05)\n"
        "    os.write(journal, b'%d\\n' % n)\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [note], 'concurrency': 25,\n"
        "            'shutdown_grace_period_s': 30}\n"
    )
    await client.enqueue_many(Job("note", {"n": n}, ttl=-1) for n in range(JOBS))
    parent = Command("-m", "saq", "conf.settings", "--workers", "2", cwd=tmp_path)
    try:
        for number in range(RESTARTS):
            before = (await known(client, 2)).keys()
            assert await client.count("queued") > 0, f"after {number} restarts it is not under load any more"
            single = number % 4 == 3
            if single:
                os.kill(min(before), signal.SIGTERM)
            else:
                parent.send(signal.SIGHUP)
            gone = {min(before)} if single else set(before)

            async def replaced(gone: set[int] = gone) -> bool:
                now = (await pids(client)).keys()
                return len(now) == 2 and not now & gone

            await until(replaced, timeout=60)
        await until(lambda: nothing_left(client), timeout=180)
        parent.send(signal.SIGTERM)
        assert await parent.end(timeout=40) == 0, parent.text()
        assert "ERROR" not in parent.text()
    finally:
        parent.close()
    runs = Counter(map(int, (tmp_path / "journal").read_text().split()))
    assert sorted(runs) == list(range(JOBS))
    assert [n for n, times in runs.items() if times != 1] == []
    stats = (await client.views.counts()).stats
    assert (stats["enqueued"], stats["complete"]) == (JOBS, JOBS)
    assert (stats["failed"], stats["aborted"], stats["retried"], stats["lost"]) == (0, 0, 0, 0)


async def nothing_left(client: RedisQueue) -> bool:
    return await client.count("incomplete") == 0
