"""What the verbs have in common: their first argument, how they end, and where they write.

Owns the way from words to an exit code. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from saq import logs
from saq.errors import RunningError, SaqError, ServerError, StaleError, UsageError
from saq.queue.base import Queue
from saq.settings import import_settings, queues_of
from saq.terminal.screen import Column, Screen, printable, table
from saq.terminal.words import to_json
from saq.worker.process import run_loop

DONE, NOT_SO, USAGE, SERVER, INTERRUPTED = 0, 1, 2, 3, 130
#: Whoever reads our output has gone: the same as if SIGPIPE had ended us.
NOBODY_READS = 141


def parser(verb: str, description: str, codes: Mapping[int, str]) -> argparse.ArgumentParser:
    """The parser of ``saq VERB SETTINGS``, with what its exit codes mean."""
    meanings = {
        DONE: "done",
        USAGE: "the settings or an option cannot be right",
        SERVER: "the server cannot be reached, or refuses it",
        **codes,
    }
    lines = "\n".join(f"  {code}  {meaning}" for code, meaning in sorted(meanings.items()))
    made = argparse.ArgumentParser(
        prog=f"saq {verb}",
        description=description,
        epilog=f"exit codes:\n{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("settings", help="path of the settings that name the queue: module.settings")
    made.add_argument("--queue", metavar="NAME", help="which one, where the settings have several")
    made.add_argument("--json", action="store_true", help="the same facts as JSON")
    return made


class Call:
    """One call of a verb: its queue, its options, and where it writes."""

    def __init__(self, verb: str, queue: Queue, options: Any) -> None:
        self.verb = verb
        self.queue = queue
        self.options = options
        self.json: bool = options.json
        self.out = Screen(sys.stdout)
        self._notes = Screen(sys.stderr)

    def say(self, text: str = "") -> None:
        """A line of the answer."""
        self._notes.end_status()
        self.out.say(text)

    def document(self, value: Any) -> None:
        """A line of JSON of the answer."""
        self.say(to_json(value))

    def note(self, text: str) -> None:
        """Something beside the answer: a warning, or why there is none."""
        self._notes.end_status()
        for line in logs.hide_secrets(f"{self.verb}: {text}").splitlines():
            self._notes.say(printable(line))

    def progress(self, text: str) -> None:
        """How far it is, on a terminal."""
        if self._notes.terminal:
            self._notes.status(text)

    def end_progress(self) -> None:
        """It is no more under way."""
        self._notes.end_status()

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
        """The lines of a table, with its titles in bold; only a terminal has no room for all of it."""
        width = self.out.width - len(indent) if self.out.terminal else sys.maxsize
        titles, *lines = table(columns, rows, width)
        return [indent + self.out.style(titles, "bold"), *(indent + line for line in lines)]


def run(
    parser: argparse.ArgumentParser,
    options: Any,
    work: Callable[[Call], Awaitable[int]],
    *,
    each: bool = False,
) -> int:
    """Does the work with the queue of the settings; returns the exit code.

    Where there are several, it is that of `--queue`; without that, ``each`` of them in turn, with the best of
    their exit codes, or a refusal.
    """
    logs.configure(0)
    verb = parser.prog

    def fail(error: BaseException, code: int) -> int:
        print(logs.hide_secrets(f"{verb}: {error}"), file=sys.stderr)
        return code

    try:
        queues = _chosen(queues_of(import_settings(options.settings)), options.queue, each)
        code = min(run_loop(_work([Call(verb, queue, options) for queue in queues], work)))
        sys.stdout.flush()
        return code
    except (RunningError, StaleError) as error:
        return fail(error, NOT_SO)
    except ServerError as error:
        return fail(error, SERVER)
    except SaqError as error:
        return fail(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS


def _chosen(queues: Sequence[Queue], name: str | None, each: bool) -> Sequence[Queue]:
    found = [queue for queue in queues if name in (None, queue.name)]
    names = ", ".join(repr(queue.name) for queue in queues)
    if not found:
        raise UsageError(f"the settings have no queue {name!r}; they have {names}")
    if len(found) > 1 and not each:
        raise UsageError(f"the settings have several queues: say which one, --queue NAME: {names}")
    return found


async def _work(calls: Sequence[Call], work: Callable[[Call], Awaitable[int]]) -> list[int]:
    codes = []
    for call in calls:
        try:
            codes.append(await work(call))
        finally:
            call.end_progress()
            with contextlib.suppress(SaqError):
                await call.queue.disconnect()
    return codes
