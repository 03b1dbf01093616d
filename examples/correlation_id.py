"""Carry an id from a request through its jobs, and through the jobs that those enqueue.

    saq examples.correlation_id.settings
    python examples/correlation_id.py

Both look for Redis at REDIS_URL [redis://localhost].
"""

import asyncio
import os
from contextvars import ContextVar
from uuid import uuid4

from saq import Job, Queue
from saq.types import Context, SettingsDict

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"), name="correlation_id")


async def before_enqueue(job: Job) -> None:
    """Puts the id of whoever enqueues into the job, or a new one."""
    job.meta["correlation_id"] = correlation_id.get() or uuid4().hex


async def before_process(ctx: Context) -> None:
    """Takes it out again. Each job runs in a context of its own: the next one does not see it."""
    correlation_id.set(ctx["job"].meta.get("correlation_id"))


queue.register_before_enqueue(before_enqueue)


async def order(ctx: Context, *, item: str) -> list[str]:
    print(f"[{correlation_id.get()}] order of {item}")
    # This enqueues another job: it gets the same id, though nobody hands it on.
    return [f"order {correlation_id.get()}", await ctx["queue"].apply("invoice", item=item)]


def invoice(ctx: Context, *, item: str) -> str:
    # A function that is not async runs in a thread, and sees it as well.
    print(f"[{correlation_id.get()}] invoice for {item}")
    return f"invoice {correlation_id.get()}"


settings = SettingsDict(queue=queue, functions=[order, invoice], before_process=before_process)


async def handle_request(request_id: str, item: str) -> None:
    correlation_id.set(request_id)
    for line in await queue.apply("order", item=item):
        print(line)


async def main() -> None:
    await handle_request("request-1", "a book")
    await handle_request("request-2", "a pen")
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
