"""Map a function over many jobs, and take in a failure among the results.

    saq examples.map_many.settings
    python examples/map_many.py

Both look for Redis at REDIS_URL [redis://localhost].
"""

import asyncio
import os

from saq import Job, Queue
from saq.queue import JobError
from saq.types import Context, SettingsDict

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"), name="map_many")


async def inverse(ctx: Context, *, number: int) -> float:
    return 1 / number


settings = SettingsDict(queue=queue, functions=[inverse], concurrency=100)


async def main() -> None:
    # The results come in the order of the arguments, however the jobs ran.
    results = await queue.map("inverse", [{"number": n} for n in range(1, 1001)], timeout=60)
    print(f"{len(results)} results, their sum is {sum(results):.3f}")

    # The first failure is raised, unless it is asked for like a result.
    for result in await queue.map("inverse", [{"number": n} for n in (2, 0, 4)], return_exceptions=True):
        if isinstance(result, JobError):
            print("failed:", (result.job.error or "").strip().splitlines()[-1])
        else:
            print("result:", result)

    # Without waiting: any number of jobs in few calls. A generator is taken piece by piece.
    enqueued = await queue.enqueue_many(Job("inverse", {"number": n}) for n in range(1, 10_001))
    print(f"{len(enqueued)} jobs enqueued")

    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
