"""Which signal means what to a worker process and to a supervisor.

Owns these names, and the time before anybody listens. Must not act on a signal.

    SIGTERM, SIGINT   stop: take no more jobs, let the running ones have their grace; a second one: stop now
    SIGTSTP           hold: take no more jobs, and stay
    SIGCONT           go on
    SIGHUP            to a supervisor: replace the workers one by one; to one of its workers: end after the
                      running jobs, to be replaced; to a worker by itself: its terminal is gone, so stop
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeGuard

STOP: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
#: None where the platform has no such signal.
HOLD: signal.Signals | None = getattr(signal, "SIGTSTP", None)
GO_ON: signal.Signals | None = getattr(signal, "SIGCONT", None)
REPLACE: signal.Signals | None = getattr(signal, "SIGHUP", None)
#: A child has ended. The pipe that says so as well is silent as long as a child of that child holds it open.
CHILD: signal.Signals | None = getattr(signal, "SIGCHLD", None)

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers


def catch(signum: signal.Signals | None, handler: Handler) -> None:
    """Has a signal handled from now on, where there is such a signal."""
    if can_catch(signum) and threading.current_thread() is threading.main_thread():
        signal.signal(signum, handler)


def can_catch(signum: signal.Signals | None) -> TypeGuard[signal.Signals]:
    """Whether there is such a signal, and `nohup` has not turned it off."""
    return signum is not None and (signum != REPLACE or signal.getsignal(signum) is not signal.SIG_IGN)


class Early:
    """The signals of a process that is still starting: to stop is a ``KeyboardInterrupt`` then.

    ``held`` says whether it was told to hold. ``alone``: it is no supervisor, and has none.
    """

    def __init__(self, *, alone: bool, held: bool = False) -> None:
        self.held = held
        for signum in STOP:
            catch(signum, signal.default_int_handler)
        catch(HOLD, self._hold)
        catch(GO_ON, self._go_on)
        # Of several, there is nothing to replace yet.
        catch(REPLACE, signal.default_int_handler if alone else lambda signum, frame: None)

    def _hold(self, signum: int, frame: FrameType | None) -> None:
        self.held = True

    def _go_on(self, signum: int, frame: FrameType | None) -> None:
        self.held = False


class Terminal:
    """The terminal that this process was started at, if any."""

    def __init__(self) -> None:
        self._had = self._opens()

    @property
    def gone(self) -> bool:
        """Whether there was one, and it has hung up."""
        return self._had and not self._opens()

    @staticmethod
    def _opens() -> bool:
        with contextlib.suppress(OSError):
            os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
            return True
        return False
