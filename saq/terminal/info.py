"""`saq info`: a queue and its workers at one moment, or as they change."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence

from saq.errors import ServerError
from saq.queue.views import COUNTERS, Counts, WorkersView
from saq.terminal import command, facts
from saq.terminal import workers as table
from saq.terminal.command import DONE, Call
from saq.terminal.screen import printable
from saq.terminal.words import ago, seconds, span, until


def main(words: Sequence[str]) -> int:
    """Runs `saq info`."""
    parser = command.parser(
        "info",
        "Says how a queue is: its jobs by state, its counters, its workers. With --json, one object; with "
        "--watch as well, one a line.",
        {},
    )
    parser.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    parser.add_argument(
        "--every", type=seconds, default=1.0, metavar="SPAN", help="how often, with --watch [1s]"
    )
    options = parser.parse_intermixed_args(words)
    return command.run(parser, options, _info, each=not options.watch)


async def _info(call: Call) -> int:
    if call.options.watch:
        await _watch(call)
        return DONE
    counts, view = await _read(call)
    if call.json:
        call.document(_document(call, counts, view))
    else:
        for line in _lines(call, counts, view, None):
            call.say(line)
    return DONE


async def _read(call: Call) -> tuple[Counts, WorkersView]:
    views = call.queue.views
    counts, workers = await asyncio.gather(views.counts(), views.workers())
    return counts, workers


def _document(call: Call, counts: Counts, view: WorkersView) -> dict[str, object]:
    return {**facts.counts(call.queue, counts), "workers": facts.workers(call.queue, view)}


async def _watch(call: Call) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # where a loop has no signals, Ctrl-C does as ever
            loop.add_signal_handler(signum, task.cancel)
    before: Counts | None = None
    begun = False
    try:
        while True:
            began = time.monotonic()
            try:
                counts, view = await _read(call)
            except ServerError as error:
                if not begun:
                    raise
                _show(call, [f"{call.queue.name}: {error}", "", "trying again"])
            else:
                begun = True
                if call.json:
                    call.document(_document(call, counts, view))
                else:
                    _show(call, _lines(call, counts, view, before))
                before = counts
            await asyncio.sleep(max(0.05, call.options.every - (time.monotonic() - began)))
    except asyncio.CancelledError:
        task.uncancel()
    finally:
        call.out.end_page()


def _show(call: Call, lines: list[str]) -> None:
    if call.json:
        call.note(lines[0])
    else:
        call.out.page(lines)


def _lines(call: Call, counts: Counts, view: WorkersView, before: Counts | None) -> list[str]:
    style = call.out.style
    lines = [f"{style(printable(call.queue.name), 'bold')}  {style(repr(call.queue), 'dim')}", ""]
    if counts.paused:
        since = ago(counts.paused, counts.now)
        lines += [style(f"  paused {since}: no worker takes a job until `saq resume`", "yellow"), ""]
    notes = {
        "queued": f"the oldest waits for {span(counts.now - counts.oldest)}" if counts.oldest else "",
        "scheduled": f"the next is due {until(counts.due, counts.now)}" if counts.due else "",
        "finished": "kept",
        "failed": "kept",
    }
    states = ("queued", "scheduled", "active", "finished", "failed")
    width = max(len(f"{getattr(counts, state):,}") for state in states)
    for state in states:
        number = getattr(counts, state)
        cell = f"{number:>{width},}"
        cell = style(cell, "red") if state == "failed" and number else cell
        lines.append(f"  {state:<9}  {cell}  {style(notes.get(state, ''), 'dim')}".rstrip())
    lines += ["", "  so far  " + ", ".join(f"{counts.stats[name]:,} {name}" for name in COUNTERS)]
    if before is not None and counts.now > before.now:
        elapsed = (counts.now - before.now) / 1000
        rates = {name: (counts.stats[name] - before.stats[name]) / elapsed for name in COUNTERS}
        lines.append("  a second  " + ", ".join(f"{rate:,.1f} {name}" for name, rate in rates.items()))
    lines.append("")
    if view.workers:
        lines += table.lines(call, view, "  ")
    else:
        lines.append(style("  no live worker", "yellow"))
    return lines
