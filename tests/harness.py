"""How async tests run here, and what else makes a test fail: a pytest plugin.

`async def test_...` and async fixtures need no marker. Each test has an event loop of its own,
made when it is first needed; its async fixtures run in the same loop and the same context.
SAQ_TEST_LOOP=uvloop|asyncio chooses the loop, PYTHONASYNCIODEBUG=1 its debug mode.

A test fails that
* takes longer than its timeout (30 s, or `@pytest.mark.timeout(seconds)`): the message says what
  each task waits for;
* leaves a task behind that nobody awaited, or a thread that is no daemon;
* causes an exception that nobody retrieves. What the loop's exception handler was called for is in
  the fixture `loop_errors`: a test that expects some takes them out of it. Exceptions in
  finalizers and threads, and warnings of any kind, are errors by pytest's own means.

To blame the right test, the garbage is collected as each ends. Written here rather than taken
from a plugin, because these checks have to sit between the end of the fixtures and the end of the
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import io
import os
import sys
import threading
import traceback
import tracemalloc  # noqa: F401  # pytest imports it while it handles a ResourceWarning: too late
import warnings
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

import pytest

DEFAULT_TIMEOUT = 30.0

# How often the loop goes round before a task counts as left behind: one that was cancelled as the
# last thing in a test may take a few turns to end, with nobody at fault.
TURNS = 10

# Threads that belong to fixtures of a wider scope than a test.
_known_threads: set[threading.Thread] = set()

# What a test has left behind and caused, in words.
PROBLEMS = pytest.StashKey[list[str]]()


def loop_name() -> str:
    """uvloop where it exists, unless SAQ_TEST_LOOP says otherwise."""
    name = os.environ.get("SAQ_TEST_LOOP", "")
    if name not in ("", "uvloop", "asyncio"):
        raise pytest.UsageError(f"SAQ_TEST_LOOP is uvloop or asyncio, not {name!r}")
    has_uvloop = sys.platform != "win32" and sys.implementation.name == "cpython"
    return name or ("uvloop" if has_uvloop else "asyncio")


def new_event_loop() -> asyncio.AbstractEventLoop:
    if loop_name() == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class Harness:
    """The loop of one test, what went wrong in it, and what it must not leave behind."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self._threads = set(threading.enumerate())
        self._runner: asyncio.Runner | None = None
        self._context = contextvars.copy_context()
        self._fixtures: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    # -- running ------------------------------------------------------------------------------

    def _run(self, main: Coroutine[Any, Any, Any]) -> Any:
        __tracebackhide__ = True
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=new_event_loop)
            self._runner.get_loop().set_exception_handler(lambda _loop, context: self.errors.append(context))
        return self._runner.run(main, context=self._context)

    def _task(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        # One context for all: what a fixture sets in a ContextVar, its test sees.
        return asyncio.get_running_loop().create_task(coro, name=name, context=self._context)

    def run_test(self, coro: Coroutine[Any, Any, Any], timeout: float) -> None:
        __tracebackhide__ = True

        async def main() -> None:
            __tracebackhide__ = True
            task = self._task(coro, "test")
            try:
                done, _ = await asyncio.wait({task}, timeout=timeout)
            except asyncio.CancelledError:  # Ctrl-C
                await self._cancel({task})
                raise
            if not done:
                waiting = "\n".join(describe(task) for task in self._others())
                await self._cancel({task})
                pytest.fail(f"not done after {timeout:g} s; its tasks:\n{waiting}", pytrace=False)
            task.result()

        self._run(main())

    def set_up(self, name: str, made: Any, timeout: float) -> Any:
        """Runs an async fixture up to its value.

        A fixture that yields is one task from its beginning to its end, so that it can yield
        from within a TaskGroup or a timeout.
        """
        __tracebackhide__ = True
        if not inspect.isasyncgen(made):

            async def plain() -> Any:
                __tracebackhide__ = True
                async with asyncio.timeout(timeout):
                    return await made

            return self._run(plain())

        async def life(value: asyncio.Future[Any], end: asyncio.Event) -> None:
            __tracebackhide__ = True
            try:
                value.set_result(await anext(made))
            except BaseException as error:
                value.set_exception(error)
                return
            with contextlib.suppress(StopAsyncIteration):
                try:
                    await end.wait()
                except BaseException as error:  # a TaskGroup it yields from gives up
                    await made.athrow(error)
                    raise
                await anext(made)
                raise RuntimeError(f"the fixture {name} yields more than once")

        async def main() -> Any:
            __tracebackhide__ = True
            value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            end = asyncio.Event()
            task = self._task(life(value, end), f"fixture {name}")
            done, _ = await asyncio.wait({value}, timeout=timeout)
            if not done:
                stack = describe(task)
                await self._cancel({task})
                pytest.fail(f"not set up after {timeout:g} s:\n{stack}", pytrace=False)
            self._fixtures[name] = task, end
            return value.result()

        return self._run(main())

    def tear_down(self, name: str, timeout: float) -> None:
        __tracebackhide__ = True
        if name not in self._fixtures:
            return
        task, end = self._fixtures.pop(name)

        async def main() -> None:
            __tracebackhide__ = True
            end.set()
            done, _ = await asyncio.wait({task}, timeout=timeout)
            if not done:
                stack = describe(task)
                await self._cancel({task})
                pytest.fail(f"not torn down after {timeout:g} s:\n{stack}", pytrace=False)
            task.result()

        self._run(main())

    async def _cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)

    def _others(self) -> list[asyncio.Task[Any]]:
        mine = {asyncio.current_task(), *(task for task, _ in self._fixtures.values())}
        others = [task for task in asyncio.all_tasks() if task not in mine]
        return sorted(others, key=asyncio.Task.get_name)

    # -- the end ------------------------------------------------------------------------------

    def finish(self) -> list[str]:
        """Ends the loop; what the test has left behind and what it has caused, in words."""
        problems = []
        if self._runner is not None:
            problems += self._run(self._leaked_tasks())
            with warnings.catch_warnings(record=True) as caught:
                # uvloop closes what was left open, and warns, in a callback: as an exception, the
                # warning would end that walk, and the loop could not be closed.
                warnings.simplefilter("always", ResourceWarning)
                self._runner.close()
            problems += [f"{w.category.__name__}: {w.message}" for w in caught]
        gc.collect()
        problems += [describe_error(context) for context in self.errors]
        for thread in set(threading.enumerate()) - self._threads - _known_threads:
            if not thread.daemon:
                thread.join(1.0)
                if thread.is_alive():
                    problems.append(f"a thread is left behind: {thread.name}\n{stack_of(thread)}")
        return problems

    async def _leaked_tasks(self) -> list[str]:
        for _ in range(TURNS):
            if not self._others():
                break
            await asyncio.sleep(0)
        leaked = self._others()
        problems = [f"a task is left behind: {describe(task)}" for task in leaked]
        await self._cancel(set(leaked))
        return problems


