"""The verbs of the command line, as real processes on a real server with real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from saq import CronJob, Job, Status, Worker
from saq.cli import VERBS
from saq.queue.redis import RedisQueue
from saq.terminal.words import moment, seconds, shown, span, to_json
from saq.terminal.words import until as time_until
from tests.commands.conftest import Start
from tests.processes import APP, Command, saq
from tests.worker.support import ended, enqueue, make_worker, running, until

#: The verbs that read or change a queue, with what else each needs.
ON_QUEUES: dict[str, list[str]] = {
    "info": [],
    "jobs": [],
    "job": ["key"],
    "enqueue": ["add"],
    "retry": ["key"],
    "abort": ["key"],
    "pause": [],
    "resume": [],
    "cron": [],
    "workers": [],
    "quiet": [],
}


class Answer:
    """What a verb has answered."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


Ask = Callable[..., Any]


@pytest.fixture
async def ask(start: Start) -> Ask:
    """Runs `saq VERB tests.worker.app.settings …` to its end: `await ask("job", "key")`."""

    async def run(verb: str, *words: str, **kwargs: Any) -> Answer:
        command = start(verb, APP, *words, **kwargs)
        code = await command.end()
        assert not any(line.startswith("Traceback") for line in command.text().splitlines()), command.text()
        return Answer(code, command.text())

    return run


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[RedisQueue]:
    """That of the workers in this process."""
    queue = RedisQueue.from_url(redis_url)
    yield queue
    await queue.disconnect()


async def add(ctx: Any, *, a: int, b: int) -> int:
    return a + b


async def echo(ctx: Any, **kwargs: Any) -> Any:
    return kwargs


async def fail(ctx: Any) -> None:
    raise ValueError("as it was told\x1b[2J")


async def forever(ctx: Any) -> None:
    await asyncio.Event().wait()


FUNCTIONS: dict[str, Callable[..., Any]] = {"add": add, "echo": echo, "fail": fail, "forever": forever}


def worker_of(queue: RedisQueue, **settings: Any) -> Worker[Any]:
    return make_worker(queue, FUNCTIONS, **settings)


# What they have in common ----------------------------------------------------------------------------------


def test_every_verb_on_queues_is_known() -> None:
    assert VERBS.keys() >= ON_QUEUES.keys()


@pytest.mark.parametrize("verb", ON_QUEUES)
async def test_each_explains_itself_and_its_exit_codes(verb: str) -> None:
    with closing(saq(verb, "--help")) as command:
        assert await command.end() == 0
        text = command.text()
    for part in (f"usage: saq {verb}", "settings", "--json", "exit codes:", "  0  ", "  2  ", "  3  "):
        assert part in text


@pytest.mark.parametrize("verb", ON_QUEUES)
async def test_a_server_that_cannot_be_reached_is_3_and_said(verb: str, ask: Ask) -> None:
    answer = await ask(verb, *ON_QUEUES[verb], url="redis://me:secret@127.0.0.1:1")
    assert answer.code == 3
    assert answer.text.startswith(f"saq {verb}: cannot reach Redis at redis://127.0.0.1:1/0")
    assert "secret" not in answer.text
    assert len(answer.lines) == 1


@pytest.mark.parametrize("verb", ON_QUEUES)
async def test_settings_that_are_none_are_2(verb: str) -> None:
    with closing(saq(verb, "nowhere.at.all", *ON_QUEUES[verb])) as command:
        assert await command.end() == 2
        assert command.text().startswith(f"saq {verb}: cannot import 'nowhere.at'")


@pytest.mark.parametrize("verb", ON_QUEUES)
async def test_without_settings_it_is_wrong_usage(verb: str) -> None:
    with closing(saq(verb)) as command:
        assert await command.end() == 2
        assert "required: settings" in command.text()


