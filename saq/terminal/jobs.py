"""`saq jobs`: the jobs of a queue, by where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from saq.job import Job, Status
from saq.queue.base import Queue
from saq.queue.views import Mark, State
from saq.terminal import command, facts
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import Column, plural, printable
from saq.terminal.words import ago, shown, span, until, whole

#: What may be asked for → the list that it is in, and the status that it has there.
WANTED: dict[str, tuple[State, Status | None]] = {
    "active": ("active", None),
    "queued": ("queued", None),
    "scheduled": ("scheduled", None),
    "finished": ("finished", None),
    "complete": ("finished", Status.COMPLETE),
    "aborted": ("finished", Status.ABORTED),
    "failed": ("failed", None),
}
INCOMPLETE = ("active", "queued", "scheduled")

COLUMNS = (
    Column("KEY", least=8),
    Column("FUNCTION", least=8),
    Column("STATUS"),
    Column("WHEN"),
    Column("TRIES", right=True, optional=True),
    Column("TOOK", right=True, optional=True),
    Column("ARGUMENTS", least=6, optional=True),
)


def main(words: Sequence[str]) -> int:
    """Runs `saq jobs`."""
    parser = command.parser(
        "jobs",
        "Lists jobs, those that will run first, or have ended last, at the top. With --json, one line each.",
        {DONE: "there are some", NOT_SO: "there is none"},
    )
    parser.add_argument(
        "--state",
        action="append",
        choices=list(WANTED),
        help="only those: may be repeated [active, queued, scheduled]; finished is complete and aborted",
    )
    parser.add_argument("--function", metavar="NAME", help="only those of this function")
    parser.add_argument("--limit", type=whole, default=20, help="so many at the most; 0 is all [20]")
    return command.run(parser, parser.parse_intermixed_args(words), _jobs, each=True)


async def _jobs(call: Call) -> int:
    options = call.options
    states = list(dict.fromkeys(options.state or INCOMPLETE))
    if "finished" in states:
        states = [state for state in states if state not in ("complete", "aborted")]
    listed: list[tuple[str, Job, Mark, int]] = []
    found = 0
    more = False
    for state in states:
        async for job, place, now in walk(call, state, options.function):
            if options.limit and found == options.limit:
                more = True
                break
            found += 1
            if call.json:
                call.document({**facts.job(job), "state": WANTED[state][0]})
            else:
                listed.append((state, job, place, now))
        if more:
            break
    call.end_progress()
    if listed:
        for line in call.table(COLUMNS, [_row(*item) for item in listed]):
            call.say(line)
    if more:
        call.note(f"the first {plural(found, 'job')}; --limit 0 shows all")
    if not found:
        call.note(f"there is no such job in the queue {call.queue.name!r}")
    return DONE if found else NOT_SO


async def walk(call: Call, wanted: str, function: str | None) -> AsyncIterator[tuple[Job, Mark, int]]:
    """The jobs in a state, each with its place there and the time of the server.

    A job that moves on meanwhile may be missed.
    """
    state, status = WANTED[wanted]
    after = None
    looked = 0
    while True:
        part = await call.queue.views.browse(state, after)
        for job, place, _ in part.jobs:
            if (status is None or job.status is status) and function in (None, job.function):
                yield job, place, part.now
        looked += part.looked
        if part.end is None:
            return
        after = part.end
        call.progress(f"{state}: looked at {looked:,} of {part.total:,}")


async def whereabouts(queue: Queue, key: str) -> str:
    """Where a job is, in words, for why something could not be done to it."""
    job = await queue.job(key)
    if job is None:
        return "there is no such job"
    waits = job.status is Status.QUEUED
    return "it is waiting already" if waits else f"it is {job.status.value}"


def _row(state: str, job: Job, place: Mark, now: int) -> tuple[str, ...]:
    where = WANTED[state][0]
    when = {
        "active": ago(job.started, now),
        "queued": f"waits for {span(now - job.queued)}" if job.queued else "",
        "scheduled": until(int(float(place.score)), now),
    }.get(where, ago(job.completed, now))
    took = job.duration("process")
    return (
        printable(job.key),
        printable(job.function),
        "scheduled" if where == "scheduled" else job.status.value,
        when,
        f"{job.attempts} of {job.retries}" if job.attempts else "",
        span(took) if took is not None and where in ("finished", "failed") else "",
        ", ".join(f"{printable(str(name))}={shown(value, 40)}" for name, value in (job.kwargs or {}).items()),
    )
