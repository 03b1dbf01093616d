"""Settings for worker processes that tests start. Which server and how is said by the environment."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from typing import Any

from saq import Handler, Queue
from saq.types import SettingsDict
from tests.worker import computing as work

if os.environ.get("SAQ_TEST_CHECKUP") is None:
    # The servers of most tests keep nothing, and shall not.
    logging.getLogger("saq.checkup").setLevel(logging.ERROR)


async def add(ctx: Any, *, a: int, b: int) -> int:
    return a + b


async def where(ctx: Any, *, seconds: float = 0) -> int:
    """The process that runs it."""
    await asyncio.sleep(seconds)
    return os.getpid()


async def wait(ctx: Any, *, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


def block(ctx: Any, *, seconds: float) -> str:
    time.sleep(seconds)
    return "blocked a thread"


async def freeze(ctx: Any, *, seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 - what must not be done
    return "blocked the loop"


async def stubborn(ctx: Any) -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def fail(ctx: Any) -> None:
    raise ValueError("as it was told")


async def crash(ctx: Any, *, times: int) -> str:
    """Kills its worker, so many times."""
    if ctx["job"].attempts <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"attempt {ctx['job'].attempts}"


def settings() -> SettingsDict:
    found: dict[str, Any] = {
        "queue": Queue.from_url(os.environ["SAQ_TEST_URL"]),
        "functions": [add, where, wait, block, freeze, stubborn, fail, crash],
        **json.loads(os.environ.get("SAQ_TEST_SETTINGS", "{}")),
    }
    return found  # type: ignore[return-value]


def computing() -> SettingsDict:
    """Functions in processes."""
    functions = [
        Handler(getattr(work, name), process=True) for name in ("pid", "nap", "spin", "hold_the_interpreter")
    ]
    return {
        "queue": Queue.from_url(os.environ["SAQ_TEST_URL"]),
        "functions": functions,
        "processes": 2,
        "concurrency": 2,
        "shutdown_grace_period_s": 10,
    }


def several() -> SettingsDict:
    """Two queues."""
    url = os.environ["SAQ_TEST_URL"]
    return {"queues": [Queue.from_url(url, name=name) for name in ("a", "b")], "functions": [add]}


def far_and_near() -> SettingsDict:
    """Two queues, the first on a server that is not there."""
    far = Queue.from_url(os.environ["SAQ_TEST_FAR_URL"], name="far")
    return {"queues": [far, Queue.from_url(os.environ["SAQ_TEST_URL"])], "functions": [add]}


text = "this is no dict"
unknown: dict[str, Any] = {"functions": [add], "concurency": 5}
wrong: dict[str, Any] = {"functions": [add], "concurrency": "many"}
without_functions: dict[str, Any] = {"concurrency": 5}


def broken() -> None:
    raise RuntimeError("no configuration today")
