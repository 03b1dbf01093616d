"""A worker as a process of its own.

Owns the event loop of a process that only works: which kind it is, and the web interface beside the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from saq.errors import MissingDependencyError, SaqError
from saq.queue.base import Queue
from saq.worker.worker import Worker

logger = logging.getLogger("saq")

#: Seconds that is given to what is still in the loop when all is over.
LAST_MOMENT = 1.0

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end in a new loop: uvloop where it exists.

    What is left in the loop then is cancelled, and given a moment: unlike with ``asyncio.run``, a function
    that swallows every cancellation does not keep the process from ending.
    """
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        make_loop = uvloop.new_event_loop
    runner = asyncio.Runner(loop_factory=make_loop)
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


def start(
    settings: str,
    web: bool = False,
    extra_web_settings: list[str] | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    insecure: bool = False,
) -> None:
    """Works until it is told to stop.

    Args:
        settings: path of the settings.
        web: serve the web interface as well.
        extra_web_settings: paths of settings whose queues it shows, too.
        port, host: where it listens; another address than the loopback needs a password or ``insecure``.

    Raises:
        SettingsError: the settings cannot be used.
        UnreachableError: the server is not there.
    """
    from saq.settings import import_settings, queues_of

    worker: Worker[Any] = Worker(**import_settings(settings))
    extra = [queue for path in extra_web_settings or () for queue in queues_of(import_settings(path))]
    run_loop(_work(worker, [*worker.queues, *extra] if web else [], host, port, insecure))


async def _work(worker: Worker[Any], shown: list[Queue], host: str, port: int, insecure: bool) -> None:
    async with AsyncExitStack() as stack:
        for queue in worker.queues:
            stack.push_async_callback(queue.disconnect)
        if len(worker.queues) == 1:
            # Said at once. One of several may be away; the worker says it if all are.
            await worker.queue.connect()
        _stop_with_parent(worker)
        if shown:
            try:
                from saq.web.aiohttp import serve
            except ImportError as error:
                raise MissingDependencyError(
                    'the web interface needs aiohttp: pip install "saq[web]"'
                ) from error
            for queue in shown[len(worker.queues) :]:
                stack.push_async_callback(queue.disconnect)
            await stack.enter_async_context(serve(shown, host, port, insecure=insecure))
        await worker.start()


def _stop_with_parent(worker: Worker[Any]) -> None:
    """A child whose supervisor was killed has nobody left to stop it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()

        def orphaned() -> None:
            loop.remove_reader(parent.sentinel)
            logger.warning("The supervisor has died: worker %s stops", worker.id)
            worker.event.set()

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
        print(f"{queue.name}: {error}", file=sys.stderr)
        return 1
    finally:
        await queue.disconnect()
    if not workers:
        logger.warning("The queue %s has no live worker", queue.name)
        return 1
    logger.info("The queue %s has %d live workers", queue.name, len(workers))
    return 0
