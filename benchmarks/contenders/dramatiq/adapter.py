"""dramatiq on its Redis broker."""

from __future__ import annotations

import threading
from typing import Any

import bench_agent as bench
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

ACTORS: dict[str, Any] = {}


def make(config: dict[str, Any]) -> RedisBroker:
    broker = RedisBroker(url=config["url"])
    results = config["options"].get("results", False)
    if results:
        broker.add_middleware(Results(backend=RedisBackend(url=config["url"])))
    broker.add_middleware(AsyncIO())
    dramatiq.set_broker(broker)
    for job in bench.JOBS:
        ACTORS[job.__name__] = dramatiq.actor(
            job, actor_name=job.__name__, **({"store_results": True} if results else {})
        )
    return broker


class Client(bench.SyncClient):
    def open(self) -> None:
        self.broker = make(self.config)
        if self.options.get("results"):
            self.result = self._result

    def enqueue(self, job: str, i: int, x: int) -> Any:
        return ACTORS[job].send(i=i, x=x)

    def _result(self, message: Any, timeout: float) -> Any:
        return message.get_result(block=True, timeout=int(timeout * 1000))


def work(config: dict[str, Any]) -> None:
    worker = dramatiq.Worker(make(config), worker_threads=config["concurrency"])
    worker.start()
    threading.Event().wait()


if __name__ == "__main__":
    bench.run(Client, work)