# -- in words -------------------------------------------------------------------------------------


def describe(task: asyncio.Task[Any]) -> str:
    """A task's name and where it waits, through all that it awaits in turn."""
    out = io.StringIO()
    print(f"{task.get_name()!r}", file=out)
    if task.done():
        task.print_stack(file=out)
        return out.getvalue()
    summary = traceback.StackSummary()
    at: Any = task.get_coro()
    while at is not None:
        frame = first(at, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            break
        summary.extend(traceback.StackSummary.extract(iter([(frame, frame.f_lineno)])))
        at = first(at, "cr_await", "gi_yieldfrom", "ag_await")
    print("".join(summary.format()), end="", file=out)
    return out.getvalue()


def first(thing: object, *names: str) -> Any:
    return next((getattr(thing, name) for name in names if hasattr(thing, name)), None)


def describe_error(context: dict[str, Any]) -> str:
    error = context.get("exception")
    lines = [f"the event loop reports: {context.get('message')}"]
    lines += [
        f"  {key}: {value!r}"
        for key, value in context.items()
        if key not in ("message", "exception", "source_traceback")
    ]
    if error is not None:
        lines.append("".join(traceback.format_exception(error)))
    return "\n".join(lines)


def stack_of(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


# -- pytest's side --------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"timeout(seconds): for an async test, instead of {DEFAULT_TIMEOUT:g} s"
    )


def pytest_report_header() -> str:
    debug = ", debug mode" if os.environ.get("PYTHONASYNCIODEBUG") else ""
    return f"event loop: {loop_name()}{debug}"


def pytest_collection_finish() -> None:
    # What exists by now stays: out of the collector's sight, a collection after each test is cheap.
    gc.collect()
    gc.freeze()


def timeout_of(item: Any) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else DEFAULT_TIMEOUT


@pytest.fixture(autouse=True)
def _harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    # As the first fixture of a test it is the last to be torn down. A hook would not do: pytest
    # looks for exceptions in finalizers before a hook could have collected the garbage.
    harness = Harness()
    yield harness
    if request.node.funcargs:  # None after a Ctrl-C
        request.node.funcargs.clear()  # what fixtures returned is garbage by now, too
    request.node.stash[PROBLEMS] = harness.finish()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    # Only here does the test fail: raised by the fixture, the problems would keep pytest from
    # looking for more, and the next test would be blamed for those.
    try:
        yield
    except BaseException as error:
        for problem in item.stash.get(PROBLEMS, []):
            error.add_note(problem)
        raise
    if problems := item.stash.get(PROBLEMS, []):
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def loop_errors(_harness: Harness) -> list[dict[str, Any]]:
    """The contexts the loop's exception handler was called with; those left in it at the end of
    the test fail it."""
    return _harness.errors


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    __tracebackhide__ = True
    function: Any = pyfuncitem.obj
    harness: Any = pyfuncitem.funcargs["_harness"]
    if hasattr(function, "hypothesis"):
        run_examples(function.hypothesis, harness, timeout_of(pyfuncitem))
        return None
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in pyfuncitem._fixtureinfo.argnames  # those in the signature, not the autoused
    }
    harness.run_test(function(**arguments), timeout_of(pyfuncitem))
    return True


