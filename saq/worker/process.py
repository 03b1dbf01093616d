"""A worker as a process of its own.

Owns the event loop of a process that only works: which kind it is, what the process does beside the worker
(the web interface, signals, limits), and what it tells its parent, if it is one of several.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeVar

from saq.errors import MissingDependencyError, SaqError, UsageError
from saq.logs import hide_secrets
from saq.queue.base import Queue
from saq.worker.lifeline import CODES, Begun, Born, Leaving, Lifeline, Over
from saq.worker.memory import in_words, resident
from saq.worker.parts import Ending
from saq.worker.signals import GO_ON, HOLD, REPLACE, STOP, Early, can_catch, catch
from saq.worker.worker import Worker

logger = logging.getLogger("saq")

#: Seconds that is given to what is still in the loop when all is over.
LAST_MOMENT = 1.0
#: Seconds between two looks at the memory of the process.
LOOK_AT_LIMITS = 0.5

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end in a new loop: uvloop where it exists.

    What is left in the loop then is cancelled, and given a moment: unlike with ``asyncio.run``, a function
    that swallows every cancellation does not keep the process from ending.
    """
    try:
        make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
        with contextlib.suppress(ImportError):
            import uvloop

            make_loop = uvloop.new_event_loop
        return _run(asyncio.Runner(loop_factory=make_loop), main)
    finally:
        if inspect.getcoroutinestate(main) == inspect.CORO_CREATED:
            main.close()  # it was told to stop before it had begun


def _run(runner: asyncio.Runner, main: Coroutine[Any, Any, T]) -> T:
    try:
        return runner.run(main)
    finally:
        loop = runner.get_loop()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        stubborn = loop.run_until_complete(asyncio.wait(left, timeout=LAST_MOMENT))[1] if left else ()
        if stubborn:
            logger.warning("%d functions do not end and are left behind", len(stubborn))
            for task in stubborn:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        else:
            runner.close()


class Limits(NamedTuple):
    """When a worker retires: after so many jobs, or with so many bytes of memory."""

    jobs: int | None = None
    memory: int | None = None


NO_LIMITS = Limits()


