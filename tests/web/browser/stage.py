"""What a browser looks at: a server, workers, jobs and the web interface, all real, in a thread of their own.

Owns their life, and the functions that the workers run. Playwright's synchronous interface needs a main
thread without a running loop; so all that is asynchronous is here, and tests reach it through `Stage.run`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from aiohttp import web

from saq import CronJob, Job, Queue, Worker
from saq.web.aiohttp import create_app, serve
from tests.servers import Server
from tests.worker.support import make_worker

T = TypeVar("T")

PATIENCE = 20.0


class Stage:
    """Made, used and closed from one thread; what it runs, runs in another."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)
        self._thread.start()
        self._open = AsyncExitStack()
        self._release = asyncio.Event()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(PATIENCE)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def queue(self, name: str = "default", **options: Any) -> Queue:
        async def make() -> Queue:
            queue = Queue.from_url(self.server.url(), name=name, **options)
            self._open.push_async_callback(queue.disconnect)
            return queue

        return self.run(make())

    def serve(self, queues: Iterable[Queue], **options: Any) -> str:
        """The address at which these queues are shown."""
        return self.run(self._open.enter_async_context(serve(queues, port=0, **options)))

    def serve_below(self, queues: Iterable[Queue], prefix: str) -> str:
        """The same, inside an application of somebody else."""

        async def start() -> str:
            outer = web.Application()
            outer.add_subapp(prefix, create_app(queues))
            runner = web.AppRunner(outer, access_log=None)
            await runner.setup()
            self._open.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}{prefix}/"

        return self.run(start())

    def worker(
        self, queue: Queue, functions: dict[str, Callable[..., Any]] | None = None, **settings: Any
    ) -> Worker[Any]:
        """A worker at work, and known to the queue."""

        async def start() -> Worker[Any]:
            found = {**FUNCTIONS, "hold": self._hold, **(functions or {})}
            worker = make_worker(queue, found, **settings)
            task = asyncio.create_task(worker.start(), name="worker")

            async def stop() -> None:
                await worker.stop()
                await task

            self._open.push_async_callback(stop)
            return worker

        worker = self.run(start())
        self.until(lambda: self._known(queue, worker))
        return worker

    async def _known(self, queue: Queue, worker: Worker[Any]) -> bool:
        return worker.id in (await queue.info())["workers"]

    async def _hold(self, ctx: Any, *, progress: float = 0.0, **arguments: Any) -> str:
        """Runs until the test lets it end."""
        if progress:
            await ctx["job"].update(progress=progress)
        await self._release.wait()
        return "let go"

    def hold(self) -> None:
        """From now on, jobs of `hold` do not end …"""
        self._loop.call_soon_threadsafe(self._release.clear)

    def let_go(self) -> None:
        """… until now."""
        self._loop.call_soon_threadsafe(self._release.set)

    def enqueue(self, queue: Queue, function: str, **arguments: Any) -> Job:
        job = self.run(queue.enqueue(function, **arguments))
        assert job is not None
        return job

    def ended(self, queue: Queue, *jobs: Job) -> None:
        async def wait() -> None:
            for job in jobs:
                assert await queue.wait(job.key, PATIENCE / 2) is not None

        self.run(wait())

    def until(self, condition: Callable[[], Awaitable[Any]]) -> None:
        async def wait() -> None:
            deadline = time.monotonic() + PATIENCE / 2
            while not await condition():
                assert time.monotonic() < deadline, "this did not come about in time"
                await asyncio.sleep(0.01)

        self.run(wait())

    def close(self) -> None:
        async def end() -> None:
            self._release.set()
            await self._open.aclose()

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class CardDeclined(Exception):
    """The bank said no."""


async def send_email(ctx: Any, *, to: str, template: str = "welcome") -> dict[str, Any]:
    return {"accepted": [to], "template": template, "message_id": f"<{ctx['job'].key}@mail.example.org>"}


async def resize_image(ctx: Any, *, path: str, width: int = 800) -> dict[str, Any]:
    await asyncio.sleep(0.002)
    return {"path": path, "size": [width, width * 3 // 4]}


async def sync_account(ctx: Any, *, account: int) -> int:
    accounts: dict[int, int] = {}
    return accounts[account]


async def charge_card(ctx: Any, *, amount: str, card: str) -> str:
    return _bank(amount, card)


def _bank(amount: str, card: str) -> str:
    _authorise(card)
    return amount


def _authorise(card: str) -> None:
    raise CardDeclined(f"card {card} was declined by its bank")


async def fetch_prices(ctx: Any, *, url: str) -> None:
    raise ConnectionError(f"no route to host {url}")


async def build_report(ctx: Any, *, month: str, **arguments: Any) -> str:
    return f"reports/{month}.pdf"


async def clean_up(ctx: Any) -> None:
    return None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        send_email,
        resize_image,
        sync_account,
        charge_card,
        fetch_prices,
        build_report,
        clean_up,
    )
}
CRON = (
    ("build_report", "0 3 * * *"),
    ("sync_account", "*/5 * * * *"),
    ("clean_up", "30 2 1 * *"),
    ("fetch_prices", "0 8 * * 1-5"),
)


#: The clock may enqueue one while a test looks: it is not to fail for want of an argument.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "build_report": {"month": "2026-10"},
    "sync_account": {"account": 81},
}


def cron(entries: Iterable[tuple[str, str]] = CRON) -> list[CronJob]:
    return [CronJob(FUNCTIONS[name], cron=when, kwargs=_ARGUMENTS.get(name)) for name, when in entries]
