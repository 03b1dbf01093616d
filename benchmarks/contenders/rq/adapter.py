"""RQ. A worker runs one job at a time: a concurrency of n is n worker processes."""

from __future__ import annotations

import os
from typing import Any

import bench_agent as bench
from redis import Redis
from rq import Queue, SimpleWorker, Worker


class Client(bench.SyncClient):
    def open(self) -> None:
        self.queue = Queue("bench", connection=Redis.from_url(self.url))

    def enqueue(self, job: str, i: int, x: int) -> Any:
        return self.queue.enqueue(f"bench_agent.{job}", i=i, x=x)

    def enqueue_many(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        name = f"bench_agent.{job}"
        return self.queue.enqueue_many([Queue.prepare_data(name, kwargs={"i": i, "x": x}) for i, x in items])

    def result(self, job: Any, timeout: float) -> Any:
        result = job.latest_result(timeout=int(timeout))
        return result.return_value if result is not None else "nothing"


def work_alone(config: dict[str, Any]) -> None:
    connection = Redis.from_url(config["url"])
    kind = SimpleWorker if config["options"].get("simple") else Worker
    kind([Queue("bench", connection=connection)], connection=connection).work(logging_level="WARNING")


def work(config: dict[str, Any]) -> None:
    children = []
    for _ in range(config["concurrency"] - 1):
        child = os.fork()
        if child == 0:
            work_alone(config)
            os._exit(0)
        children.append(child)
    work_alone(config)


if __name__ == "__main__":
    bench.run(Client, work, forks=True)
