"""huey on Redis."""

from __future__ import annotations

from typing import Any

import bench_agent as bench
from huey import RedisHuey
from huey.signals import SIGNAL_COMPLETE

TASKS: dict[str, Any] = {}


def make(config: dict[str, Any]) -> RedisHuey:
    huey = RedisHuey("bench", url=config["url"], **config["options"].get("huey", {}))
    for job in bench.SYNC_JOBS:
        TASKS[job.__name__] = huey.task(name=job.__name__)(job)
    return huey


class Client(bench.SyncClient):
    def open(self) -> None:
        self.huey = make(self.config)

    def enqueue(self, job: str, i: int, x: int) -> Any:
        return TASKS[job](i=i, x=x)

    def result(self, result: Any, timeout: float) -> Any:
        return result.get(blocking=True, timeout=timeout)


def work(config: dict[str, Any]) -> None:
    huey = make(config)
    hit = bench._hit
    if config["kind"] != "latency":
        # The end of a job is its stored result, which this signal follows.
        bench._hit = lambda i: None

        @huey.signal(SIGNAL_COMPLETE)
        def count(signal: str, task: Any, *_: Any) -> None:
            hit(task.kwargs["i"])

    consumer = huey.create_consumer(workers=config["concurrency"], worker_type="thread")
    consumer.run()


if __name__ == "__main__":
    bench.run(Client, work)
