"""A worker with hooks and a cron job, and a client. In one terminal, then in another:

    saq examples.simple.settings --web
    python examples/simple.py

Both look for Redis at REDIS_URL [redis://localhost].
"""

import asyncio
import os
import time

from saq import CronJob, Queue
from saq.types import Context, SettingsDict

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"))


class AppContext(Context):
    greeting: str  # what startup puts into the context


async def greet(ctx: AppContext, *, name: str) -> str:
    await asyncio.sleep(0.1)  # whatever takes its time
    return f"{ctx['greeting']}, {name}!"


def add(ctx: AppContext, *, numbers: list[int]) -> int:
    return sum(numbers)  # not async: it runs in a thread


async def tick(ctx: AppContext) -> None:
    print("tick")


async def startup(ctx: AppContext) -> None:
    ctx["greeting"] = "Hello"  # the place to open a database, a client, …


async def shutdown(ctx: AppContext) -> None:
    print("goodbye")


async def before_process(ctx: AppContext) -> None:
    print("starting", ctx["job"].function)


async def after_process(ctx: AppContext) -> None:
    print("finished", ctx["job"].function, ctx["job"].status.value)


settings = SettingsDict(
    queue=queue,
    functions=[greet, add],
    concurrency=10,
    cron_jobs=[CronJob(tick, cron="* * * * * */2")],  # six fields: every two seconds
    startup=startup,
    shutdown=shutdown,
    before_process=before_process,
    after_process=after_process,
)


async def main() -> None:
    # Enqueue a job and wait for its result.
    print(await queue.apply("greet", name="world"))

    # Many at once.
    print(await queue.map("add", [{"numbers": [1, 2]}, {"numbers": [3, 4]}]))

    # Enqueue it for later, and look at it when you like. The key makes it unique while it is incomplete.
    job = await queue.enqueue("greet", name="you there", key="once", scheduled=time.time() + 1, retries=3)
    if job is not None:
        print(job.status.value)
        await job.refresh(until_complete=10)
        print(job.status.value, job.result)

    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
