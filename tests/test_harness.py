"""The checks of tests/harness.py, seen from outside: each of these inner tests must fail, and say
why; the good ones must pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

INNER = """
import asyncio
import contextvars
import gc
import socket
import threading
import warnings

import pytest
from hypothesis import given, settings, strategies as st

EVENTS = []
VALUE = contextvars.ContextVar("value", default=None)


@pytest.fixture
async def plain():
    return asyncio.get_running_loop()


@pytest.fixture
async def lived(plain):
    VALUE.set("set by a fixture")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        yield group, asyncio.get_running_loop()
        EVENTS.append("torn down")


@pytest.fixture(scope="module")
def thread_of_the_module():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.fixture
def number():
    return 1


async def test_good_fixtures_share_loop_and_context(plain, lived):
    group, loop = lived
    assert plain is loop is asyncio.get_running_loop()
    assert VALUE.get() == "set by a fixture"
    task = group.create_task(asyncio.sleep(0, "result"))
    assert await task == "result"


def test_good_fixture_was_torn_down():
    assert EVENTS == ["torn down"]


async def test_good_context_is_new():
    assert VALUE.get() is None


def test_good_sync_test_with_async_fixture(plain):
    assert not plain.is_closed()


@pytest.mark.parametrize("n", [1, 2])
async def test_good_parametrized(n, number):
    await asyncio.to_thread(lambda: n + number)


async def test_good_cancelled_task_that_nobody_awaits():
    asyncio.create_task(asyncio.sleep(60)).cancel()


async def test_good_expected_error(loop_errors):
    asyncio.get_running_loop().call_exception_handler({"message": "expected"})
    assert loop_errors.pop()["message"] == "expected"


def test_good_thread_of_a_wider_fixture(thread_of_the_module):
    pass


async def test_good_skip():
    pytest.skip("from within")


@settings(max_examples=5)
@given(st.integers())
async def test_good_given(n):
    await asyncio.sleep(0)
    assert isinstance(n, int)


class TestInAClass:
    @pytest.fixture
    async def own(self):
        yield self

    async def test_good_method(self, own):
        assert own is self


def test_good_debug_mode():
    loop = asyncio.new_event_loop()
    loop.close()


async def test_bad_assertion():
    assert 1 == 2


async def test_bad_task_left_behind():
    async def waits_for_ever():
        await asyncio.sleep(3600)

    test_bad_task_left_behind.task = asyncio.create_task(waits_for_ever(), name="forgotten")


async def test_bad_exception_nobody_retrieves():
    async def fails():
        raise LookupError("nobody sees this")

    asyncio.create_task(fails())
    await asyncio.sleep(0)


async def test_bad_exception_in_a_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)


async def test_bad_future_nobody_retrieves():
    asyncio.get_running_loop().create_future().set_exception(LookupError("alone"))


def test_bad_socket_in_a_cycle():
    cycle = [socket.socket()]
    cycle.append(cycle)


async def test_bad_open_transport():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
    cycle = [writer]
    cycle.append(cycle)


def test_bad_finalizer():
    class Bad:
        def __del__(self):
            raise LookupError("in a finalizer")

    Bad()


def test_bad_exception_in_a_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()


END = threading.Event()


def test_bad_thread_left_behind():
    threading.Thread(target=END.wait, name="forgotten thread").start()


def test_good_after_it():
    END.set()


async def test_bad_coroutine_never_awaited():
    asyncio.sleep(0)


def test_bad_warning():
    warnings.warn("old", DeprecationWarning)


@pytest.mark.timeout(0.2)
async def test_bad_too_long():
    async def inner():
        await asyncio.sleep(3600)

    await asyncio.create_task(inner(), name="the slow one")


@pytest.fixture
async def group_that_fails():
    async with asyncio.TaskGroup() as group:
        yield group


async def test_bad_task_in_the_group_of_a_fixture(group_that_fails):
    async def fails():
        raise LookupError("in the group")

    group_that_fails.create_task(fails())
    await asyncio.sleep(0)


@pytest.fixture
async def twice():
    yield 1
    yield 2


async def test_bad_fixture_that_yields_twice(twice):
    pass


@pytest.fixture(scope="module")
async def too_wide():
    yield


async def test_bad_async_fixture_of_a_module(too_wide):
    pass


@settings(max_examples=5)
@given(st.integers())
async def test_bad_given(n):
    assert n != n


def test_good_last():
    gc.collect()
"""

# What the failure of each bad test has to say.
SAYS = {
    "assertion": "assert 1 == 2",
    "task_left_behind": "a task is left behind: 'forgotten'.*in waits_for_ever",
    "exception_nobody_retrieves": "never retrieved.*nobody sees this",
    "exception_in_a_callback": "ZeroDivisionError",
    "future_nobody_retrieves": "never retrieved.*alone",
    "socket_in_a_cycle": "ResourceWarning: unclosed <socket",
    "open_transport": "ResourceWarning: unclosed",
    "finalizer": "in a finalizer",
    "exception_in_a_thread": "ZeroDivisionError",
    "thread_left_behind": "a thread is left behind: forgotten thread.*in wait",
    "coroutine_never_awaited": "was never awaited",
    "warning": "DeprecationWarning: old",
    "too_long": "not done after 0.2 s.*'the slow one'.*in inner",
    "task_in_the_group_of_a_fixture": "in the group",
    "fixture_that_yields_twice": "yields more than once",
    "async_fixture_of_a_module": "too_wide outlives the loop",
    "given": "assert n != n",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of the inner tests, each run once, in a process of their own."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "test_inner.py").write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-p", "tests.harness", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-rA", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def outcomes(report: str) -> dict[str, set[str]]:
    summary = report.partition("short test summary info")[2]
    found: dict[str, set[str]] = {}
    for line in re.finditer(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", summary, re.MULTILINE):
        found.setdefault(line[2], set()).add(line[1])
    return found


def test_the_good_ones_pass_and_the_bad_ones_fail(report: str):
    found = outcomes(report)
    bad = {name for name, said in found.items() if said != {"PASSED"}}
    assert bad == {f"test_bad_{name}" for name in SAYS}
    good = set(re.findall(r"def (test_good_\w+)", INNER)) - {"test_good_skip"}
    assert good <= found.keys() - bad
    assert "from within" in report


@pytest.mark.parametrize("name", SAYS)
def test_it_says_why(report: str, name: str):
    parts = re.split(r"^_{3,} .*?(test_\w+)(?:\[.*\])? _{3,}$", report, flags=re.MULTILINE)
    said = "\n".join(
        text for head, text in zip(parts[1::2], parts[2::2], strict=True) if head == f"test_bad_{name}"
    )
    assert re.search(SAYS[name], said, re.DOTALL), said or report
