"""`saq enqueue`: a new job, and its result if it is waited for."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import time
from collections.abc import Sequence
from typing import Any

from saq.job import Job, Status
from saq.queue.views import MOST_FUNCTIONS
from saq.terminal import command, facts
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import printable
from saq.terminal.words import moment, seconds, shown, span

TIMED_OUT = 4

DESCRIPTION = """\
Enqueues a job. Its arguments are key=value; a value is read as JSON if it is any, and is text otherwise:
  saq enqueue app.settings resize path=/tmp/a.png size=200 'tags=["a", "b"]' 'code="0123"'
"""


def main(words: Sequence[str]) -> int:
    """Runs `saq enqueue`."""
    parser = command.parser(
        "enqueue",
        DESCRIPTION,
        {
            DONE: "it is enqueued; with --wait, it is complete",
            NOT_SO: "a job of that key is incomplete; with --wait, it failed or was aborted",
            TIMED_OUT: "with --wait-for: it did not end in time, and goes on",
        },
    )
    parser.add_argument("name", help="of the function")
    parser.add_argument("arguments", nargs="*", type=_argument, metavar="key=value", help="its arguments")
    parser.add_argument("--key", help="its identity [a new one]")
    parser.add_argument("--priority", type=_whole, help="-32768 to 32767, the lower runs first [0]")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--scheduled", type=moment, metavar="MOMENT", help="not before then: 2030-01-31T08:00")
    when.add_argument("--in", type=seconds, metavar="SPAN", dest="delay", help="not before so long: 10m")
    parser.add_argument(
        "--timeout", type=seconds, metavar="SPAN", help="what an attempt may take; 0: any [10s]"
    )
    parser.add_argument("--retries", type=_whole, metavar="N", help="attempts in all [1]")
    parser.add_argument("--ttl", type=_whole, metavar="SECONDS", help="how long the result is kept [600]")
    parser.add_argument("--wait", action="store_true", help="wait for its end, and print its result")
    parser.add_argument("--wait-for", type=seconds, metavar="SPAN", help="the same, for so long at the most")
    options = parser.parse_intermixed_args(words)
    names = [name for name, _ in options.arguments]
    for name in names:
        if names.count(name) > 1:
            parser.error(f"the argument {name!r} is given more than once")
    return command.run(parser, options, _enqueue)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    try:
        return name, json.loads(value, parse_constant=_no_json)
    except ValueError:
        return name, value


def _no_json(text: str) -> Any:
    raise ValueError(f"{text} is Python's, not JSON")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


async def _enqueue(call: Call) -> int:
    options = call.options
    fields = {
        name: value
        for name in ("key", "priority", "scheduled", "timeout", "retries", "ttl")
        if (value := getattr(options, name)) is not None
    }
    if options.delay is not None:
        fields["scheduled"] = time.time() + options.delay
    waits = options.wait or options.wait_for is not None
    await _warn(call, options.name)
    job = await call.queue.enqueue(Job(options.name, dict(options.arguments) or None, **fields))
    if job is None:
        call.note(f"a job with the key {options.key!r} is incomplete: nothing was enqueued")
        return NOT_SO
    if waits:
        return await _wait(call, job)
    if call.json:
        call.document(facts.job(job))
    else:
        delay = job.scheduled - time.time()
        when = f", to run in {span(delay * 1000)}" if delay > 0 else ""
        call.say(f"enqueued {printable(job.key)}{when}")
    return DONE


async def _warn(call: Call, name: str) -> None:
    """Says why the job would have to wait."""
    views = call.queue.views
    counts, known = await asyncio.gather(views.counts(), views.functions())
    if counts.paused:
        call.note("warning: the queue is paused: the job waits for `saq resume`")
    if name in known or len(known) >= MOST_FUNCTIONS:
        return
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    call.note(f"warning: no live worker knows the function {name!r}: the job waits for one.{hint}")


async def _wait(call: Call, job: Job) -> int:
    began = time.monotonic()
    call.progress(f"{job.key}: enqueued, waiting for its end")
    try:
        ended = await call.queue.wait(job.key, call.options.wait_for or None)
    except TimeoutError:
        call.note(f"{job.key} did not end in {span((time.monotonic() - began) * 1000)}, and goes on")
        return TIMED_OUT
    if ended is None:
        call.note(f"{job.key} was deleted, or keeps no record (ttl below 0)")
        return NOT_SO
    if call.json:
        call.document(facts.job(ended))
    elif ended.status is Status.COMPLETE:
        result = ended.result
        call.say(printable(result) if isinstance(result, str) else shown(result))
    if ended.status is Status.COMPLETE:
        return DONE
    call.note(f"{job.key} {ended.status.value}: {(ended.error or '').rstrip()}")
    return NOT_SO
