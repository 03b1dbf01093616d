"""This project, as it is in the checkout."""

from __future__ import annotations

from typing import Any

import bench_agent as bench

from saq import Job, Queue, Worker


def queue(config: dict[str, Any]) -> Queue:
    return Queue.from_url(config["url"], name="bench")


class Client(bench.AsyncClient):
    async def open(self) -> None:
        self.queue = queue(self.config)
        await self.queue.connect()

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        return await self.queue.enqueue(job, i=i, x=x)

    async def enqueue_many(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        return await self.queue.enqueue_many([Job(job, kwargs={"i": i, "x": x}) for i, x in items])

    async def result(self, job: Job) -> Any:
        await job.refresh(until_complete=0)
        return job.result

    async def map(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        return await self.queue.map(job, [{"i": i, "x": x} for i, x in items])


async def main(config: dict[str, Any]) -> None:
    worker: Worker[Any] = Worker(queue(config), bench.JOBS, concurrency=config["concurrency"])
    await worker.start()


def work(config: dict[str, Any]) -> None:
    bench.run_async(main(config), config["options"].get("uvloop", False))


if __name__ == "__main__":
    bench.run(Client, work)
