"""`saq abort`: the end of jobs that are not finished."""

from __future__ import annotations

from collections.abc import Sequence

from saq.job import Job
from saq.terminal import command
from saq.terminal.change import Change, everywhere, named
from saq.terminal.command import NOT_SO, Call
from saq.terminal.jobs import INCOMPLETE


def main(words: Sequence[str]) -> int:
    """Runs `saq abort`."""
    parser = command.parser(
        "abort",
        "Ends jobs that wait, at once, and asks the workers of those that run to end them.",
        {NOT_SO: "at least one of them was not aborted (it had ended, it is unknown), or there is none"},
    )
    parser.add_argument("key", nargs="*", help="their keys; behind -- if one begins with a dash")
    parser.add_argument("--state", choices=INCOMPLETE, help="all that are there, instead of keys")
    parser.add_argument("--function", metavar="NAME", help="with --state: only those of this function")
    parser.add_argument(
        "--reason", default="aborted from the command line", help="what the jobs keep as their error"
    )
    options = parser.parse_intermixed_args(words)
    if bool(options.key) == bool(options.state):
        parser.error("say either keys or --state")
    if options.function is not None and not options.state:
        parser.error("--function goes with --state")
    return command.run(parser, options, _abort)


async def _abort(call: Call) -> int:
    async def abort(key: str) -> bool:
        return await call.queue.abort(Job("", key=key, queue=call.queue), call.options.reason)

    change = Change(abort, "aborted")
    if call.options.state:
        return await everywhere(call, change, call.options.state, call.options.function)
    return await named(call, change, call.options.key)
