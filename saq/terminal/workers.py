"""`saq workers`: who works for a queue, and at what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saq.queue.views import WorkersView
from saq.terminal import command, facts
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import Column, plural, printable
from saq.terminal.words import ago, span

COLUMNS = (
    Column("WORKER", least=9, keep_end=False),
    Column("HOST", least=6, optional=True),
    Column("PID", right=True),
    Column("STATE"),
    Column("RUNS", right=True),
    Column("OF", right=True, optional=True),
    Column("COMPLETE", right=True),
    Column("FAILED", right=True),
    Column("UP", right=True, optional=True),
    Column("SEEN", right=True, optional=True),
)


def main(words: Sequence[str]) -> int:
    """Runs `saq workers`."""
    parser = command.parser(
        "workers",
        "Lists the live workers of a queue. With --json, one line each.",
        {DONE: "there are some", NOT_SO: "there is none"},
    )
    return command.run(parser, parser.parse_intermixed_args(words), _workers, each=True)


async def _workers(call: Call) -> int:
    view = await call.queue.views.workers()
    if call.json:
        for worker in facts.workers(call.queue, view):
            call.document(worker)
    elif view.workers:
        for line in lines(call, view):
            call.say(line)
    if not view.workers:
        call.note(f"the queue {call.queue.name!r} has no live worker")
    elif view.partial and not call.json:
        call.note(f"more than {plural(len(view.running), 'job')} run: not all are counted")
    return DONE if view.workers else NOT_SO


def lines(call: Call, view: WorkersView, indent: str = "") -> list[str]:
    """The table of workers."""
    return call.table(COLUMNS, [_row(worker, view.now) for worker in facts.workers(call.queue, view)], indent)


def _row(worker: dict[str, Any], now: int) -> tuple[str, ...]:
    about, stats = worker["about"], worker["stats"] or {}
    state = worker["state"]
    if state == "quiet":
        state = f"quiet for {span(worker['quiet'] - now)}"
    return (
        printable(worker["id"]),
        printable(str(about.get("host", ""))),
        str(about.get("pid", "")),
        state,
        f"{worker['running']:,}",
        str(about.get("concurrency", "")),
        f"{stats.get('complete', 0):,}",
        f"{stats.get('failed', 0):,}",
        span(about["uptime"] + now - worker["seen"]) if "uptime" in about else "",
        ago(worker["seen"], now),
    )
