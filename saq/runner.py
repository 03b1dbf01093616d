"""What the command line runs when it is given settings.

Owns the way from its options to one worker in this process, or to a supervisor of several. Must not supervise
or work itself.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import NamedTuple

from saq import logs
from saq.errors import SaqError
from saq.logs import hide_secrets
from saq.queue.base import Queue
from saq.settings import import_settings, queues_of
from saq.worker.lifeline import CODES, SIGNALLED, Failed, Lifeline
from saq.worker.membership import checkup
from saq.worker.process import NO_LIMITS, Limits, check_health, start
from saq.worker.signals import Early
from saq.worker.supervisor import Supervisor
from saq.worker.worker import Worker

logger = logging.getLogger("saq")

#: Seconds that it may take to take away the registration of a worker that died, and all of them in the end.
BURIAL = 5.0


class Work(NamedTuple):
    """What each worker process does, as `run` was asked."""

    settings: str
    verbose: int
    quiet: bool
    log_format: str
    web: bool
    extra_web_settings: list[str] | None
    port: int
    host: str
    insecure: bool
    read_only: bool
    redact: str | None
    metrics_port: int | None
    metrics_host: str
    limits: Limits

    def begin(self, parent: Lifeline | None = None, slot: int = 0) -> int:
        """Works in this process until it is told to stop; returns the exit code."""
        ending = start(
            self.settings,
            self.web and slot == 0,
            self.extra_web_settings,
            self.port,
            self.host,
            self.insecure,
            self._metrics_port(slot),
            self.metrics_host,
            read_only=self.read_only,
            redact=self.redact,
            limits=self.limits,
            parent=parent,
        )
        return CODES[ending] if parent is not None else 0

    def _metrics_port(self, slot: int) -> int | None:
        """One for each process: the first has the one that was given, the next the one above, and so on."""
        return self.metrics_port + slot if self.metrics_port else self.metrics_port


def run(
    settings: str,
    /,
    *,
    workers: int = 1,
    verbose: int = 0,
    web: bool = False,
    extra_web_settings: list[str] | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    insecure: bool = False,
    read_only: bool = False,
    redact: str | None = None,
    metrics_port: int | None = None,
    metrics_host: str = "127.0.0.1",
    check: bool = False,
    quiet: bool = False,
    log_format: str = "text",
    max_jobs: int | None = None,
    max_memory: int | None = None,
    reload: bool = False,
    reload_dirs: Sequence[str] = (),
) -> None:
    """Runs workers until they are told to stop; with ``check``, only looks whether there are any.

    Several workers, and those that are to be replaced (``max_jobs``, ``max_memory`` in bytes, ``reload``),
    are processes of their own, and this one supervises them.

    Ends the process with an exit code where there is something to say by one.
    """
    limits = Limits(max_jobs, max_memory)
    several = workers > 1 or reload or limits != NO_LIMITS
    try:
        early = Early(alone=not several)  # from here on, to be told to stop is a KeyboardInterrupt
        if not quiet:
            logs.configure(verbose, log_format)
        if check:
            sys.exit(check_health(settings))
        work = Work(
            settings,
            verbose,
            quiet,
            log_format,
            web,
            extra_web_settings,
            port,
            host,
            insecure,
            read_only,
            redact,
            metrics_port,
            metrics_host,
            limits,
        )
        if several:
            sys.exit(_supervise(work, workers, reload, reload_dirs, early))
        work.begin()
    except KeyboardInterrupt:
        pass
    except SaqError as error:
        if verbose > 1:
            raise
        print(f"saq: {hide_secrets(str(error))}", file=sys.stderr)
        sys.exit(_code_of(error))


def _code_of(error: SaqError) -> int:
    return 2 if isinstance(error, ValueError) else 1


def _supervise(work: Work, workers: int, reload: bool, reload_dirs: Sequence[str], early: Early) -> int:
    watch = None
    if reload or reload_dirs:
        from saq.worker.reload import watcher

        watch = watcher(reload_dirs or ["."])
    found = import_settings(work.settings)
    Worker(**found)  # what is wrong with them is said once, not by each process
    if work.metrics_port is not None:
        from saq.observe.server import check as check_ports

        check_ports(work.metrics_port, workers, work.metrics_host)
    undertaker = _Undertaker(queues_of(found))
    supervisor = Supervisor(
        workers,
        _work,
        (work,),
        alone=range(workers) if work.metrics_port else {0} if work.web else (),
        bury=undertaker.bury,
        held=early.held,
        watch=watch,
    )
    code = supervisor.run()
    undertaker.close()
    return code


def _work(parent: Lifeline, slot: int, work: Work) -> None:
    """One of several worker processes; the first serves the web page, and says how the server is set up."""
    if not work.quiet:
        logs.configure(work.verbose, work.log_format)
    if slot > 0:
        checkup.setLevel(logging.ERROR)
    try:
        code = work.begin(parent, slot)
    except KeyboardInterrupt:
        code = SIGNALLED
    except SaqError as error:
        if work.verbose > 1:
            logger.exception("A worker cannot start")
        code = _code_of(error)
        parent.tell(Failed(hide_secrets(str(error)), code))
    sys.exit(code)


class _Undertaker:
    """Takes away the registrations of workers whose processes have died, in a thread of its own."""

    def __init__(self, queues: Sequence[Queue]) -> None:
        self._queues = queues
        self._dead: SimpleQueue[str | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def bury(self, worker: str) -> None:
        """Takes away the registration of this worker, soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="saq-undertaker", daemon=True)
            self._thread.start()
        self._dead.put(worker)

    def _run(self) -> None:
        while (worker := self._dead.get()) is not None:
            asyncio.run(self._take_away(worker))

    async def _take_away(self, worker: str) -> None:
        await asyncio.gather(*(self._take_away_from(queue, worker) for queue in self._queues))

    async def _take_away_from(self, queue: Queue, worker: str) -> None:
        try:
            async with asyncio.timeout(BURIAL):
                await queue.register(worker, {}, (), 0)  # type: ignore[typeddict-item]
                await queue.disconnect()
            logger.info("The registration of the dead worker %s is taken away", worker)
        except Exception as error:
            logger.warning("The registration of the dead worker %s stays until it ends: %s", worker, error)

    def close(self) -> None:
        """Does what is left to do, for so long as one takes."""
        if self._thread is not None:
            self._dead.put(None)
            self._thread.join(BURIAL)
