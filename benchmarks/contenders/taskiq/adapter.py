"""taskiq with taskiq-redis."""

from __future__ import annotations

import asyncio
from typing import Any

import bench_agent as bench
from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

TASKS: dict[str, Any] = {}


class CountSaved(TaskiqMiddleware):
    """The end of a job is its saved result: the hit that the job itself would make is made here."""

    def __init__(self, hit: Any) -> None:
        super().__init__()
        self.hit = hit

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.hit(message.kwargs["i"])


def make(config: dict[str, Any]) -> Any:
    kind = RedisStreamBroker if config["options"].get("stream") else ListQueueBroker
    settings = {"consumer_id": "0"} if config["options"].get("stream") else {}
    broker = kind(config["url"], queue_name="bench", **settings).with_result_backend(
        RedisAsyncResultBackend(config["url"], result_ex_time=600)
    )
    for job in bench.JOBS:
        name = job.__name__  # it renames the function
        TASKS[name] = broker.task(task_name=name)(job)
    return broker


class Client(bench.AsyncClient):
    async def open(self) -> None:
        self.broker = make(self.config)
        await self.broker.startup()
        self.interval = self.options.get("check_interval", 0.2)

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        return await TASKS[job].kiq(i=i, x=x)

    async def result(self, task: Any) -> Any:
        return (await task.wait_result(check_interval=self.interval)).return_value


async def main(config: dict[str, Any]) -> None:
    broker = make(config)
    hit, bench._hit = bench._hit, lambda i: None
    broker.add_middlewares(CountSaved(hit))
    if config["kind"] == "latency":
        broker.middlewares.clear()  # a stamp counts by itself
    await broker.startup()
    await asyncio.create_task(
        run_receiver_task(
            broker,
            sync_workers=config["concurrency"],
            max_async_tasks=config["concurrency"],
            max_prefetch=config["options"].get("prefetch", 0) * config["concurrency"],
            validate_params=config["options"].get("validate_params", True),
        )
    )


def work(config: dict[str, Any]) -> None:
    bench.run_async(main(config), config["options"].get("uvloop", False))


if __name__ == "__main__":
    bench.run(Client, work)
