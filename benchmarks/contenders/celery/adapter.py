"""Celery with Redis as broker and result backend."""

from __future__ import annotations

from typing import Any

import bench_agent as bench
from celery import Celery, signals

TASKS: dict[str, Any] = {}


def make(config: dict[str, Any]) -> Celery:
    app = Celery("bench", broker=config["url"], backend=config["url"])
    app.conf.broker_connection_retry_on_startup = True
    app.conf.update(config["options"].get("conf", {}))
    for job in bench.SYNC_JOBS:
        TASKS[job.__name__] = app.task(name=job.__name__)(job)
    return app


class Client(bench.SyncClient):
    def open(self) -> None:
        self.app = make(self.config)

    def enqueue(self, job: str, i: int, x: int) -> Any:
        return TASKS[job].apply_async(kwargs={"i": i, "x": x})

    def result(self, result: Any, timeout: float) -> Any:
        return result.get(timeout=timeout)

    def map(self, job: str, items: list[tuple[int, int]]) -> list[Any]:
        from celery import group

        return group(TASKS[job].s(i=i, x=x) for i, x in items).apply_async().get(timeout=120)


def work(config: dict[str, Any]) -> None:
    app = make(config)
    hit = bench._hit
    if config["kind"] != "latency":
        # The end of a job is its stored result, which this signal follows.
        bench._hit = lambda i: None

        @signals.task_postrun.connect(weak=False)
        def count(kwargs: dict[str, Any], **_: Any) -> None:
            hit(kwargs["i"])

    arguments = ["worker", "--loglevel=WARNING", f"--concurrency={config['concurrency']}"]
    app.worker_main([*arguments, *config["options"].get("arguments", [])])


if __name__ == "__main__":
    bench.run(Client, work, forks=lambda config: config["options"].get("pool") != "threads")
