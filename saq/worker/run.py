"""One attempt of a job.

Owns what is known of an attempt while it runs, why it may be interrupted, and how its error is written down.
Must not decide what becomes of it: `runner.py`.
"""

from __future__ import annotations

import asyncio
import enum
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from saq.errors import RemoteTraceback
from saq.job import Job

#: Of a stack trace that is longer, the first and the last part are kept.
ERROR_CHARACTERS = 65_536


class Why(enum.Enum):
    """Why a run was interrupted."""

    TIMEOUT = "timed out"
    HEARTBEAT = "gave no heartbeat"
    ABORT = "aborted"
    STOP = "cancelled"
    LOST = "lost"


class Run:
    """One attempt of one job in this process."""

    __slots__ = (
        "abandoned",
        "began",
        "deadline",
        "error",
        "freed",
        "job",
        "raised",
        "running",
        "settled",
        "task",
        "thread",
        "why",
    )

    #: What its function, or a hook before it, has raised; set only where something is around the run.
    raised: BaseException

    def __init__(self, job: Job) -> None:
        self.job = job
        self.task: asyncio.Task[None] | None = None
        self.began = 0.0
        #: When to look at it next (monotonic); 0 is never.
        self.deadline = 0.0
        #: Whether its function is under way, and not a hook before or what comes after.
        self.running = False
        self.thread = False
        self.why: Why | None = None
        self.error = ""
        #: Whether its outcome is decided.
        self.settled = False
        #: Whether it has given its slot away before its end.
        self.freed = False
        #: Whether its thread is not waited for any more.
        self.abandoned = False

    @property
    def interrupted(self) -> bool:
        """Whether it was told to end."""
        return self.why is not None


#: Carries out an attempt from its first hook to its last.
Whole = Callable[[Run], Coroutine[Any, Any, None]]
#: Puts something around that; see `Queue.around_run`.
Around = Callable[[Whole], Whole]


def format_error(error: BaseException) -> str:
    """The stack trace of an error, whatever its ``str`` does, in bounded length."""
    try:
        if isinstance(error.__cause__, RemoteTraceback):
            return _bounded(error.__cause__.text)
        text = "".join(traceback.format_exception(error))
    except Exception as broken:
        text = f"{type(error).__name__}, of which no stack trace can be made: {type(broken).__name__}"
    return _bounded(text)


def _bounded(text: str) -> str:
    """The first and the last part of a text that is longer than is kept."""
    if len(text) <= ERROR_CHARACTERS:
        return text
    half = ERROR_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
