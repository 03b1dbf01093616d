"""The command line, as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import saq as package
from saq import Job, Status
from saq.cli import VERBS, build_parser
from saq.queue.redis import RedisQueue
from tests.commands.conftest import Start
from tests.ports import free_port
from tests.processes import APP, Command
from tests.worker.support import ended, enqueue, took, until


async def _workers(client: RedisQueue, count: int) -> bool:
    return len((await client.info())["workers"]) == count


async def registered(client: RedisQueue, count: int) -> None:
    await until(lambda: _workers(client, count), timeout=20)


# What it says of itself ------------------------------------------------------------------------------------


async def test_help_names_every_option_and_what_it_is_good_for(start: Start) -> None:
    command = start("--help")
    assert await command.end() == 0
    text = command.text()
    assert text.startswith("usage: saq [-h]")
    for option in (
        *("settings", "--workers", "--verbose", "-v", "--web", "--extra-web-settings", "-e", "--port"),
        *("--host", "--insecure", "--check", "--quiet", "-q", "--version", "AUTH_USER", "AUTH_PASSWORD"),
        *("--metrics-port", "--metrics-host"),
    ):
        assert option in text
    for verb in VERBS:
        assert f"saq {verb}" in text
    for action in build_parser()._actions:
        assert action.help, action.dest


async def test_version_says_what_runs(start: Start) -> None:
    command = start("--version")
    assert await command.end() == 0
    assert command.text().startswith(f"saq {package.__version__} (speedups ")


async def test_the_installed_command_is_the_same_as_python_m_saq(start: Start) -> None:
    installed = Path(sys.executable).parent / "saq"
    if not installed.exists():
        pytest.skip("saq is not installed here")
    script, module = Command(str(installed), "--help"), start("--help")
    try:
        assert await script.end() == await module.end() == 0
        assert script.text() == module.text()
    finally:
        script.close()


# What cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: settings"),
        (["settings"], "'settings' is neither a verb nor a settings path"),
        ([APP, "--workers", "0"], "--workers: '0' is not a number from 1"),
        ([APP, "--workers", "-2"], "--workers"),
        ([APP, "--workers", "many"], "--workers: 'many' is not a number from 1"),
        ([APP, "--port", "99999"], "--port: '99999' is not a port"),
        ([APP, "--wrokers", "2"], "unrecognized arguments: --wrokers"),
        ([APP, "-e", "web"], "'web' is neither a verb nor a settings path"),
        (["tests.worker.nothing.settings"], "cannot import 'tests.worker.nothing'"),
        (["nowhere.at.all"], "cannot import 'nowhere.at'"),
        (["tests.worker.app.setings"], "has no 'setings'; did you mean 'settings'?"),
        (["tests.worker.app.text"], "must be a dict of settings, or a callable that returns one, not str"),
        (["tests.worker.app.unknown"], "unknown setting 'concurency'; did you mean 'concurrency'?"),
        (["tests.worker.app.wrong"], "concurrency must be a whole number of at least 1, got 'many'"),
        (["tests.worker.app.without_functions"], "has no 'functions'"),
        (
            ["tests.worker.app.broken"],
            "app.broken() raised RuntimeError: no configuration today",
        ),
        (["tests.worker.app.unknown", "--workers", "2"], "unknown setting 'concurency'"),
        (["tests.worker.app.wrong", "--workers", "2"], "concurrency must be a whole number"),
        (["tests.worker.app.unknown", "--check"], "unknown setting 'concurency'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_wrong_words_end_with_2_and_one_clear_line(words: list[str], says: str, start: Start) -> None:
    command = start(*words)
    async with took(at_most=10.0):
        assert await command.end() == 2, command.text()
    text = command.text()
    assert says in text
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if line.startswith("saq: ")]) == 1


@pytest.mark.parametrize("words", [[], ["--workers", "2"], ["--check"]], ids=" ".join)
async def test_an_unreachable_server_ends_with_1_and_says_which_and_how_to_start_one(
    words: list[str], start: Start
) -> None:
    port = free_port()
    command = start(APP, *words, url=f"redis://user:secret@127.0.0.1:{port}")
    async with took(at_most=15.0):
        assert await command.end() == 1, command.text()
    text = command.text()
    assert f"127.0.0.1:{port}" in text
    assert "redis-server" in text
    assert "Traceback" not in text
    assert "secret" not in text


# --check ---------------------------------------------------------------------------------------------------


async def test_check_says_by_its_exit_code_whether_workers_live(client: RedisQueue, start: Start) -> None:
    assert await start(APP, "--check").end() == 1
    worker = start(APP)
    await registered(client, 1)
    checked = start(APP, "--check", "-v")
    assert await checked.end() == 0
    assert "1 live worker" in checked.text()
    worker.send(signal.SIGTERM)
    await worker.end()
    assert await start(APP, "--check").end() == 1


# repair ----------------------------------------------------------------------------------------------------


async def test_repair_says_what_is_wrong_and_mends_it(client: RedisQueue, start: Start) -> None:
    for key in ("in no list", "gone\x1b[2J"):
        await enqueue(client, "add", a=1, b=2, key=key)
    sound = start("repair", APP)
    assert await sound.end() == 0, sound.text()
    assert re.search(r"^default: looked at \d+ entries in \d+\.\d s: sound$", sound.text(), re.MULTILINE)
    await client.redis.zrem("saq:{default}:queued", "in no list")
    await client.redis.hdel("saq:{default}:jobs", "gone\x1b[2J")

    dry = start("repair", APP, "--dry-run")
    assert await dry.end() == 1
    assert "lost: 'in no list' is in no list; would be: now queued" in dry.text()
    assert r"gone: 'gone\x1b[2J' is listed (queued), and its content is gone" in dry.text()
    assert "2 wrong (1 lost, 1 gone), nothing was changed" in dry.text()
    as_json = start("repair", APP, "--dry-run", "--json")
    assert await as_json.end() == 1
    report = json.loads(as_json.text().splitlines()[-1])
    assert (report["queue"], report["dry_run"], report["sound"]) == ("default", True, False)
    found = {(finding["kind"], finding["key"], finding["mended"]) for finding in report["findings"]}
    assert found == {("lost", "in no list", False), ("gone", "gone\x1b[2J", False)}
    assert any("set appendonly yes" in warning for warning in report["warnings"])

    mended = start("repair", APP)
    assert await mended.end() == 0
    assert "lost: 'in no list' is in no list; now queued" in mended.text()
    assert "2 wrong (1 lost, 1 gone), all mended" in mended.text()
    start(APP)
    assert (await ended(client, "in no list")).result == 3


async def test_what_repair_may_not_touch_ends_with_1(client: RedisQueue, start: Start) -> None:
    await client.redis.set("saq:{default}:queued", "somebody's")
    command = start("repair", APP)
    assert await command.end() == 1
    assert "type: 'queued' is a string, which SAQ never makes of it; whose is it?" in command.text()
    assert await client.redis.get("saq:{default}:queued") == b"somebody's"


async def test_repair_of_several_queues_goes_on_when_one_cannot_be_reached(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setenv("SAQ_TEST_FAR_URL", f"redis://127.0.0.1:{free_port()}")
    command = start("repair", "tests.worker.app.far_and_near")
    assert await command.end() == 1
    assert "saq repair: far: cannot reach Redis at" in command.text()
    assert re.search(r"^default: looked at .*: sound$", command.text(), re.MULTILINE)


async def test_repair_explains_itself_and_its_exit_codes(start: Start) -> None:
    command = start("repair", "--help")
    assert await command.end() == 0
    for part in ("usage: saq repair", "--dry-run", "--json", "exit codes:", "  0  ", "  1  ", "  2  "):
        assert part in command.text()
    wrong = start("repair", "nowhere.at.all")
    assert await wrong.end() == 2
    assert wrong.text().startswith("saq repair: cannot import 'nowhere.at'")
    away = start("repair", APP, url=f"redis://127.0.0.1:{free_port()}")
    assert await away.end() == 1
    assert "cannot reach Redis at" in away.text()
    assert "Traceback" not in away.text()


async def test_progress_is_shown_on_a_terminal(client: RedisQueue, redis_url: str) -> None:
    """And what is found does not get mixed up with it."""
    await client.enqueue_many(Job("add", {"a": 1, "b": 2}, key=f"{n}") for n in range(3000))
    await client.redis.zrem("saq:{default}:queued", "7")
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'saq', 'repair', sys.argv[1]]) >> 8)"
    with closing(Command("-c", code, APP, env={"SAQ_TEST_URL": redis_url})) as command:
        assert await command.end() == 0, command.text()
        assert "\rwatching: 0 of 0" in command.text()
        assert "lost: '7' is in no list; now queued" in command.text().replace("\r", "\n").splitlines()


# The server's settings -------------------------------------------------------------------------------------


async def test_the_first_of_several_workers_speaks_of_the_servers_settings(
    client: RedisQueue, redis_url: str
) -> None:
    env = {"SAQ_TEST_URL": redis_url, "SAQ_TEST_CHECKUP": "1"}
    with closing(Command("-m", "saq", APP, "--workers", "3", env=env)) as command:
        await registered(client, 3)
        await command.says("set appendonly yes")
        command.send(signal.SIGTERM)
        assert await command.end() == 0
        assert command.text().count("set appendonly yes") == 1


# Working ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_runs_jobs_until_a_signal_and_ends_with_0(
    number: signal.Signals, client: RedisQueue, start: Start
) -> None:
    worker = start(APP)
    assert await client.apply("add", a=1, b=2, timeout=15) == 3
    worker.send(number)
    async with took(at_most=3.0):
        assert await worker.end() == 0
    assert worker.text() == ""


async def test_the_current_folder_is_importable(
    tmp_path: Path, client: RedisQueue, redis_url: str, start: Start
) -> None:
    (tmp_path / "conf.py").write_text(
        "from saq import Queue\n"
        "async def hello(ctx): return 'from here'\n"
        f"settings = {{'queue': Queue.from_url({redis_url!r}), 'functions': [hello]}}\n"
    )
    start("conf.settings", cwd=tmp_path)
    assert await client.apply("hello", timeout=15) == "from here"


async def test_v_says_what_happened_to_which_job_and_how_long_it_took(
    client: RedisQueue, start: Start
) -> None:
    worker = start(APP, "-v")
    await worker.says(r"INFO +Worker \S+ starts: RedisQueue<redis://127.0.0.1:\d+/0, name: 'default'>")
    await ended(client, await enqueue(client, "wait", seconds=0.2, key="good"))
    await ended(client, await enqueue(client, "fail", key="bad"))
    await worker.says(r"INFO +Processing Job<function: wait, .*key: good")
    await worker.says(r"INFO +Finished \(complete\) Job<function: wait, .*key: good.* in 0\.[2-9]\d\d s$")
    await worker.says(r"ERROR +Error processing Job<function: fail, .*key: bad")
    await worker.says(r"ValueError: as it was told")
    await worker.says(r"INFO +Finished \(failed\) Job<function: fail, .*key: bad.* in 0\.\d{3} s$")
    worker.send(signal.SIGTERM)
    await worker.says("SIGTERM: no more jobs are taken")
    await worker.says(r"Worker \S+ has stopped")
    assert await worker.end() == 0


async def test_without_v_only_failures_are_said_and_q_leaves_logging_alone(
    client: RedisQueue, start: Start
) -> None:
    worker = start(APP)
    await client.apply("add", a=1, b=2, timeout=15)
    await ended(client, await enqueue(client, "fail"))
    await worker.says("ValueError: as it was told")
    assert "INFO" not in worker.text()
    assert "function: add" not in worker.text()
    worker.send(signal.SIGTERM)
    await worker.end()

    quiet = start(APP, "-q", "-vv")
    await client.apply("add", a=1, b=2, timeout=15)
    quiet.send(signal.SIGTERM)
    assert await quiet.end() == 0
    assert quiet.text() == ""


async def test_vv_says_everything(client: RedisQueue, start: Start) -> None:
    worker = start(APP, "-vv")
    await client.apply("add", a=1, b=2, timeout=15)
    await worker.says(r"DEBUG +It knows: add, where")
    await worker.says(r"kwargs: \{'a': 1, 'b': 2\}")


# --workers -------------------------------------------------------------------------------------------------


async def test_two_workers_both_run_jobs_and_a_signal_to_the_parent_ends_them_all(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "--workers", "2", settings={"concurrency": 1})
    await registered(client, 2)
    pids = await client.map("where", [{"seconds": 0.2}] * 4, timeout=15)
    children = parent.children()
    assert set(pids) == {child.pid for child in children}
    assert len(children) == 2
    job = await enqueue(client, "wait", seconds=60, timeout=0)
    await until(lambda: _active(client))
    parent.send(signal.SIGTERM)
    async with took(at_most=5.0):
        assert await parent.end() == 0, parent.text()
    assert not any(child.is_running() for child in children)
    await job.refresh()
    assert (job.status, job.error) == (Status.QUEUED, "cancelled")
    assert (await client.info())["workers"] == {}


async def _active(client: RedisQueue) -> bool:
    return await client.count("active") == 1


async def test_a_worker_process_that_is_killed_is_replaced(client: RedisQueue, start: Start) -> None:
    parent = start(APP, "--workers", "2", settings={"lease": 1})
    await registered(client, 2)
    before = {child.pid for child in parent.children()}
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = await until(lambda: _replaced(parent, before), timeout=20)
    assert victim not in after
    assert "is replaced" in parent.text()
    await registered(client, 2)  # the dead one's registration was taken away
    assert await client.apply("add", a=1, b=1, timeout=10) == 2
    parent.send(signal.SIGINT)
    async with took(at_most=5.0):
        assert await parent.end() == 0, parent.text()


def _replaced(parent: Command, before: set[int]) -> set[int]:
    now = {child.pid for child in parent.children()}
    return now if len(now) == 2 and now != before else set()


async def test_the_children_end_when_their_parent_is_killed(client: RedisQueue, start: Start) -> None:
    parent = start(APP, "--workers", "2")
    await registered(client, 2)
    children = parent.children()
    parent.send(signal.SIGKILL)
    await until(lambda: not any(child.is_running() for child in children), timeout=10)
    assert (await client.info())["workers"] == {}


async def test_a_signal_as_they_start_ends_all_workers_with_0(client: RedisQueue, start: Start) -> None:
    for pause in (0.0, 0.15, 0.3):
        parent = start(APP, "--workers", "2")
        await until(lambda parent=parent: len(parent.children()) >= 1, timeout=15)  # type: ignore[misc]
        await asyncio.sleep(pause)  # anywhere in their start
        parent.send(signal.SIGTERM)
        began = time.monotonic()
        assert await parent.end(timeout=10) == 0, parent.text()
        assert time.monotonic() - began < 5.0
        assert "Traceback" not in parent.text()


async def test_a_second_signal_to_the_parent_skips_the_grace_of_the_children(
    client: RedisQueue, start: Start
) -> None:
    parent = start(APP, "-v", "--workers", "2", settings={"shutdown_grace_period_s": 30})
    await registered(client, 2)
    job = await enqueue(client, "wait", seconds=60, timeout=0)
    await until(lambda: _active(client))
    parent.send(signal.SIGTERM)
    await parent.says("jobs have 30 s to end")
    parent.send(signal.SIGTERM)
    async with took(at_most=5.0):
        assert await parent.end() == 0, parent.text()
    await job.refresh()
    assert job.status is Status.QUEUED


async def test_burst_workers_end_by_themselves(client: RedisQueue, start: Start) -> None:
    for n in range(20):
        await client.enqueue("add", a=n, b=1)
    parent = start(APP, "--workers", "2", settings={"burst": True, "dequeue_timeout": 0.3})
    async with took(at_most=15.0):
        assert await parent.end() == 0, parent.text()
    assert await client.count("incomplete") == 0
