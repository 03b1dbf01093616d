"""The suspensions of coroutines, one by one.

Owns counting them and doing something at one of them: what a task sends to and throws into a coroutine goes
through our hands, so that each time it gives way is seen. What is stepped has no part in it.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import AsyncGeneratorType, CodeType
from typing import Any

#: What is done at a suspension: told the task, and what it waits for (None: only for its next turn).
Fault = Callable[["asyncio.Task[Any]", "asyncio.Future[Any] | None"], None]

#: The name of the task of what a stepper runs.
MAIN = "main"

_stepper: contextvars.ContextVar[Stepper | None] = contextvars.ContextVar("stepper", default=None)


class Stepper:
    """Runs a coroutine, counts suspensions, and lets a fault happen at one of them.

    Args:
        at: at which suspension; 0 is none.
        fault: what happens there.
        task: count those of the task of this name only: MAIN is the coroutine itself, None is it and all
            tasks that it starts.
    """

    def __init__(self, at: int = 0, fault: Fault | None = None, task: str | None = MAIN) -> None:
        self.count = 0
        #: What was suspended.
        self.seen: set[CodeType] = set()
        self._at = at
        self._fault = fault
        self._name = task
        self._main: asyncio.Task[Any] | None = None
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    @property
    def reached(self) -> bool:
        """Whether the fault happened."""
        return 0 < self._at <= self.count

    def start(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs it. What it starts is counted until it has ended."""
        self._coroutine = main
        context = contextvars.copy_context()
        context.run(_stepper.set, self)
        self._main = asyncio.get_running_loop().create_task(main, name=MAIN, context=context)
        return self._main

    @property
    def where(self) -> str:
        """What it waits for."""
        return " > ".join(code.co_qualname for code in _codes(self._coroutine))

    def suspended(self, coroutine: Coroutine[Any, Any, Any], awaited: asyncio.Future[Any] | None) -> None:
        """A coroutine gives way."""
        task = asyncio.current_task()
        assert task is not None
        assert self._main is not None
        if self._main.done():
            return
        self.seen.update(_codes(coroutine))
        if self._name is not None and task.get_name() != self._name:
            return
        self.count += 1
        if self.count == self._at and self._fault is not None:
            self._fault(task, awaited)


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that a task runs through our hands; to all who look at it, it is itself."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], stepper: Stepper) -> None:
        self._coroutine = coroutine
        self._stepper = stepper

    def _seen(self, awaited: Any) -> Any:
        self._stepper.suspended(self._coroutine, awaited)
        return awaited

    def send(self, value: Any) -> Any:
        return self._seen(self._coroutine.send(value))

    def throw(self, *error: Any) -> Any:
        return self._seen(self._coroutine.throw(*error))

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)


@contextmanager
def stepping() -> Generator[None]:
    """Tasks that are started inside by what a stepper runs are stepped as well."""
    loop = asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        context = options.get("context")
        stepper = context.get(_stepper) if context is not None else _stepper.get()
        if stepper is not None:
            coroutine = _Stepped(coroutine, stepper)
        return asyncio.Task(coroutine, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


def _codes(at: Any) -> Generator[CodeType]:
    """The code of a coroutine, and of all that it awaits in turn."""
    while at is not None:
        for kind in ("cr", "gi", "ag"):
            if hasattr(at, f"{kind}_code"):
                yield getattr(at, f"{kind}_code")
                at = getattr(at, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            # The step of an async generator does not say whose it is.
            at = next((one for one in gc.get_referents(at) if isinstance(one, AsyncGeneratorType)), None)
