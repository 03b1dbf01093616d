"""Doing something to jobs: to those that are named, or to all in a state.

Owns how what came of it is said, for the verbs that do so. Must not know what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from saq.errors import RunningError
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.jobs import walk, whereabouts
from saq.terminal.screen import plural, printable

#: So many are under way at once.
AT_ONCE = 100


class Change(NamedTuple):
    """What is done to a job.

    Args:
        do: takes a key; whether it changed anything. May raise ``RunningError``.
        done: what has been done then, in words.
    """

    do: Callable[[str], Awaitable[bool]]
    done: str


async def named(call: Call, change: Change, keys: list[str]) -> int:
    """Does it to the jobs of these keys; with --json, a line each."""
    code = DONE
    for key in keys:
        try:
            why = "" if await change.do(key) else await whereabouts(call.queue, key)
        except RunningError as error:
            why = str(error)
        if why:
            code = NOT_SO
        if call.json:
            call.document({"key": key, "changed": not why, "why": why or None})
        elif why:
            call.note(f"{printable(key)}: nothing was changed: {why}")
        else:
            call.say(f"{change.done} {printable(key)}")
    return code


async def everywhere(call: Call, change: Change, state: str, function: str | None) -> int:
    """Does it to all jobs in a state; with --json, one object."""
    changed = passed = 0
    part: list[str] = []

    async def flush() -> None:
        nonlocal changed, passed
        answers = await asyncio.gather(*(change.do(key) for key in part), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, RunningError):
                raise answer
        changed += sum(answer is True for answer in answers)
        passed += sum(answer is not True for answer in answers)
        part.clear()
        call.progress(f"{change.done} {changed:,}")

    async for job, _, _ in walk(call, state, function):
        part.append(job.key)
        if len(part) == AT_ONCE:
            await flush()
    if part:
        await flush()
    if call.json:
        call.document({"state": state, "changed": changed, "unchanged": passed})
    else:
        moved = f"; {plural(passed, 'other')} had moved on" if passed else ""
        call.say(f"{change.done} {plural(changed, 'job')}{moved}")
    return DONE if changed else NOT_SO