def run_examples(hypothesis: Any, harness: Harness, timeout: float) -> None:
    """Under `@given`, each example of an async test runs in the test's loop, one by one."""
    function = getattr(hypothesis.inner_test, "is_async", hypothesis.inner_test)
    if not inspect.iscoroutinefunction(function):
        return

    def example(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        harness.run_test(function(*args, **kwargs), timeout)

    example.is_async = function  # type: ignore[attr-defined]
    hypothesis.inner_test = example


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    function: Any = fixturedef.func
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        before = set(threading.enumerate())
        result = yield
        if fixturedef.scope != "function":
            _known_threads.update(set(threading.enumerate()) - before)
        return result
    name = fixturedef.argname
    if fixturedef.scope != "function":
        pytest.fail(f"the async fixture {name} outlives the loop of its test", pytrace=False)
    harness: Harness = request.getfixturevalue("_harness")

    def set_up(**arguments: Any) -> Any:
        __tracebackhide__ = True
        bound = function
        if request.instance is not None and hasattr(function, "__self__"):
            bound = function.__func__.__get__(request.instance)
        request.addfinalizer(lambda: harness.tear_down(name, timeout_of(request.node)))
        return harness.set_up(name, bound(**arguments), timeout_of(request.node))

    # pytest calls what looks like an ordinary function, and does the rest as for any fixture.
    fixturedef.func = set_up  # type: ignore[misc]
    try:
        return (yield)
    finally:
        fixturedef.func = function  # type: ignore[misc]
