"""What a supervised worker process and its parent tell each other beside signals.

Owns the messages, the exit codes, and the child's end of the pipe. Must not decide anything.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from saq.worker.parts import Ending

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Exit codes of a child that ended in order and wants its place to be filled again: it has reached a limit …
RECYCLE = 82
#: … or somebody has sent it a signal, who was not its parent.
SIGNALLED = 83
CODES = {Ending.DRAINED: 0, Ending.STOPPED: 0, Ending.RETIRED: RECYCLE, Ending.SIGNALLED: SIGNALLED}


class Born(NamedTuple):
    """Its settings are fine: the worker's name, and how long its jobs have to end when it is told to stop."""

    worker: str
    grace: float


class Begun(NamedTuple):
    """It takes jobs."""


class Leaving(NamedTuple):
    """It takes no more jobs, and ends when those that run have ended: somebody else may have its place."""


class Over(NamedTuple):
    """The worker has stopped; the process is about to end."""


class Failed(NamedTuple):
    """It cannot work: why, and the code that it ends with; 2 means that the next one cannot either."""

    text: str
    code: int


Message = Born | Begun | Leaving | Over | Failed


class Lifeline:
    """The child's end. A parent that has died is told nothing.

    ``held`` says whether it shall begin by taking no jobs.
    """

    def __init__(self, pipe: Connection, held: bool) -> None:
        self._pipe = pipe
        self.held = held

    def tell(self, message: Message) -> None:
        """Sends a message; they are small, and never block."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)