def start(
    settings: str,
    web: bool = False,
    extra_web_settings: list[str] | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    insecure: bool = False,
    metrics_port: int | None = None,
    metrics_host: str = "127.0.0.1",
    *,
    read_only: bool = False,
    redact: str | None = None,
    limits: Limits = NO_LIMITS,
    parent: Lifeline | None = None,
) -> Ending:
    """Works until it is told to stop, or has reached a limit. Returns why it ended.

    Args:
        settings: path of the settings.
        web: serve the web interface as well.
        extra_web_settings: paths of settings whose queues it shows, too.
        port, host: where it listens; another address than the loopback needs a password or ``insecure``.
        read_only: nothing may be changed there.
        redact: path of a function that hides or replaces what it shows.
        metrics_port, metrics_host: where metrics and health are served; None is nowhere.
        limits: after these it takes no more jobs, and ends when those that run have ended.
        parent: whom to tell how it goes, if it is one of several; an ``id`` in the settings gets the number
            of the process behind it then.

    Raises:
        SettingsError: the settings cannot be used.
        UnreachableError: the server is not there.
        KeyboardInterrupt: it was told to stop before it had begun.
    """
    from saq.settings import import_function, import_settings, queues_of

    early = Early(alone=parent is None, held=parent is not None and parent.held)
    found = import_settings(settings)
    extra = [queue for path in extra_web_settings or () for queue in queues_of(import_settings(path))]
    if parent is not None and found.get("id") is not None:
        found["id"] = f"{found['id']}-{os.getpid()}"
    worker: Worker[Any] = Worker(**found)
    worker.max_jobs = limits.jobs
    if parent is not None:
        parent.tell(Born(worker.id, found.get("shutdown_grace_period_s") or 0))
    warden = _Warden(worker, limits, parent, early)
    shown = [*worker.queues, *extra] if web else []
    page = {
        "host": host,
        "port": port,
        "insecure": insecure,
        "read_only": read_only,
        "redact": None if redact is None else import_function(redact),
    }
    metrics = None if metrics_port is None else (metrics_port, metrics_host)
    run_loop(_work(worker, warden, shown, page, metrics))
    if parent is not None:
        parent.tell(Over())  # if something still keeps the process, that one ends it
    else:
        for signum in (*STOP, HOLD, GO_ON, REPLACE):
            catch(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    return worker.ending


async def _work(
    worker: Worker[Any],
    warden: _Warden,
    shown: list[Queue],
    page: dict[str, Any],
    metrics: tuple[int, str] | None,
) -> None:
    async with AsyncExitStack() as stack:
        if shown or metrics:
            from saq.observe.monitor import Monitor

            monitor = Monitor(worker)
        if metrics:
            from saq.observe.server import serve as serve_metrics

            await stack.enter_async_context(serve_metrics(monitor, *metrics))
        for queue in worker.queues:
            stack.push_async_callback(queue.disconnect)
        if len(worker.queues) == 1:
            # Said at once. One of several may be away; the worker says it if all are.
            await worker.queue.connect()
        _stop_with_parent()
        if shown:
            try:
                from saq.web.aiohttp import serve
            except ImportError as error:
                raise MissingDependencyError(
                    'the web interface needs aiohttp: pip install "saq[web]"'
                ) from error
            for queue in shown[len(worker.queues) :]:
                stack.push_async_callback(queue.disconnect)
            await stack.enter_async_context(serve(shown, **page))
        await stack.enter_async_context(warden)
        await worker.start()


class _Warden:
    """Looks after a worker from its own process: signals that are not for stopping, limits, its parent."""

    def __init__(self, worker: Worker[Any], limits: Limits, parent: Lifeline | None, early: Early) -> None:
        self._worker = worker
        self._early = early
        self._limits = limits
        self._parent = parent
        self._tasks: set[asyncio.Task[None]] = set()
        self._said_leaving = False

    async def __aenter__(self) -> None:
        worker = self._worker
        if self._limits.memory is not None:
            self._check_memory(self._limits.memory)
        worker.hold(self._early.held)
        worker.on_begun = self._on_begun
        for signum, act in self._signals().items():
            asyncio.get_running_loop().add_signal_handler(signum, act)

    async def __aexit__(self, *_: object) -> None:
        for signum in self._signals():
            asyncio.get_running_loop().remove_signal_handler(signum)
            catch(signum, _ignore)  # it is all over: what comes now changes nothing
        for signum in STOP:
            catch(signum, _ignore)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _signals(self) -> dict[signal.Signals, Callable[[], None]]:
        replace = self._stop if self._parent is None else self._worker.retire
        acts = {HOLD: self._hold, GO_ON: self._go_on, REPLACE: replace}
        return {signum: act for signum, act in acts.items() if can_catch(signum)}

    def _start(self, main: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(main, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_begun(self) -> None:
        if self._parent is not None:
            self._parent.tell(Begun())
            self._start(self._tell_end(), "saq-tell-end")
        if self._limits != NO_LIMITS:
            self._start(self._watch_limits(), "saq-limits")

    def _stop(self) -> None:
        if not self._worker.event.is_set():
            logger.info("SIGHUP: no more jobs are taken")
            self._start(self._worker.stop(), "saq-hangup")

    def _hold(self) -> None:
        self._set_held(True)

    def _go_on(self) -> None:
        self._set_held(False)

    def _set_held(self, held: bool) -> None:
        if self._worker.held is not held:
            self._worker.hold(held)
            self._start(self._report(), "saq-report")

    async def _report(self) -> None:
        try:
            await self._worker.report_now()
        except SaqError as error:
            logger.warning("It is not shown yet: %s", error)  # the next registration shows it

    async def _tell_end(self) -> None:
        await self._worker.event.wait()
        if CODES[self._worker.ending]:
            self._say_leaving()

    def _say_leaving(self) -> None:
        if self._parent is not None and not self._said_leaving:
            self._said_leaving = True
            self._parent.tell(Leaving())

    async def _watch_limits(self) -> None:
        worker, most = self._worker, self._limits.memory
        while True:
            if worker.spent:
                self._say_leaving()
            elif most is not None and (size := resident() or 0) > most:
                logger.info("Worker %s holds %s of memory, more than --max-memory", worker.id, in_words(size))
                worker.retire()
            await asyncio.sleep(LOOK_AT_LIMITS)

    @staticmethod
    def _check_memory(most: int) -> None:
        size = resident()
        if size is None:
            raise UsageError("--max-memory: this platform does not say how much memory a process has")
        if size >= most:
            raise UsageError(
                f"--max-memory {in_words(most)} is too little: a worker holds {in_words(size)} before its "
                "first job"
            )


def _ignore(signum: int, frame: object) -> None:
    pass


def _stop_with_parent() -> None:
    """A child whose supervisor was killed has nobody left to stop it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()

        def orphaned() -> None:
            loop.remove_reader(parent.sentinel)
            logger.warning("The supervisor has died: its workers stop")
            signal.raise_signal(signal.SIGTERM)  # whoever listens for that at present

        loop.add_reader(parent.sentinel, orphaned)


def check_health(settings: str) -> int:
    """0 if each queue of these settings has live workers, else 1."""
    from saq.settings import import_settings, queues_of

    return run_loop(_check_all(queues_of(import_settings(settings))))


async def _check_all(queues: Sequence[Queue]) -> int:
    return max([await _check_health(queue) for queue in queues])


async def _check_health(queue: Queue) -> int:
    try:
        workers = (await queue.info())["workers"]
    except SaqError as error:
        logger.error("Health check of %s failed: %s", queue.name, error)
        print(hide_secrets(f"{queue.name}: {error}"), file=sys.stderr)
        return 1
    finally:
        await queue.disconnect()
    if not workers:
        logger.warning("The queue %s has no live worker", queue.name)
        return 1
    logger.info("The queue %s has %d live workers", queue.name, len(workers))
    return 0
