"""Several worker processes under one parent.

Owns the children: starts them, passes signals on, fills the places of those that end or die, and always ends
in bounded time. Must not work itself.

A place in the fleet is a *slot*. Its child is starting until it takes jobs, then it is *working*, and
*leaving* when it takes no more: then another may fill its slot while its last jobs run.

    it dies             its slot is filled again, later each time that this follows at once
    reaches a limit     its slot is filled at once, while its running jobs end
    ends by itself      its slot stays empty: a burst worker has nothing left to do
    dies as it starts   given up, if none works and it happens again and again, or cannot get better
    SIGHUP              in one slot after the other, a new one starts, and the old one leaves when that works;
                        if it does not, the old ones go on
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from saq.worker.lifeline import (
    RECYCLE,
    SIGNALLED,
    Begun,
    Born,
    Failed,
    Leaving,
    Lifeline,
    Over,
)
from saq.worker.signals import CHILD, GO_ON, HOLD, REPLACE, STOP, Terminal, catch

logger = logging.getLogger("saq")

#: Children that die as they start, so many in a row, will not do better the next time.
EARLY_DEATHS = 3
#: Seconds before the slot of a dead child is filled again: doubled with each death in a row, up to a limit.
BACKOFF = 0.2
LONGEST_BACKOFF = 30.0
#: A child that has worked for so many seconds is no death in a row any more.
STEADY = 10.0
#: Seconds that a child has to end when it is told to, beyond the grace that its jobs have …
KILL_AFTER = 30.0
#: … and after a second signal.
KILL_SOON = 15.0


class _Child:
    """A worker process."""

    def __init__(self, slot: int, process: SpawnProcess, pipe: Connection, held: bool) -> None:
        self.slot = slot
        #: Whether it was started holding.
        self.held = held
        self.process = process
        self.pipe: Connection | None = pipe
        self.began = time.monotonic()
        #: The name of its worker, once that is known.
        self.worker = ""
        self.grace = 0.0
        self.working = False
        self.leaving = False
        self.failure: Failed | None = None
        #: Stop signals passed on, and when it is killed.
        self.told = 0
        self.deadline = math.inf

    def __str__(self) -> str:
        return f"Worker process {self.process.pid}"

    def send(self, signum: signal.Signals | None) -> None:
        """Sends a signal, if it lives."""
        pid = self.process.pid
        if signum is not None and pid is not None and self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def stop(self) -> None:
        """Tells it to stop; the second time, at once; the third time there is nothing left to tell."""
        self.told += 1
        if self.told > 2:
            self.process.kill()
            return
        # Two of a kind may arrive as one; a worker takes the one like the other. One that still imports gets
        # no SIGINT, which could interrupt it where that shows as a stack trace.
        self.send(signal.SIGINT if self.told == 2 and self.working else signal.SIGTERM)
        if not self.working:
            self.send(GO_ON)  # the terminal may have suspended it
        patience = self.grace + KILL_AFTER if self.told == 1 else KILL_SOON
        self.deadline = min(self.deadline, time.monotonic() + patience)

    def retire(self) -> None:
        """Has it take no more jobs, and end after those that run."""
        self.leaving = True
        self.send(REPLACE)


class Supervisor:
    """Runs ``count`` processes that each call ``target(lifeline, slot, *arguments)``.

    Args:
        target: importable, as the children are spawned, not forked: no thread and no connection of the parent
            is half copied into them. It tells the lifeline how it goes.
        alone: slots whose child listens somewhere: it has to be gone before the next one can start.
        bury: called with the name of a worker whose process has died.
        held: whether they begin by holding: see ``signals.py``.
        watch: starts to watch files, and calls what it is given when they have changed; then all children are
            started again, and none is given up.
    """

    def __init__(
        self,
        count: int,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        alone: Collection[int] = (),
        bury: Callable[[str], None] = lambda worker: None,
        held: bool = False,
        watch: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._count = count
        self._target = target
        self._arguments = arguments
        self._alone = alone
        self._bury = bury
        self._held = held
        self._watch = watch
        self._children: list[_Child] = []
        #: Slots that are to be filled, and when (monotonic).
        self._due: dict[int, float] = {}
        #: Deaths in a row of each slot, and of all that were starting.
        self._deaths: Counter[int] = Counter()
        self._early = 0
        #: Slots whose workers have worked at all.
        self._proved: set[int] = set()
        self._said: set[str] = set()
        self._signals: deque[int] = deque()
        self._changed = False
        self._stops = 0
        self._code = 0
        #: Children that shall be replaced, and the slot whose turn it is.
        self._rolling: list[_Child] = []
        self._turn: int | None = None
        self._roll_again = False
        self._terminal = Terminal()
        self._woken, self._wake = socket.socketpair()

    def run(self) -> int:
        """Supervises until all children have ended. Returns the exit code for the parent."""
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        ours = (*STOP, HOLD, GO_ON, REPLACE, CHILD)
        before = {signum: signal.getsignal(signum) for signum in ours if signum is not None}
        for signum in before:
            catch(signum, self._on_signal if signum != CHILD else lambda signum, frame: None)
        wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            if self._watch is not None:
                self._watch(self._on_change)
            self._due = dict.fromkeys(range(self._count), 0.0)
            while self._children or self._due or self._reloads:
                self._obey()
                self._start_due()
                self._roll()
                self._wait()
                self._kill_late()
        finally:
            signal.set_wakeup_fd(wakeup)
            for signum, handler in before.items():
                signal.signal(signum, handler or signal.SIG_DFL)
            self._woken.close()
            self._wake.close()
        return self._code

    # Waiting ----------------------------------------------------------------------------------------------

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        # Obeyed by the loop: here, a child may be half started.
        self._signals.append(signum)

    def _on_change(self) -> None:
        self._changed = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def _wait(self) -> None:
        """Waits for what happens next, and takes note of it."""
        if self._signals or self._changed or not (self._children or self._due or self._reloads):
            return
        moments = [*self._due.values(), *(child.deadline for child in self._children)]
        first = min(moments, default=math.inf)
        timeout = None if first == math.inf else max(0.0, first - time.monotonic())
        ends = {child.process.sentinel: child for child in self._children}
        pipes = {child.pipe: child for child in self._children if child.pipe is not None}
        ready = multiprocessing.connection.wait([*ends, *pipes, self._woken], timeout)
        with contextlib.suppress(BlockingIOError):
            while self._woken in ready and self._woken.recv(4096):
                pass
        for pipe, child in pipes.items():
            if pipe in ready:
                self._listen(child)
        for sentinel, child in ends.items():
            if sentinel in ready or child.process.exitcode is not None:
                self._on_end(child)

    def _listen(self, child: _Child) -> None:
        for message in _messages(child):
            match message:
                case Born(worker, grace):
                    child.worker, child.grace = worker, grace
                case Begun():
                    self._on_begun(child)
                case Leaving():
                    self._on_leaving(child)
                case Over():
                    child.deadline = min(child.deadline, time.monotonic() + KILL_AFTER)
                case Failed():
                    child.failure = message

    def _kill_late(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if now >= child.deadline:
                logger.error("%s does not end and is killed", child)
                child.process.kill()
                child.deadline = math.inf
                if self._stops:
                    self._code = self._code or 1

    # Signals ----------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        while self._signals:
            signum = self._signals.popleft()
            if signum in STOP or (signum == REPLACE and self._terminal.gone):
                self._stop(signal.Signals(signum).name)
            elif signum == REPLACE:
                logger.info("SIGHUP: the workers are replaced one by one")
                self._roll_again = True
            elif not self._stops:
                self._held = signum == HOLD
                logger.info("The workers %s", "take no more jobs" if self._held else "take jobs again")
                for child in self._children:
                    if child.working:
                        child.send(HOLD if self._held else GO_ON)
        if self._changed:
            self._changed = False
            self._reload()

    def _stop(self, why: str) -> None:
        self._stops += 1
        words = ("the workers stop", "again: the workers stop now", "again: the workers are killed")
        logger.log(
            logging.INFO if self._stops == 1 else logging.WARNING,
            "%s: %s",
            why,
            words[min(self._stops, 3) - 1],
        )
        self._due.clear()
        self._rolling.clear()
        self._turn, self._roll_again = None, False
        for child in self._children:
            # All have heard as many signals as this parent.
            while child.told < min(self._stops, 3):
                child.stop()

    def _reload(self) -> None:
        if self._stops:
            return
        logger.info("Files have changed: the workers start again")
        self._rolling.clear()
        self._turn, self._roll_again = None, False
        self._said.clear()
        running = {child.slot for child in self._children}
        self._due = {slot: 0.0 for slot in range(self._count) if slot not in running}
        for child in self._children:
            if not child.told:
                child.stop()

    @property
    def _reloads(self) -> bool:
        return self._watch is not None and not self._stops

    # Starting ---------------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        for slot in [slot for slot, moment in self._due.items() if moment <= time.monotonic()]:
            if self._signals:
                return  # they come first
            del self._due[slot]
            if not self._filled(slot):
                self._start(slot)

    def _start(self, slot: int) -> None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = self._context.Process(
            target=_child,
            args=(self._target, theirs, self._held, slot, *self._arguments),
            name=f"saq-worker-{slot}",
        )
        process.start()
        theirs.close()
        self._children.append(_Child(slot, process, ours, self._held))
        logger.info("Worker process %s started", process.pid)

    def _on_begun(self, child: _Child) -> None:
        child.working = True
        self._early = 0
        self._said.clear()
        self._proved.add(child.slot)
        if self._held is not child.held:
            child.send(HOLD if self._held else GO_ON)
        if self._turn == child.slot:
            self._turn = None
            for old in self._children:
                if old.slot == child.slot and old is not child and not old.leaving:
                    logger.info("%s is replaced by worker process %s", old, child.process.pid)
                    old.retire()

    def _roll(self) -> None:
        """Replaces the child whose turn it is: those that were there when that was asked for."""
        if self._turn is not None or self._stops:
            return
        if not self._rolling and self._roll_again:
            self._roll_again = False
            # Those that leave a gap come last: by then the others are new.
            olds = [child for child in self._children if not child.leaving]
            self._rolling = sorted(olds, key=lambda child: (child.slot in self._alone, child.slot))
        self._rolling = [old for old in self._rolling if old in self._children and not old.leaving]
        # One that is still starting has read the old code, maybe; it is waited for.
        old = next((old for old in self._rolling if old.working), None)
        if old is not None:
            self._rolling.remove(old)
            self._turn = old.slot
            if old.slot in self._alone:
                old.retire()
            else:
                self._start(old.slot)

    # Endings ----------------------------------------------------------------------------------------------

    def _on_leaving(self, child: _Child) -> None:
        child.leaving = True
        if not self._stops and not child.told and child.slot not in self._alone:
            self._due.setdefault(child.slot, 0.0)

    def _on_end(self, child: _Child) -> None:
        self._listen(child)  # what it has said last
        if child.pipe is not None:
            child.pipe.close()
        self._children.remove(child)
        child.process.join()
        code = child.process.exitcode or 0
        in_order = code in (0, RECYCLE, SIGNALLED) and child.failure is None
        if not in_order and child.worker and child.failure is None:
            self._bury(child.worker)  # nobody else takes its registration away
        if self._stops:
            # One that was still starting, or had already stopped, may die of the signal, and well so.
            if not in_order and code not in (-signal.SIGTERM, -signal.SIGINT):
                logger.error("%s died as it was stopped (%s)", child, _how(code))
                self._code = self._code or 1
        elif child.told:
            self._fill(child.slot)  # it was told to, for a newer one
        elif in_order:
            self._on_orderly_end(child, code)
        else:
            self._on_death(child, code)

    def _on_orderly_end(self, child: _Child, code: int) -> None:
        if code or child.leaving:
            logger.info("%s has ended: %s", child, "it is replaced" if code == RECYCLE else "it was stopped")
            self._fill(child.slot)
        else:
            logger.info("%s ended by itself", child)

    def _fill(self, slot: int, delay: float = 0.0) -> None:
        """Has a slot filled, unless it is."""
        if not self._filled(slot):
            self._due.setdefault(slot, time.monotonic() + delay)

    def _filled(self, slot: int) -> bool:
        return any(child.slot == slot and not child.leaving for child in self._children)

    def _on_death(self, child: _Child, code: int) -> None:
        slot, failure = child.slot, child.failure
        if failure is not None and failure.text not in self._said:
            self._said.add(failure.text)
            logger.error("A worker cannot start: %s", failure.text)
        if child.working:
            lasted = time.monotonic() - child.began
            self._deaths[slot] = self._deaths[slot] + 1 if lasted < STEADY else 0
        else:
            self._deaths[slot] += 1
            self._early += 1
            if self._turn == slot and self._filled(slot):
                logger.error("%s died as it started (%s): the old workers go on", child, _how(code))
                self._turn = None
                self._rolling.clear()
                return
            if self._reloads:
                logger.error(
                    "%s died as it started (%s); it starts again when files change", child, _how(code)
                )
                return
            hopeless = failure is not None and failure.code == 2 and slot not in self._proved
            others = any(other.working and not other.leaving for other in self._children)
            if hopeless or (self._early >= EARLY_DEATHS and not others):
                self._give_up(code)
                return
        delay = min(LONGEST_BACKOFF, BACKOFF * 2.0 ** min(self._deaths[slot], 16))
        filled = "was replaced already" if self._filled(slot) else f"is replaced in {delay:.1f} s"
        logger.error("%s died (%s) and %s", child, _how(code), filled)
        self._fill(slot, delay)

    def _give_up(self, code: int) -> None:
        logger.error(
            "Worker processes die as they start (%d in a row, the last with %s): giving up",
            self._early,
            _how(code),
        )
        self._code = code if code in (1, 2) else 1
        self._stop("Giving up")


def _messages(child: _Child) -> Iterator[Any]:
    """What a child has said since; its end of the pipe closes with it."""
    pipe = child.pipe
    try:
        while pipe is not None and pipe.poll():
            yield pipe.recv()
    except (EOFError, OSError):
        if pipe is not None:
            pipe.close()
        child.pipe = None


def _how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _child(target: Callable[..., None], pipe: Connection, held: bool, slot: int, *arguments: Any) -> None:
    # Ctrl-C reaches the whole group of the terminal; only the parent shall pass it on, once.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    target(Lifeline(pipe, held), slot, *arguments)
