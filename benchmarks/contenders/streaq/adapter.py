"""streaQ."""

from __future__ import annotations

from typing import Any

import bench_agent as bench
from streaq import Worker


def make(config: dict[str, Any], tasks: dict[str, Any]) -> Worker[Any]:
    options = config["options"]
    worker: Worker[Any] = Worker(
        redis_url=config["url"],
        queue_name="bench",
        concurrency=config["concurrency"],
        handle_signals=False,
        prefetch=options["prefetch"] * config["concurrency"] if "prefetch" in options else None,
        anyio_kwargs={"use_uvloop": True} if options.get("uvloop") else None,
    )
    for job in bench.JOBS:
        tasks[job.__name__] = worker.task(name=job.__name__)(job)
    return worker


class Client(bench.AsyncClient):
    async def open(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.worker = make(self.config, self.tasks)
        await self.worker.__aenter__()

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        return await self.tasks[job].enqueue(i=i, x=x)

    async def enqueue_many(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        tasks = [self.tasks[job].enqueue(i=i, x=x) for i, x in items]
        await self.worker.enqueue_many(tasks)
        return tasks

    async def result(self, task: Any) -> Any:
        return (await task.result(timeout=60)).result


def work(config: dict[str, Any]) -> None:
    make(config, {}).run_sync()


if __name__ == "__main__":
    bench.run(Client, work)
