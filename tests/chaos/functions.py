"""What the workers of a run work on, and what each kind of job has to come to.

Owns the functions and the table of their outcomes. Each writes down that it starts and how it ends, so that
the verdict can count what really ran. A result says which attempt and which process it is from.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from saq.errors import ServerError
from saq.job import Status
from tests.chaos.journal import Journal

#: Seconds: short, so that a run sees many of them end.
LEASE = 2.0
MAX_LOST = 3
#: The exit code of a process that a job has ended.
CRASH = 13
#: Why a tick is aborted that comes while the last worker stops.
TOO_LATE = "nobody is left to run it"


class Kind(NamedTuple):
    """What a job of this function has to come to.

    Args:
        status: its outcome, always.
        error: what its error says.
        attempts: how often it starts when nothing is broken.
        options: fields of its `Job`.
        fault: what it does to its worker, for the summary.
    """

    status: Status = Status.COMPLETE
    error: str = ""
    attempts: int = 1
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    fault: str = ""


KINDS = {
    "quick": Kind(),
    "sleepy": Kind(),
    "threaded": Kind(),
    "novel": Kind(),
    "unique": Kind(),
    "beating": Kind(options={"heartbeat": 5}),
    "blocking": Kind(fault="event loop blocked for longer than a lease"),
    "flaky": Kind(attempts=3, options={"retries": 5}),
    "raising": Kind(Status.FAILED, fault="function raises what may be raised"),
    "raising_thread": Kind(Status.FAILED, fault="function in a thread raises what may be raised"),
    "overlong": Kind(
        Status.FAILED, "timed out", 2, {"timeout": 0.3, "retries": 2}, "function that does not end in time"
    ),
    "stubborn": Kind(
        Status.FAILED, "timed out", 1, {"timeout": 0.3}, "function that swallows its cancellation"
    ),
    "unstorable": Kind(Status.FAILED, "result", fault="result that cannot be stored"),
    "spoiled": Kind(Status.FAILED, "cannot be decoded", 0, fault="payload that cannot be decoded"),
    "deadly": Kind(Status.FAILED, f"lost: {MAX_LOST} workers died", MAX_LOST),
    "endless": Kind(Status.ABORTED, "no more", 1, {"timeout": 0}),
    "distant": Kind(Status.ABORTED, "no more", 0),
    "ticking": Kind(),
}


class Unspeakable(Exception):
    """One that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


#: By the number of a job, what it raises.
ERRORS: list[Callable[[], BaseException]] = [
    lambda: ValueError("never"),
    lambda: asyncio.CancelledError("raised, not sent"),
    lambda: SystemExit(3),
    Unspeakable,
    lambda: KeyboardInterrupt(),
    lambda: GeneratorExit(),
    lambda: StopIteration("early"),
    lambda: RecursionError("deep"),
    lambda: BaseExceptionGroup("several", [SystemExit(1), ValueError("two")]),
    lambda: TimeoutError("its own"),
]

_journal: Journal
_worker: str


def write_to(journal: Journal, worker: str) -> None:
    """Where the functions of this process write, and as whom."""
    global _journal, _worker
    _journal, _worker = journal, worker


def note(what: str, ctx: dict[str, Any], **more: Any) -> None:
    """Writes down what happened to the job of this context."""
    job = ctx["job"]
    life = (job.kwargs or {}).get("life", "")
    _journal.write(
        what, job.key, attempt=job.attempts, process=os.getpid(), worker=_worker, life=life, **more
    )


def _noted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its starts and ends written down; `broke` is an end that is no result."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def noted(ctx: dict[str, Any], **kwargs: Any) -> Any:
            note("start", ctx)
            try:
                result = await function(ctx, **kwargs)
            except BaseException as error:
                note("broke", ctx, error=type(error).__name__)
                raise
            note("end", ctx)
            return result

        return noted

    @functools.wraps(function)
    def noted_in_thread(ctx: dict[str, Any], **kwargs: Any) -> Any:
        note("start", ctx)
        try:
            result = function(ctx, **kwargs)
        except BaseException as error:
            note("broke", ctx, error=type(error).__name__)
            raise
        note("end", ctx)
        return result

    return noted_in_thread


def _result(ctx: dict[str, Any], number: int) -> list[int]:
    return [number * 2, ctx["job"].attempts, os.getpid()]


async def quick(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    return _result(ctx, number)


async def sleepy(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    await asyncio.sleep(random.uniform(0.0, 0.3))
    return _result(ctx, number)


def threaded(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    time.sleep(random.uniform(0.0, 0.1))
    return _result(ctx, number)


async def novel(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    """Not every worker knows it: some are older than it."""
    return _result(ctx, number)


async def unique(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    """Its key is used again and again, and by all producers at once."""
    await asyncio.sleep(random.uniform(0.0, 0.05))
    return _result(ctx, number)


async def beating(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    """Says how far it is; that is refused if its job has become somebody else's."""
    for step in range(5):
        await asyncio.sleep(0.05)
        with contextlib.suppress(ServerError):
            await ctx["job"].update(progress=step / 5)
    return _result(ctx, number)


async def blocking(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    """Keeps the event loop for longer than a lease: the lease must be kept all the same."""
    time.sleep(LEASE * 1.5)  # noqa: ASYNC251
    return _result(ctx, number)


async def flaky(ctx: dict[str, Any], *, number: int, life: str) -> list[int]:
    """Fails twice. Attempts that were lost or given back are none of them."""
    if ctx["job"]._charged < 3:
        raise RuntimeError("not yet")
    return _result(ctx, number)


async def raising(ctx: dict[str, Any], *, number: int, life: str) -> None:
    raise ERRORS[number % len(ERRORS)]()


def raising_thread(ctx: dict[str, Any], *, number: int, life: str) -> None:
    raise ERRORS[number % len(ERRORS)]()


async def overlong(ctx: dict[str, Any], *, number: int, life: str) -> None:
    await asyncio.sleep(3600)


async def stubborn(ctx: dict[str, Any], *, number: int, life: str) -> str:
    """Swallows its cancellation, and goes on for longer than the hard deadline."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(1.5)
    return "too late"


async def unstorable(ctx: dict[str, Any], *, number: int, life: str) -> object:
    return object()


async def deadly(ctx: dict[str, Any], *, number: int, life: str) -> None:
    """Kills its worker, whoever runs it."""
    os._exit(CRASH)


async def endless(ctx: dict[str, Any], *, number: int, life: str) -> None:
    """Ends by being aborted, and in no other way."""
    await asyncio.sleep(1e9)


async def ticking(ctx: dict[str, Any]) -> None:
    """What the clock enqueues."""


FUNCTIONS = {
    function.__name__: _noted(function)
    for function in (
        quick, sleepy, threaded, novel, unique, beating, blocking, flaky, raising, raising_thread,
        overlong, stubborn, unstorable, deadly, endless,
    )
}  # fmt: skip
TICKING = _noted(ticking)