@pytest.mark.parametrize("verb", ["info", "enqueue", "pause"])
async def test_a_right_that_is_missing_is_named(verb: str, ask: Ask, make_server: Any) -> None:
    server = make_server()
    with server.client() as redis:
        redis.acl_setuser("poor", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@connection"])
    answer = await ask(verb, *ON_QUEUES[verb], url=f"redis://poor:pw@127.0.0.1:{server.port}")
    assert answer.code == 3
    assert "NOPERM" in answer.text
    assert "lacks that right" in answer.text


async def test_whoever_reads_only_the_first_lines_gets_no_complaint(
    client: RedisQueue, redis_url: str
) -> None:
    await client.enqueue_many(Job("add", {"a": n, "b": 1}) for n in range(3000))
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'saq', 'jobs', sys.argv[1], '--limit', '0', '--json'],\n"
        "                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.readline(); p.stdout.close()\n"
        "print(p.stderr.read().decode(), p.wait())\n"
    )
    with closing(Command("-c", code, APP, env={"SAQ_TEST_URL": redis_url})) as command:
        assert await command.end() == 0
        assert command.text().strip() == "141"


async def test_of_several_queues_each_is_shown_and_one_has_to_be_named_for_a_change(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "conf.py").write_text(
        "from saq import Queue\n"
        f"queues = [Queue.from_url({redis_url!r}, name=name) for name in ('high', 'low')]\n"
        "settings = {'queues': queues, 'functions': []}\n"
    )

    async def ask(*words: str) -> Answer:
        with closing(Command("-m", "saq", *words, cwd=tmp_path)) as command:
            return Answer(await command.end(), command.text())

    said = await ask("enqueue", "conf.settings", "add", "a=1")
    assert said.code == 2
    assert "several queues: say which one, --queue NAME: 'high', 'low'" in said.text
    assert (await ask("enqueue", "conf.settings", "add", "a=1", "--queue", "low", "--key", "k")).code == 0
    found = await ask("info", "conf.settings", "--json")
    assert [(queue["queue"], queue["queued"]) for queue in found.json] == [("high", 0), ("low", 1)]
    jobs = await ask("jobs", "conf.settings", "--json")
    assert (jobs.code, [(job["key"], job["queue"]) for job in jobs.json]) == (0, [("k", "low")])
    assert (await ask("jobs", "conf.settings", "--queue", "high")).code == 1
    unknown = await ask("job", "conf.settings", "k", "--queue", "lower")
    assert unknown.code == 2
    assert "have no queue 'lower'; they have 'high', 'low'" in unknown.text
    assert (await ask("job", "conf.settings", "k", "--queue", "low")).code == 0


# info, workers ---------------------------------------------------------------------------------------------


async def test_info_says_how_the_queue_is(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue, id="w\x1b[1", concurrency=3)):
        await client.apply("add", a=1, b=2, timeout=10)
        await ended(client, await enqueue(client, "fail"))
        await enqueue(client, "forever", timeout=0)
        await until(lambda: client.count("active"))
        await client.enqueue("add", a=1, b=1, scheduled=time.time() + 7200)
        answer = await ask("info")
        document = (await ask("info", "--json")).json
    assert answer.code == 0
    assert answer.lines[0].startswith("default  RedisQueue<redis://127.0.0.1:")
    rows = {line.split()[0]: line.split()[1:] for line in answer.lines if line.strip()}
    assert rows["queued"] == ["0"]
    assert rows["scheduled"][:6] == ["1", "the", "next", "is", "due", "in"]
    assert rows["active"] == ["1"]
    assert rows["finished"] == ["1", "kept"]
    assert rows["failed"] == ["1", "kept"]
    assert "4 enqueued, 1 complete, 1 failed, 0 aborted, 0 retried, 0 lost" in answer.text
    assert "\x1b" not in answer.text
    assert rows["WORKER"] == ["HOST", "PID", "STATE", "RUNS", "OF", "COMPLETE", "FAILED", "UP", "SEEN"]
    assert rows["w\N{REPLACEMENT CHARACTER}[1"][1:5] == [str(os.getpid()), "live", "1", "3"]
    (found,) = document
    assert (found["queue"], found["active"], found["failed"], found["scheduled"]) == ("default", 1, 1, 1)
    assert found["stats"]["enqueued"] == 4
    (worker,) = found["workers"]
    assert (worker["id"], worker["running"], worker["about"]["pid"]) == ("w\x1b[1", 1, os.getpid())


