"""`saq cron`: what the clock enqueues, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from saq import cron
from saq.queue.views import EntryView
from saq.terminal import command, facts
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import Column, printable
from saq.terminal.words import ago, shown, until

COLUMNS = (
    Column("FUNCTION", least=8),
    Column("CRON"),
    Column("ZONE", optional=True),
    Column("LAST", right=True),
    Column("NEXT", right=True),
    Column("WORKERS", right=True, optional=True),
    Column("ARGUMENTS", least=6, optional=True),
)


def main(words: Sequence[str]) -> int:
    """Runs `saq cron`."""
    parser = command.parser(
        "cron",
        "Lists the cron entries of the live workers, with their last and their next tick. "
        "With --json, one line each.",
        {DONE: "there are some", NOT_SO: "no live worker has any"},
    )
    return command.run(parser, parser.parse_intermixed_args(words), _cron, each=True)


async def _cron(call: Call) -> int:
    queue = call.queue
    now = await queue.server_time()
    entries = sorted(await queue.views.schedule(), key=lambda view: view.entry.name)
    if not entries:
        call.note(f"no live worker of the queue {queue.name!r} has a cron entry")
        return NOT_SO
    ticks = [_next(view, now) for view in entries]
    if call.json:
        for view, tick in zip(entries, ticks, strict=True):
            call.document(facts.entry(queue, view, tick))
        return DONE
    rows = [_row(view, tick, int(now * 1000)) for view, tick in zip(entries, ticks, strict=True)]
    for line in call.table(COLUMNS, rows):
        call.say(line)
    return DONE


def _next(view: EntryView, now: float) -> float | None:
    """The next tick; None where this machine does not know the time zone."""
    zone: tzinfo
    try:
        zone = UTC if view.entry.timezone in ("UTC", "") else ZoneInfo(view.entry.timezone)
    except (ValueError, OSError, LookupError):
        return None
    return cron.next_tick(view.entry.cron, now, zone)


def _row(view: EntryView, tick: float | None, now: int) -> tuple[str, ...]:
    entry = view.entry
    return (
        printable(entry.job.function),
        printable(entry.cron),
        printable(entry.timezone),
        ago(view.last, now),
        "" if tick is None else until(int(tick * 1000), now),
        str(view.workers),
        shown(entry.job.kwargs, 60) if entry.job.kwargs else "",
    )
