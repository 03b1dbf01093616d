"""`saq job`: one job, with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saq.job import Job, Status
from saq.queue.views import Attempt
from saq.terminal import command, facts
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import Column, printable
from saq.terminal.words import clock, shown, span

COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("STARTED"),
    Column("TOOK", right=True),
    Column("OUTCOME"),
    Column("WORKER", least=8, optional=True),
    Column("ERROR", least=8, optional=True),
)


def main(words: Sequence[str]) -> int:
    """Runs `saq job`."""
    parser = command.parser(
        "job",
        "Says all that is known of a job. With --json, one object.",
        {NOT_SO: "there is no such job (any more)"},
    )
    parser.add_argument("key", help="its key; behind -- if it begins with a dash")
    return command.run(parser, parser.parse_intermixed_args(words), _job)


async def _job(call: Call) -> int:
    job = await call.queue.job(call.options.key)
    if job is None:
        call.note(f"there is no job {call.options.key!r} in the queue {call.queue.name!r} (any more)")
        return NOT_SO
    attempts = call.queue.views.attempts(job)
    if call.json:
        call.document({**facts.job(job), "history": facts.attempts(attempts)})
        return DONE
    for line in _lines(call, job, attempts):
        call.say(line)
    return DONE


def _lines(call: Call, job: Job, attempts: list[Attempt]) -> Iterator[str]:
    style = call.out.style
    colour = {Status.FAILED: "red", Status.COMPLETE: "green", Status.ABORTED: "yellow"}.get(
        job.status, "bold"
    )
    yield f"{style(printable(job.key), 'bold')}  {style(job.status.value, colour)}"
    yield ""
    rows = {
        "function": printable(job.function),
        "queue": printable(call.queue.name),
        "scheduled": clock(int(job.scheduled * 1000)) if job.scheduled else "",
        "queued": clock(job.queued) if job.queued else "",
        "started": clock(job.started) if job.started else "",
        "ended": clock(job.completed) if job.completed else "",
        "waited": _span(job.duration("start")),
        "took": _span(job.duration("process")),
        "attempts": f"{job.attempts} of {job.retries}",
        "timeout": f"{job.timeout:g} s" if job.timeout else "none",
        "priority": str(job.priority) if job.priority else "",
        "progress": f"{job.progress:.0%}" if job.progress else "",
        "worker": printable(job.worker_id or ""),
        "meta": shown(job.meta) if job.meta else "",
        "result": shown(job.result) if job.status is Status.COMPLETE else "",
    }
    for name, text in rows.items():
        if text:
            yield f"  {name:<9}  {text}"
    if job.kwargs:
        yield "  arguments"
        for name, value in job.kwargs.items():
            yield f"    {printable(str(name))} = {shown(value)}"
    if len(attempts) > 1:
        yield ""
        yield from call.table(COLUMNS, [_row(attempt) for attempt in attempts], "  ")
    if job.error and job.status is not Status.COMPLETE:
        yield ""
        yield "  error"
        for line in job.error.rstrip().splitlines():
            yield "    " + style(printable(line), "red")


def _span(ms: int | None) -> str:
    return "" if ms is None else span(ms)


def _row(attempt: Attempt) -> tuple[str, ...]:
    lines = attempt.error.strip().splitlines()
    return (
        str(attempt.number),
        clock(attempt.started) if attempt.started else "",
        span(attempt.ended - attempt.started) if attempt.ended and attempt.started else "",
        attempt.outcome or "runs",
        printable(attempt.worker),
        printable(lines[-1]) if lines else "",
    )