async def test_info_of_an_empty_queue(ask: Ask) -> None:
    answer = await ask("info")
    assert answer.code == 0
    assert "no live worker" in answer.text


async def test_workers_lists_them_and_one_that_stopped_is_gone_at_once(
    queue: RedisQueue, redis_url: str, ask: Ask
) -> None:
    none = await ask("workers")
    assert (none.code, none.text) == (1, "saq workers: the queue 'default' has no live worker\n")
    with closing(saq(APP, url=redis_url)) as worker:
        await until(lambda: has_workers(queue, 1), timeout=20)
        found = await ask("workers", "--json")
        assert found.code == 0
        (facts,) = found.json
        assert (facts["about"]["pid"], facts["state"]) == (worker.pid, "live")
        assert facts["id"] in (await ask("workers")).text  # nothing is cut off where there is no terminal
        worker.send(signal.SIGTERM)
        assert await worker.end() == 0
    assert (await ask("workers")).code == 1
    assert "no live worker" in (await ask("info")).text


async def has_workers(queue: RedisQueue, count: int) -> bool:
    return len((await queue.info())["workers"]) == count


async def test_info_watch_shows_what_changes_until_it_is_told_to_stop(
    client: RedisQueue, redis_url: str
) -> None:
    with closing(saq("info", APP, "--watch", "--every", "100ms", url=redis_url)) as command:
        await command.says(r"queued +0$")
        await enqueue(client, "add", a=1, b=2)
        await command.says(r"queued +1 +the oldest waits for")
        await command.says(r"a second +\d")
        command.send(signal.SIGINT)
        assert await command.end() == 0
    with closing(saq("info", APP, "--watch", "--json", "--every", "0.1", url=redis_url)) as command:
        await until(lambda: command.text().count("\n") >= 3)
        command.send(signal.SIGTERM)
        assert await command.end() == 0
        lines = [json.loads(line) for line in command.text().splitlines()]
        assert {line["queued"] for line in lines} == {1}


async def test_info_watch_goes_on_when_the_server_comes_back(make_server: Any) -> None:
    server = make_server()
    with closing(saq("info", APP, "--watch", "--every", "100ms", url=server.url())) as command:
        await command.says("so far")
        server.stop()
        await command.says("trying again", timeout=20)
        server.start()
        said = command.text().count("so far")
        await until(lambda: command.text().count("so far") > said + 1, timeout=20)
        command.send(signal.SIGINT)
        assert await command.end() == 0


async def test_info_watch_on_a_terminal_is_one_page_and_leaves_it_as_it_was(redis_url: str) -> None:
    code = (
        "import pty, sys\n"
        "words = ['-m', 'saq', 'info', sys.argv[1], '--watch', '--every', '100ms']\n"
        "sys.exit(pty.spawn([sys.executable, *words]) >> 8)\n"
    )
    with closing(Command("-c", code, APP, env={"SAQ_TEST_URL": redis_url, "TERM": "xterm"})) as command:
        await until(lambda: command.text().count("\x1b[H") >= 3, timeout=20)
        assert command.text().count("\x1b[?1049h") == 1
        (inner,) = [process for process in psutil_children(command.pid) if "info" in process.cmdline()]
        inner.send_signal(signal.SIGTERM)
        assert await command.end() == 0, command.text()
        assert command.text().rstrip().endswith("\x1b[?7h\x1b[?1049l\x1b[?25h")


def psutil_children(pid: int) -> list[Any]:
    import psutil

    return psutil.Process(pid).children(recursive=True)


async def test_colours_are_for_terminals_without_no_color(client: RedisQueue, redis_url: str) -> None:
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'saq', 'info', sys.argv[1]]) >> 8)"
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        variables = {"SAQ_TEST_URL": redis_url, "TERM": "xterm", "NO_COLOR": "", **env}
        with closing(Command("-c", code, APP, env=variables)) as command:
            assert await command.end() == 0
            assert ("\x1b[1m" in command.text()) is coloured, env


# jobs, job -------------------------------------------------------------------------------------------------


