"""Functions that are not async: they run in threads, as many at once as the concurrency says.

    saq examples.sync_functions.settings
    python examples/sync_functions.py

Both look for Redis at REDIS_URL [redis://localhost].
"""

import asyncio
import hashlib
import os
import threading
import time

from saq import Queue
from saq.types import Context, SettingsDict

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"), name="sync_functions")


def blocking_call(ctx: Context, *, seconds: float) -> str:
    """A library that knows nothing of asyncio. A thread cannot be cancelled: give it a timeout of its own."""
    time.sleep(seconds)
    return threading.current_thread().name


def digest(ctx: Context, *, text: str, rounds: int) -> str:
    """Work for the processor. Threads of one process share one: use `saq --workers N` for more."""
    data = text.encode()
    for _ in range(rounds):
        data = hashlib.sha256(data).digest()
    return data.hex()


async def still_alive(ctx: Context) -> str:
    """Async functions go on beside them: the loop is not blocked."""
    return "the loop is free"


settings = SettingsDict(queue=queue, functions=[blocking_call, digest, still_alive], concurrency=20)


async def main() -> None:
    began = time.monotonic()
    sleeping = asyncio.create_task(queue.map("blocking_call", [{"seconds": 1}] * 20))
    print(await queue.apply("digest", text="saq", rounds=1000))
    print(await queue.apply("still_alive"))
    threads = await sleeping
    print(f"20 calls of a second each, in {len(set(threads))} threads: {time.monotonic() - began:.0f} s")
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
