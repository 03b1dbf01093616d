"""arq."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bench_agent as bench
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import Worker, func


class Client(bench.AsyncClient):
    async def open(self) -> None:
        self.pool = await create_pool(RedisSettings.from_dsn(self.url))
        self.poll = self.options.get("result_poll", 0.5)

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        return await self.pool.enqueue_job(job, i=i, x=x)

    async def result(self, job: Job) -> Any:
        return await job.result(poll_delay=self.poll)


def in_thread(pool: ThreadPoolExecutor, function: Callable[..., Any]) -> Callable[..., Any]:
    """What its documentation says of blocking functions: hand them to an executor."""

    async def run(ctx: Any, *, i: int, x: int) -> Any:
        call = functools.partial(function, i=i, x=x)
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    return run


async def main(config: dict[str, Any]) -> None:
    concurrency, options = config["concurrency"], config["options"]
    pool = ThreadPoolExecutor(concurrency)
    functions = [
        *bench.ASYNC_JOBS,
        *(func(in_thread(pool, job), name=job.__name__) for job in bench.SYNC_JOBS),
    ]
    worker = Worker(
        functions,
        redis_settings=RedisSettings.from_dsn(config["url"]),
        max_jobs=concurrency,
        handle_signals=False,
        poll_delay=options.get("poll_delay", 0.5),
        queue_read_limit=options.get("queue_read_limit"),
    )
    await worker.async_run()


def work(config: dict[str, Any]) -> None:
    bench.run_async(main(config), config["options"].get("uvloop", False))


if __name__ == "__main__":
    bench.run(Client, work)