async def test_jobs_lists_by_state(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue)):
        await client.apply("add", a=1, b=2, timeout=10, key="done")
        await ended(client, await enqueue(client, "fail", key="bad"))
        await enqueue(client, "forever", timeout=0, key="run")
        await until(lambda: client.count("active"))
        await client.pause()
        await client.enqueue("add", a=3, b=4, key="waits", meta={"x": 1})
        later = time.time() + 7230
        await client.enqueue("echo", key="later", scheduled=later, kwargs={"text": "\x1b[2J" + "x" * 100})
        await client.enqueue("add", key="given up")
        await client.abort(Job("", key="given up", queue=client), "enough")

        incomplete = await ask("jobs")
        assert incomplete.code == 0
        rows = [line.split() for line in incomplete.lines]
        assert rows[0] == ["KEY", "FUNCTION", "STATUS", "WHEN", "TRIES", "TOOK", "ARGUMENTS"]
        assert [row[0] for row in rows[1:]] == ["run", "waits", "later"]
        assert "a=3, b=4" in incomplete.text
        assert "in 2 h" in incomplete.text
        assert "\x1b" not in incomplete.text

        expected = {
            "active": ["run"],
            "queued": ["waits"],
            "scheduled": ["later"],
            "finished": ["given up", "done"],
            "complete": ["done"],
            "aborted": ["given up"],
            "failed": ["bad"],
        }
        for state, keys in expected.items():
            found = await ask("jobs", "--json", "--state", state)
            assert [job["key"] for job in found.json] == keys, state
            assert all(job["queue"] == "default" for job in found.json)
        both = await ask("jobs", "--json", "--state", "failed", "--state", "complete")
        assert [(job["key"], job["state"], job["status"]) for job in both.json] == [
            ("bad", "failed", "failed"),
            ("done", "finished", "complete"),
        ]
        assert [job["key"] for job in (await ask("jobs", "--json", "--function", "echo")).json] == ["later"]
        nothing = await ask("jobs", "--function", "nobody's")
        assert nothing.code == 1
        assert "there is no such job" in nothing.text
        unknown = await ask("jobs", "--state", "lost")
        assert unknown.code == 2
        await client.resume()


async def test_jobs_shows_as_many_as_were_asked_for(client: RedisQueue, ask: Ask) -> None:
    await client.enqueue_many(Job("add", {"a": n, "b": 1}, key=f"{n}") for n in range(250))
    some = await ask("jobs")
    assert len(some.lines) == 22
    assert some.lines[-1] == "saq jobs: the first 20 jobs; --limit 0 shows all"
    assert [job["key"] for job in (await ask("jobs", "--json", "--limit", "3")).json] == ["0", "1", "2"]
    everything = await ask("jobs", "--json", "--limit", "0")
    assert [job["key"] for job in everything.json] == [f"{n}" for n in range(250)]
    exactly = await ask("jobs", "--limit", "250")
    assert len(exactly.lines) == 251


async def test_a_long_search_shows_how_far_it_is(client: RedisQueue, redis_url: str) -> None:
    await client.enqueue_many(Job("add", {"a": n, "b": 1}) for n in range(2000))
    code = (
        "import pty, sys\n"
        "words = ['-m', 'saq', 'jobs', sys.argv[1], '--function', 'rare', '--limit', '0']\n"
        "sys.exit(pty.spawn([sys.executable, *words]) >> 8)\n"
    )
    with closing(Command("-c", code, APP, env={"SAQ_TEST_URL": redis_url, "TERM": "xterm"})) as command:
        assert await command.end() == 1
        assert "queued: looked at 1,000 of 2,000" in command.text()


