"""Functions that run in processes: a process imports them by their names."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def pid(ctx: Any) -> int:
    return os.getpid()


def nap(ctx: Any, *, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def spin(ctx: Any, *, note: str = "") -> None:
    """Computes for ever."""
    if note:
        Path(note).write_text(str(os.getpid()))
    while True:
        pass


def hold_the_interpreter(ctx: Any, *, note: str) -> None:
    """C code that does not let any other thread run: nothing in Python can end it."""
    Path(note).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def with_a_child(ctx: Any, *, note: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(str(child.pid))
    child.wait()


def deaf(ctx: Any, *, note: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spin(ctx, note=note)


def spin_once(ctx: Any) -> int:
    if ctx["job"].attempts == 1:
        spin(ctx)
    return int(ctx["job"].attempts)


async def coroutine(ctx: Any, *, n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


def see(ctx: Any, *, n: int, text: str) -> dict[str, Any]:
    job = ctx["job"]
    return {
        "arguments": [n, text],
        "context": sorted(ctx),
        "key": job.key,
        "function": job.function,
        "attempts": job.attempts,
        "meta": job.meta,
        "status": job.status.value,
        "retries": job.retries,
        "started": job.started > 0,
    }


def use(ctx: Any, *, what: str) -> Any:
    return ctx[what]


def ask_queue(ctx: Any) -> Any:
    return ctx["job"].get_queue()


def remember(ctx: Any) -> None:
    ctx["job"].meta["seen"] = ctx["job"].meta.get("seen", 0) + 1


def progress(ctx: Any, *, steps: int, seconds: float) -> str:
    for step in range(steps):
        ctx["job"].update(progress=step / steps, meta={"step": step})
        time.sleep(seconds)
    return "done"


async def progress_async(ctx: Any) -> float:
    await ctx["job"].update(progress=0.5)
    return float(ctx["job"].progress)


def update_wrongly(ctx: Any) -> str:
    ctx["job"].update(status="complete")
    return "done"


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail(ctx: Any, *, how: str) -> None:
    if how == "value":
        raise ValueError("no such value")
    if how == "odd":
        raise Odd(1, 2)  # can be pickled, and not unpickled
    if how == "chain":
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "cancelled":
        raise asyncio.CancelledError
    if how == "stop":
        raise StopIteration(1)


def die(ctx: Any, *, how: str, times: int = 1) -> int:
    if ctx["job"].attempts <= times:
        if how == "exit":
            os._exit(7)
        if how == "nothing":
            os._exit(0)
        if how == "segfault":
            ctypes.string_at(0)
        os.kill(os.getpid(), signal.Signals[how])
    return int(ctx["job"].attempts)


def give(ctx: Any, *, what: str) -> Any:
    if what == "lambda":
        return lambda: 1
    if what == "set":
        return {1, 2}
    return "x" * int(what)


def length(ctx: Any, *, text: str) -> int:
    return len(text)


class Grumpy:
    """Can be pickled, and not be read elsewhere."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> Any:
    raise ValueError("not here")


def outer(ctx: Any) -> None:
    """Has a function inside that no other process can import."""


def make_inner() -> Any:
    def inner(ctx: Any) -> None: ...

    return inner


class Called:
    """A callable object that can be pickled."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, ctx: Any, *, n: int) -> int:
        return n * self.times
