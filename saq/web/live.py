"""What the queues do second by second, measured while somebody watches.

Owns the samples of the last minutes, the one task that takes them, and the streams that hand them on. Must
not take any while nobody watches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from saq.queue.base import Queue
from saq.queue.views import COUNTERS, Counts
from saq.utils import now
from saq.web import paths
from saq.web.http import HttpError

logger = logging.getLogger("saq")

#: Seconds between samples, and how many are kept.
EVERY = 1.0
KEPT = 300
#: Somebody watches for so many seconds after each poll.
WATCHED = 15.0
#: A queue that has not said so long how it is counts as away. The others do not wait for it.
PATIENCE = 0.9
#: Seconds after which a stream ends, and the browser comes back: a server that wants to end waits no longer.
LONGEST = 30.0
#: Seconds after which a silent stream gives a sign of life.
BEAT = 15.0
MAX_STREAMS = 64

COLUMNS = (
    *("at", "queued", "scheduled", "active", "finished", "failed_kept"),
    *COUNTERS,
    *("waiting_ms", "paused", "workers"),
)


class Live:
    """Samples of all queues."""

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._queues = queues
        self._samples: dict[str, deque[list[int]]] = {name: deque(maxlen=KEPT) for name in queues}
        self._away: set[str] = set()
        self._asked: dict[str, asyncio.Task[Counts]] = {}
        self._sampler: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._until = 0.0
        self._streams = 0
        self._closed = False

    def _watch(self) -> None:
        """Somebody looks: samples are taken for a while."""
        self._until = time.monotonic() + WATCHED
        running = self._sampler is not None and not self._sampler.done()
        if running and self._sampler is not None and self._sampler.get_loop() is asyncio.get_running_loop():
            return
        self._news = asyncio.Event()
        self._asked = {}
        self._sampler = asyncio.create_task(self._sample_on(), name="saq-web-live")

    async def _sample_on(self) -> None:
        following = time.monotonic()
        try:
            while time.monotonic() < self._until and not self._closed:
                try:
                    await self._sample()
                except Exception:
                    logger.exception("Web: cannot sample the queues, trying again")
                self._tell()
                following = max(following + EVERY, time.monotonic() + EVERY / 10)
                await asyncio.sleep(following - time.monotonic())
        finally:
            for asked in self._asked.values():
                asked.cancel()
            if self._asked:
                await asyncio.wait(self._asked.values())
            self._asked = {}
            self._tell()

    async def _sample(self) -> None:
        for name, queue in self._queues.items():
            if name not in self._asked:
                self._asked[name] = asyncio.create_task(queue.views.counts(), name="saq-web-counts")
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=PATIENCE)
        at = now()
        for name, asked in list(self._asked.items()):
            if not asked.done():
                self._away.add(name)  # and asked no more until it has answered
                continue
            del self._asked[name]
            if asked.cancelled() or asked.exception() is not None:
                self._away.add(name)
            else:
                self._away.discard(name)
                self._add(name, at, asked.result())

    def _add(self, name: str, at: int, counts: Counts) -> None:
        samples = self._samples[name]
        if samples and at <= samples[-1][0]:
            at = samples[-1][0] + 1  # the clock went back
        samples.append(
            [
                *(at, counts.queued, counts.scheduled, counts.active, counts.finished, counts.failed),
                *(counts.stats[counter] for counter in COUNTERS),
                max(0, counts.now - counts.oldest) if counts.oldest else 0,
                counts.paused,
                counts.workers,
            ]
        )

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def since(self, after: int) -> dict[str, Any]:
        """The samples that are younger than that; waits for the first, if there are none at all."""
        self._watch()
        if not any(self._samples.values()) and not self._away:
            await self._news.wait()
        return self._answer(after)

    def _answer(self, after: int) -> dict[str, Any]:
        return {
            "now": now(),
            "every": int(EVERY * 1000),
            "columns": list(COLUMNS),
            "queues": {
                name: [sample for sample in samples if sample[0] > after]
                for name, samples in self._samples.items()
            },
            "unavailable": [
                {"name": name, "path": paths.join("queues", name)} for name in sorted(self._away)
            ],
        }

    def stream(self, after: int) -> Stream:
        """The same as server-sent events. Raises ``HttpError`` 503 if there are too many."""
        if self._streams >= MAX_STREAMS or self._closed:
            raise HttpError(
                503,
                "too_many_streams",
                "Too many streams are open: ask /api/live from time to time.",
                {"Retry-After": "30"},
            )
        return Stream(self._events(after), self._counted)

    def _counted(self, more: int) -> None:
        self._streams += more

    async def _events(self, after: int) -> AsyncGenerator[bytes, None]:
        end = time.monotonic() + LONGEST
        yield b"retry: 2000\n\n"
        while not self._closed and (left := end - time.monotonic()) > 0:
            self._watch()
            news = self._news
            answer = self._answer(after)
            latest = max((samples[-1][0] for samples in answer["queues"].values() if samples), default=after)
            if latest > after or answer["unavailable"]:
                after = latest
                data = json.dumps(answer, allow_nan=False, separators=(",", ":"))
                yield f"event: live\nid: {after}\ndata: {data}\n\n".encode("ascii")
            try:
                await asyncio.wait_for(news.wait(), min(BEAT, left))
            except TimeoutError:
                yield b": beat\n\n"
        yield b"event: end\ndata: {}\n\n"

    async def close(self) -> None:
        """Ends all streams, and samples no more."""
        self._closed = True
        self._tell()
        if self._sampler is not None and not self._sampler.done():
            self._sampler.cancel()
            await asyncio.wait([self._sampler])


class Stream:
    """A stream that counts as open until it is closed, whether anything was read of it or not."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], counted: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._counted = counted
        self._open = True
        counted(1)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        return await self._pieces.__anext__()

    async def aclose(self) -> None:
        """Ends it."""
        if self._open:
            self._open = False
            self._counted(-1)
            await self._pieces.aclose()