async def test_job_says_all_that_is_known(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue, id="w1")):
        job = await enqueue(client, "fail", key="b\x1bad", retries=2, meta={"asked by": "me"}, priority=7)
        await ended(client, job)
        answer = await ask("job", "b\x1bad")
        await client.apply("echo", key="--dash", text="é", timeout=10)
        dash = await ask("job", "--json", "--", "--dash")
        as_json = (await ask("job", "b\x1bad", "--json")).json
    assert answer.code == 0
    assert answer.lines[0] == "b\N{REPLACEMENT CHARACTER}ad  failed"
    for part in (
        "function   fail",
        "attempts   2 of 2",
        "priority   7",
        '{"asked by": "me"}',
        "worker     w1",
    ):
        assert part in answer.text
    assert "ValueError: as it was told\N{REPLACEMENT CHARACTER}[2J" in answer.text
    assert "\x1b" not in answer.text
    assert [line.split()[0] for line in answer.lines if "ValueError" in line and "w1" in line] == ["1", "2"]
    (found,) = as_json
    assert (found["key"], found["status"], found["retries"]) == ("b\x1bad", "failed", 2)
    assert [attempt["outcome"] for attempt in found["history"]] == ["retried", "failed"]
    assert dash.json[0]["result"] == {"text": "é"}
    missing = await ask("job", "nope")
    assert (missing.code, missing.text) == (
        1,
        "saq job: there is no job 'nope' in the queue 'default' (any more)\n",
    )


# enqueue ---------------------------------------------------------------------------------------------------


async def test_enqueue_reads_values_as_json_and_text_otherwise(
    client: RedisQueue, queue: RedisQueue, ask: Ask
) -> None:
    words = ["n=1", "f=1.5", "t=true", "no=null", "list=[1,2]", 'o={"a": "b"}', "text=hello you", "empty="]
    words += ['quoted="0123"', "nan=NaN", "eq=a=b", "key=this is the function's"]
    expected = {
        "n": 1,
        "f": 1.5,
        "t": True,
        "no": None,
        "list": [1, 2],
        "o": {"a": "b"},
        "text": "hello you",
        "empty": "",
        "quoted": "0123",
        "nan": "NaN",
        "eq": "a=b",
        "key": "this is the function's",
    }
    async with running(worker_of(queue)):
        answer = await ask("enqueue", "echo", *words, "--wait", "--json")
    assert answer.code == 0
    (job,) = answer.json
    assert job["kwargs"] == job["result"] == expected
    assert job["status"] == "complete"


async def test_enqueue_sets_what_is_asked_for_wherever_it_stands(client: RedisQueue, ask: Ask) -> None:
    words = ["--priority", "-5", "b=2", "--timeout", "2m", "--retries", "3", "--ttl", "60", "--in", "10m"]
    answer = await ask("enqueue", "add", "a=1", "--key", "k", *words)
    assert answer.code == 0
    assert "warning: no live worker knows the function 'add'" in answer.text
    assert answer.lines[-1] in ("enqueued k, to run in 10 min", "enqueued k, to run in 9 min 59 s")
    job = await client.job("k")
    assert job is not None
    assert (job.kwargs, job.priority, job.timeout, job.retries, job.ttl) == ({"a": 1, "b": 2}, -5, 120, 3, 60)
    assert 590 < job.scheduled - time.time() <= 600
    again = await ask("enqueue", "add", "--key", "k")
    assert again.code == 1
    assert "a job with the key 'k' is incomplete: nothing was enqueued" in again.text
    at = await ask("enqueue", "add", "--key", "l", "--scheduled", "2099-01-31T08:00:00+00:00", "--json")
    assert at.json[0]["scheduled"] == 4073529600.0


