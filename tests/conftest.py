"""What all tests share: the server they run on, and the line that says which.

SAQ_TEST_SERVER=embedded|redis62|path or an absolute path chooses the server (embedded if unset).
How async tests run, and SAQ_TEST_LOOP, is in tests/harness.py.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.servers import Server, ServerNotFound, find_server, server_version

pytest_plugins = ["tests.harness"]

SERVER_KIND = os.environ.get("SAQ_TEST_SERVER") or "embedded"

MakeServer = Callable[..., Server]


def pytest_configure() -> None:
    """What is started here hears what it is sent, though this run is in the background or under nohup."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_report_header() -> list[str]:
    try:
        binary = find_server(SERVER_KIND)
        server = f"{server_version(binary)} ({SERVER_KIND}: {binary})"
    except ServerNotFound as error:
        server = f"none: {error}"
    return [
        f"saq: {platform.python_implementation()} {platform.python_version()}"
        f", redis-py {installed('redis')}, hiredis {installed('hiredis')}, speedups {speedups()}",
        f"server: {server}",
    ]


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def speedups() -> str:
    try:
        from saq import _speedups
    except ImportError:
        return "none"
    compiled = getattr(_speedups, "COMPILED", None)
    if compiled is None:
        return "none"
    return f"{'compiled' if compiled else 'uncompiled'} ({_speedups.FILE})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Jobs fail here with text that no encoding takes, and a report has to reach another process."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The one server that most tests share. Who changes its configuration, stops it or fills it
    up takes one from `make_server` instead."""
    with Server(SERVER_KIND) as server:
        yield server


@pytest.fixture
def redis_url(server: Server) -> str:
    """The address of the shared server, emptied."""
    server.start()  # nothing to do, unless the last test has brought it down
    server.flush()
    return server.url()


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Starts servers of a test's own: `make_server(appendonly="yes")`, with the parameters of
    `Server`; its kind is that of all tests unless given."""
    with ExitStack() as servers:

        def make(kind: str = SERVER_KIND, **options: object) -> Server:
            return servers.enter_context(Server(kind, **options))  # type: ignore[arg-type]

        yield make
