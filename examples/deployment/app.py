"""What the files beside this one start: a worker with everything switched on that an operator may want.

    saq app.settings --metrics-port 9100

Redis is looked for at REDIS_URL [redis://localhost].
"""

import asyncio
import os

from saq import Queue
from saq.types import Context, SettingsDict

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"))

if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
    # Where to and how spans are exported, the SDK reads from OTEL_… (pip install opentelemetry-distro
    # opentelemetry-exporter-otlp, and `opentelemetry-instrument saq …`).
    from saq.observe.tracing import instrument

    instrument(queue)


async def send_mail(ctx: Context, *, to: str) -> str:
    await asyncio.sleep(0.1)
    return f"sent to {to}"


settings = SettingsDict(
    queue=queue,
    functions=[send_mail],
    concurrency=20,
    # What a job usually takes at the most. Whoever stops the worker has to wait 15 seconds longer than that.
    shutdown_grace_period_s=60,
)