async def test_enqueue_wait_prints_the_result_or_fails(
    client: RedisQueue, queue: RedisQueue, ask: Ask
) -> None:
    async with running(worker_of(queue)):
        assert (await ask("enqueue", "add", "a=1", "b=2", "--wait")).text == "3\n"
        failed = await ask("enqueue", "fail", "--wait", "--key", "bad")
        assert failed.code == 1
        assert "bad failed: Traceback" in failed.text
        assert failed.lines[-1] == "ValueError: as it was told\N{REPLACEMENT CHARACTER}[2J"
        late = await ask("enqueue", "forever", "--wait-for", "200ms", "--key", "long")
        assert late.code == 4
        assert "long did not end in" in late.text
        job = await client.job("long")
        assert job is not None
        assert job.status is Status.ACTIVE
        close = await ask("enqueue", "ad", "a=1")
        assert "Did you mean 'add'?" in close.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: name"),
        (["add", "a"], "'a' is not key=value"),
        (["add", "=1"], "'=1' is not key=value"),
        (["add", "a=1", "a=2"], "the argument 'a' is given more than once"),
        (["add", "--in", "soon"], "'soon' is not a span of time"),
        (["add", "--scheduled", "tomorrow"], "'tomorrow' is not a moment"),
        (["add", "--in", "1m", "--scheduled", "5"], "not allowed with"),
        (["add", "--priority", "high"], "'high' is not a whole number"),
        (["add", "--priority", "99999"], "priority"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_enqueue_refuses_what_cannot_be(words: list[str], says: str, ask: Ask) -> None:
    answer = await ask("enqueue", *words)
    assert answer.code == 2
    assert says in answer.text


# retry, abort ----------------------------------------------------------------------------------------------


async def test_retry_enqueues_finished_jobs_again_and_says_why_it_does_not(
    client: RedisQueue, queue: RedisQueue, ask: Ask
) -> None:
    async with running(worker_of(queue)):
        await client.apply("add", a=1, b=2, key="done", timeout=10)
        await enqueue(client, "forever", key="runs", timeout=0)
        await until(lambda: client.count("active"))
        await client.pause()
        await enqueue(client, "add", a=1, b=1, key="waits")
        answer = await ask("retry", "done", "runs", "waits", "nope")
        assert answer.code == 1
        assert answer.lines[0] == "retried done"
        assert "runs: nothing was changed: the job 'runs' is running" in answer.text
        assert "waits: nothing was changed: it is waiting already" in answer.text
        assert "nope: nothing was changed: there is no such job" in answer.text
        as_json = await ask("retry", "waits", "--json")
        assert as_json.json == [{"key": "waits", "changed": False, "why": "it is waiting already"}]
        await client.resume()
        await ended(client, "done")


async def test_retry_of_all_that_failed(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue)):
        await client.enqueue_many(Job("fail", key=f"f{n}") for n in range(230))
        await until(lambda: nothing_waits(client))
        await client.pause()
        some = await ask("retry", "--failed", "--function", "add")
        assert (some.code, some.text) == (1, "retried 0 jobs\n")
        answer = await ask("retry", "--failed", "--json")
        assert (answer.code, answer.json) == (0, [{"state": "failed", "changed": 230, "unchanged": 0}])
        assert await client.count("queued") == 230
        await client.resume()
        await until(lambda: nothing_waits(client))
    assert (await ask("retry")).code == 2
    assert (await ask("retry", "k", "--failed")).code == 2


async def nothing_waits(client: RedisQueue) -> bool:
    return await client.count("incomplete") == 0


async def test_abort_ends_what_waits_and_what_runs(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue)):
        await enqueue(client, "forever", key="runs", timeout=0)
        await until(lambda: client.count("active"))
        answer = await ask("abort", "runs", "--reason", "enough of it")
        assert (answer.code, answer.text) == (0, "aborted runs\n")
        job = await ended(client, "runs")
        assert (job.status, job.error) == (Status.ABORTED, "enough of it")
        again = await ask("abort", "runs", "nope")
        assert again.code == 1
        assert "runs: nothing was changed: it is aborted" in again.text
    await client.enqueue_many(Job("add", {"a": n, "b": 1}) for n in range(120))
    everything = await ask("abort", "--state", "queued")
    assert (everything.code, everything.text) == (0, "aborted 120 jobs\n")
    assert await client.count("incomplete") == 0
    assert (await ask("abort")).code == 2


# pause, resume, quiet, cron --------------------------------------------------------------------------------


