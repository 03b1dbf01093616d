"""`saq quiet`: workers that take no more jobs, and stay."""

from __future__ import annotations

from collections.abc import Sequence

from saq.queue.views import WorkerView
from saq.terminal import command
from saq.terminal.command import DONE, NOT_SO, Call
from saq.terminal.screen import plural, printable
from saq.terminal.words import seconds, span

#: Seconds; who forgets about it shall not wonder for ever.
DEFAULT = 3600.0


def main(words: Sequence[str]) -> int:
    """Runs `saq quiet`."""
    parser = command.parser(
        "quiet",
        "Has workers take no more jobs for some time. Jobs that run go on; other workers do as ever, also "
        "those that start later. `saq pause` is for the whole queue.",
        {NOT_SO: "there is no such worker"},
    )
    parser.add_argument("worker", nargs="*", help="their names, or how they begin [all that live]")
    parser.add_argument(
        "--for", type=seconds, default=DEFAULT, metavar="SPAN", dest="span", help="how long [1h]"
    )
    parser.add_argument("--off", action="store_true", help="have them take jobs again")
    options = parser.parse_intermixed_args(words)
    if not options.off and options.span < 1:
        parser.error("--for takes a second at the least; --off has them take jobs again")
    return command.run(parser, options, _quiet)


async def _quiet(call: Call) -> int:
    options, queue = call.options, call.queue
    workers = (await queue.views.workers()).workers
    code = DONE
    chosen: list[str] = [] if options.worker else [worker.id for worker in workers]
    for name in options.worker:
        found = _find(name, workers)
        if len(found) == 1:
            chosen += found
        else:
            code = NOT_SO
            several = f"{plural(len(found), 'worker')} begin" if found else "no live worker begins"
            call.note(f"{several} with {printable(name)!r}")
    if not options.worker and not workers:
        call.note(f"the queue {queue.name!r} has no live worker")
        code = NOT_SO
    for id in dict.fromkeys(chosen):
        until = await queue.views.quiet(id, 0 if options.off else options.span)
        if until is None:
            code = NOT_SO
            call.note(f"{printable(id)} has stopped meanwhile")
        elif call.json:
            call.document({"id": id, "queue": queue.name, "quiet": until})
        elif options.off:
            call.say(f"{printable(id)} takes jobs again")
        else:
            call.say(f"{printable(id)} takes no jobs for {span(options.span * 1000)}")
    return code


def _find(name: str, workers: list[WorkerView]) -> list[str]:
    ids = [worker.id for worker in workers]
    return [name] if name in ids else [id for id in ids if id.startswith(name)]
