"""The demo as it goes: a worker, a web page and a client in one process.

Owns the order of what happens and when it ends. Must not parse a command line, and must not start a server:
it is given the address of one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import logging
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.exceptions import RedisError

from saq import CronJob, Job, Queue, Status, Worker
from saq.demo import report, work
from saq.demo.report import FileResult, Outcome
from saq.errors import SaqError, UsageError
from saq.queue import JobError
from saq.queue.redis import RedisQueue
from saq.queue.redis.keys import prefix
from saq.terminal.screen import Screen, bar, plural, printable

#: The scheduled job is so many seconds ahead.
AHEAD = 2.0
#: Seconds between two looks at the queue, for the progress line.
LOOK_EVERY = 0.1
#: Without any job ending for so many seconds, something is broken: say so rather than wait for ever.
STUCK_AFTER = 120.0
#: Six fields: the sixth is seconds.
EVERY_SECOND = "* * * * * *"
HOST = "127.0.0.1"

INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was asked for."""

    folder: str
    names: list[str]
    url: str
    server: str
    once: bool
    port: int
    concurrency: int
    rows: int
    #: Whether the server is ours alone.
    private: bool


class Demo:
    """One showing."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        name = "demo" if plan.private else f"demo-{secrets.token_hex(3)}"
        self._queue = Queue.from_url(plan.url, name=name)
        self._ticks: list[float] = []
        self._ticked = asyncio.Event()
        self._outcome = Outcome()
        self._stop = asyncio.Event()
        self._files_end = 0.0
        self._began = 0.0
        self._shown = False

    async def run(self) -> int:
        """Shows it; returns the exit code."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._queue.disconnect)
            await self._queue.connect()
            if not self._plan.private:
                stack.push_async_callback(self._tidy)
            stack.callback(self._take_signals())
            stack.callback(self._screen.end_status)
            worker = self._make_worker()
            address = await stack.enter_async_context(self._web())
            self._introduce(address)
            working = asyncio.create_task(worker.start(), name="demo-worker")
            stack.push_async_callback(_end_worker, working)
            code = await self._until_stopped(working, address)
            self._screen.end_status()
            return code

    def _make_worker(self) -> Worker[Any]:
        worker: Worker[Any] = Worker(
            self._queue,
            [work.fingerprint, work.words, work.later, work.stumble],
            cron_jobs=[CronJob(work.tick, EVERY_SECOND)],
            concurrency=self._plan.concurrency,
            id="demo",
        )
        worker.SIGNALS = []  # type: ignore[misc]  # Ctrl-C ends the demo, which ends the worker
        worker.context.update(ticks=self._ticks, ticked=self._ticked)
        return worker

    def _introduce(self, web: str) -> None:
        screen, plan = self._screen, self._plan
        files = plural(len(plan.names), "file")
        screen.say(f"{screen.style('saq demo', 'bold')}: {files} below {printable(plan.folder)}")
        screen.say()
        screen.say(f"  server  {plan.server}")
        screen.say(f"  worker  {plural(plan.concurrency, 'job')} at a time, in this process")
        screen.say(f"  web     {web}")
        screen.say()

    @asynccontextmanager
    async def _web(self) -> AsyncIterator[str]:
        """The web page, if it can be served; what to say of it."""
        if importlib.util.find_spec("aiohttp") is None:
            yield 'not shown: it needs aiohttp (pip install "saq[web]")'
            return
        async with AsyncExitStack() as stack:
            try:
                from saq.web.aiohttp import serve

                try:
                    said = await stack.enter_async_context(serve([self._queue], HOST, self._plan.port))
                except UsageError:  # the port is not to be had: any other will do
                    said = await stack.enter_async_context(serve([self._queue], HOST, 0))
                    said += f"  (port {self._plan.port} is not free)"
            except (ImportError, SaqError) as error:
                said = f"not shown: {error}"
            yield said

    async def _until_stopped(self, working: asyncio.Task[None], address: str) -> int:
        showing = asyncio.create_task(self._show(address), name="demo-show")
        stopped = asyncio.create_task(self._stop.wait(), name="demo-stop")
        try:
            await asyncio.wait({showing, stopped, working}, return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                return showing.result()
            if working.done():
                working.result()
                raise RuntimeError("the worker ended by itself")
        finally:
            for task in (showing, stopped):
                task.cancel()
            await asyncio.gather(showing, stopped, return_exceptions=True)
        screen = self._screen
        screen.end_status()
        if not self._shown:
            screen.say(f"Interrupted: {self._done:,} of {self._expected:,} jobs had ended.")
        if self._plan.once:
            return INTERRUPTED
        return 1 if self._outcome.unexpected else 0

    async def _show(self, address: str) -> int:
        self._began = time.monotonic()
        progress = asyncio.create_task(self._progress(), name="demo-progress")
        doing = asyncio.create_task(self._work(), name="demo-work")
        try:
            await asyncio.wait({progress, doing}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                progress.result()  # it raises: nothing moved for too long
            doing.result()
        finally:
            for task in (progress, doing):
                task.cancel()
            await asyncio.gather(progress, doing, return_exceptions=True)
            self._screen.end_status()
        if not self._screen.terminal:
            self._screen.say(self._line(self._done, "", time.monotonic() - self._began))
            self._screen.say()
        self._shown = True
        report.show(self._screen, self._outcome, self._plan.rows, self._plan.concurrency)
        if not self._plan.once:
            self._screen.say()
            await self._watch(address)
        return 1 if self._outcome.unexpected else 0

    # The jobs ---------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        queue, outcome = self._queue, self._outcome
        # The server's clock decides when it is due; on another machine it may differ from ours.
        due = await queue.server_time() + AHEAD
        later = await queue.enqueue("later", key="later", scheduled=due)
        stumble = await queue.enqueue("stumble", key="stumble", retries=2, retry_delay=0.5)
        names = self._plan.names
        paths = [os.path.join(self._plan.folder, name) for name in names]
        fingerprints, words = await asyncio.gather(
            *(
                queue.map(
                    function,
                    [
                        {"path": path, "key": f"{function} {name}", "timeout": work.TIMEOUT}
                        for path, name in zip(paths, names, strict=True)
                    ],
                    return_exceptions=True,
                )
                for function in ("fingerprint", "words")
            )
        )
        self._files_end = time.monotonic()
        outcome.seconds = self._files_end - self._began
        for name, first, second in zip(names, fingerprints, words, strict=True):
            outcome.files.append(self._file_result(name, first, second))
        outcome.later = await self._end_of(later)
        outcome.stumble = await self._end_of(stumble)
        await self._ticked.wait()
        outcome.ticks = len(self._ticks)

    def _file_result(self, name: str, fingerprint: Any, words: Any) -> FileResult:
        result = FileResult(name)
        for what, value in (("fingerprint", fingerprint), ("words", words)):
            if isinstance(value, JobError):
                reason, expected = report.reason_of(value.job.error)
                result.error = reason
                if not expected:
                    self._outcome.unexpected.append(f"{what} {name}: {reason}")
            elif isinstance(value, BaseException):
                raise value
        if result.error is None:
            result.fingerprint = work.Fingerprint(*fingerprint)
            result.words = words
        return result

    async def _end_of(self, job: Job | None) -> Job | None:
        if job is None:
            self._outcome.unexpected.append("a job was not taken in: is another demo using this queue?")
            return None
        await job.refresh(0)
        if job.status is not Status.COMPLETE:
            reason, _ = report.reason_of(job.error)
            self._outcome.unexpected.append(f"{job.function}: {reason}")
        return job

    async def _tidy(self) -> None:
        """Takes away what would stay on a server that is not ours."""
        queue = self._queue
        assert isinstance(queue, RedisQueue)
        try:
            left = [key async for key in queue.redis.scan_iter(f"{prefix(queue.name)}*", count=1000)]
            for i in range(0, len(left), 500):
                await queue.redis.unlink(*left[i : i + 500])
        except (OSError, RedisError) as error:
            self._screen.say(f"The keys {prefix(queue.name)}* stay on the server: {error}")

    # Progress ---------------------------------------------------------------------------------------------

    @property
    def _done(self) -> int:
        queue = self._queue
        return queue.complete + queue.failed + queue.aborted

    @property
    def _expected(self) -> int:
        return 2 * len(self._plan.names) + 2 + max(1, len(self._ticks))

    async def _progress(self) -> None:
        """Draws the progress line. It asks for its numbers; the jobs themselves wait for no such look."""
        moved = time.monotonic()
        before = -1
        while True:
            try:
                info = await self._queue.info()
                waiting = f"{info['active']:,} running  {info['queued']:,} queued"
                if info["scheduled"]:
                    waiting += f"  {info['scheduled']:,} scheduled"
            except SaqError:
                waiting = "the server is away"
            now, done = time.monotonic(), self._done
            if done - len(self._ticks) != before:  # ticks go on whatever happens
                before, moved = done - len(self._ticks), now
            elif now - moved > STUCK_AFTER:
                raise SaqError(f"no job has ended for {STUCK_AFTER:g} s: {waiting}")
            self._screen.status(self._line(done, waiting, now - self._began))
            await asyncio.sleep(LOOK_EVERY)

    def _line(self, done: int, waiting: str, elapsed: float) -> str:
        expected = self._expected
        working = self._files_end - self._began if self._files_end else elapsed
        parts = [f"{done:,} of {expected:,} jobs", *filter(None, [waiting])]
        if failed := self._queue.failed:
            parts.append(f"{failed:,} failed")
        if working > 0 and done:
            parts.append(f"{min(done, 2 * len(self._plan.names)) / working:,.0f}/s")
        parts.append(f"{elapsed:.1f} s")
        text = "  ".join(parts)
        room = min(24, self._screen.width - len(text) - 6)
        return f"  {bar(done, expected, room)}  {text}" if room >= 8 else f"  {text}"

    async def _watch(self, address: str) -> None:
        screen = self._screen
        place = f"the web page is at {address.split()[0]}; " if address.startswith("http") else ""
        screen.say(f"  The worker goes on: {place}Ctrl-C ends it all.")
        while True:
            if self._ticks:
                last = time.strftime("%H:%M:%S", time.localtime(self._ticks[-1]))
                screen.status(f"  cron: {plural(len(self._ticks), 'tick')}, the last at {last}")
            await asyncio.sleep(LOOK_EVERY)

    # Signals ----------------------------------------------------------------------------------------------

    def _take_signals(self) -> Any:
        loop = asyncio.get_running_loop()
        signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken: list[signal.Signals] = []
        for signum in signals:
            try:
                loop.add_signal_handler(signum, self._stop.set)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                continue
            taken.append(signum)

        def give_back() -> None:
            for signum in taken:
                loop.remove_signal_handler(signum)

        return give_back


async def _end_worker(working: asyncio.Task[None]) -> None:
    """Stops it in good order, also while it is still starting."""
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


class LogLines(logging.Handler):
    """Log lines above the progress line; not those about a failed job, which the table shows."""

    def __init__(self, screen: Screen, verbose: bool) -> None:
        super().__init__(logging.INFO if verbose else logging.WARNING)
        self._screen = screen
        self._verbose = verbose
        self.setFormatter(logging.Formatter("  %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Prints it."""
        if self._verbose or record.module != "runner":
            try:
                self._screen.say(self.format(record))
            except OSError:  # nobody is there to read it; the demo finds that out by itself
                pass
