"""SAQ 0.26.4 from the package index."""

from __future__ import annotations

import asyncio
from typing import Any

import bench_agent as bench

from saq import Job, Queue, Worker


def queue(config: dict[str, Any]) -> Queue:
    options = config["options"]
    settings: dict[str, Any] = {}
    if options.get("orjson"):
        import orjson

        settings = {"dump": orjson.dumps, "load": orjson.loads}
    if "max_concurrent_ops" in options:
        settings["max_concurrent_ops"] = options["max_concurrent_ops"]
    return Queue.from_url(config["url"], name="bench", **settings)


class Client(bench.AsyncClient):
    async def open(self) -> None:
        self.queue = queue(self.config)
        await self.queue.connect()
        if self.options.get("listen"):
            # It subscribes for the first who waits and unsubscribes after the last: this one always waits.
            self.listener = asyncio.create_task(self.queue.listen(["nobody"], lambda *_: False, timeout=None))

    async def enqueue(self, job: str, i: int, x: int) -> Any:
        return await self.queue.enqueue(job, i=i, x=x)

    async def result(self, job: Job) -> Any:
        while True:
            try:
                await job.refresh(until_complete=1)
                return job.result
            except TimeoutError:
                continue  # what ended between its look and its subscription was told to nobody

    async def map(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        poll = self.options.get("poll_interval", 0.5)
        return await self.queue.map(job, [{"i": i, "x": x} for i, x in items], poll_interval=poll)


async def main(config: dict[str, Any]) -> None:
    jobs = queue(config)
    # Its sweep at start takes jobs that it claims in this very moment for stuck, and aborts them. A sweep by
    # another worker a moment ago, which this lock stands for, keeps it from that.
    await jobs.redis.setex(jobs.namespace("sweep"), 60, 1)
    worker = Worker(jobs, bench.JOBS, concurrency=config["concurrency"])
    await worker.start()


def work(config: dict[str, Any]) -> None:
    bench.run_async(main(config), config["options"].get("uvloop", False))


if __name__ == "__main__":
    bench.run(Client, work)