async def test_pause_and_resume(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    async with running(worker_of(queue)):
        assert (await ask("pause")).lines == ["default: paused; 0 still run, 0 wait"]
        again = await ask("pause")
        assert again.code == 0
        assert again.text.startswith("default: was paused already, ")
        job = await enqueue(client, "add", a=1, b=2)
        waits = await ask("enqueue", "add", "a=1", "b=1")
        assert (waits.code, "the queue is paused" in waits.text) == (0, True)
        assert "paused" in (await ask("info")).text
        found = (await ask("pause", "--json")).json[0]
        assert (found["queue"], found["changed"]) == ("default", False)
        assert abs(found["paused"] - time.time() * 1000) < 60_000
        assert (await ask("resume")).lines == ["default: resumed"]
        assert (await ended(client, job)).result == 3
        assert (await ask("resume")).lines == ["default: was not paused"]


async def test_quiet_workers_take_nothing_until_it_is_off(
    client: RedisQueue, queue: RedisQueue, redis_url: str, ask: Ask
) -> None:
    other_queue = RedisQueue.from_url(redis_url)
    async with running(worker_of(queue, id="one")), running(worker_of(other_queue, id="other")):
        await until(lambda: has_workers(client, 2))
        assert (await ask("quiet", "nobody")).code == 1
        several = await ask("quiet", "o")
        assert several.code == 1
        assert "2 workers begin with 'o'" in several.text
        one = await ask("quiet", "one", "--for", "5m")
        assert (one.code, one.text) == (0, "one takes no jobs for 5 min\n")
        jobs = await client.map("echo", [{}] * 6, timeout=10)
        assert len(jobs) == 6
        states = {worker["id"]: worker["state"] for worker in (await ask("workers", "--json")).json}
        assert states == {"one": "quiet", "other": "live"}
        both = await ask("quiet", "--json")
        assert {found["id"] for found in both.json} == {"one", "other"}
        job = await enqueue(client, "add", a=1, b=2)
        # A claim that was under way may have brought it, and is given back.
        await until(lambda: all_wait(client, 1))
        off = await ask("quiet", "oth", "--off")
        assert off.text == "other takes jobs again\n"
        assert (await ended(client, job)).worker_id == "other"
    await other_queue.disconnect()


async def all_wait(client: RedisQueue, count: int) -> bool:
    return (await client.count("queued"), await client.count("active")) == (count, 0)


async def test_cron_lists_entries_with_their_ticks(client: RedisQueue, queue: RedisQueue, ask: Ask) -> None:
    none = await ask("cron")
    assert none.code == 1
    assert "no live worker of the queue 'default' has a cron entry" in none.text
    entries = [CronJob(add, "0 4 * * *", kwargs={"a": 1, "b": 2}), CronJob(forever, "0 5 1 1 *")]
    async with running(worker_of(queue, cron_jobs=entries)):
        await until(lambda: client.views.schedule())
        answer = await ask("cron")
        found = (await ask("cron", "--json")).json
    assert answer.code == 0
    assert answer.lines[0].split() == ["FUNCTION", "CRON", "ZONE", "LAST", "NEXT", "WORKERS", "ARGUMENTS"]
    assert '{"a": 1, "b": 2}' in answer.text
    assert [entry["cron"] for entry in found] == ["0 4 * * *", "0 5 1 1 *"]
    for entry in found:
        assert entry["next"] > time.time() * 1000
        assert entry["workers"] == 1


# Words -----------------------------------------------------------------------------------------------------


def test_spans_read_well() -> None:
    said = {
        0: "0 ms",
        250: "250 ms",
        999.4: "999 ms",
        1000: "1.0 s",
        3249: "3.2 s",
        9960: "10 s",
        59_400: "59 s",
        59_600: "1 min",
        185_000: "3 min 5 s",
        3_600_000: "1 h",
        7_500_000: "2 h 5 min",
        86_400_000: "1 d",
        273_600_000: "3 d 4 h",
        -5: "0 ms",
    }
    assert {ms: span(ms) for ms in said} == said
    assert time_until(5000, 5000) == "now"
    assert time_until(0, 5000) == ""


def test_spans_and_moments_are_read_as_people_write_them() -> None:
    written = {
        "90": 90,
        "10m": 600,
        "1h30m": 5400,
        "250ms": 0.25,
        "2d": 172_800,
        "1.5h": 5400,
        "1 min 5 s": 65,
    }
    assert {text: seconds(text) for text in written} == written
    assert moment("1896073200") == 1896073200
    assert moment("2030-01-31T08:00:00+00:00") == 1896076800


def test_values_that_json_cannot_say_are_shown_all_the_same() -> None:
    assert shown({1, 2}) == '"{1, 2}"'
    assert json.loads(to_json({"result": object})) == {"result": "<class 'object'>"}
    endless: list[Any] = []
    endless.append(endless)
    assert shown(endless) == "[[...]]"
    assert shown("x" * 50, 10) == '"xxxxxxxx…'
