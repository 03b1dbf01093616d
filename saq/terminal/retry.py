"""`saq retry`: finished jobs once more."""

from __future__ import annotations

from collections.abc import Sequence

from saq.terminal import command
from saq.terminal.change import Change, everywhere, named
from saq.terminal.command import NOT_SO, Call


def main(words: Sequence[str]) -> int:
    """Runs `saq retry`."""
    parser = command.parser(
        "retry",
        "Enqueues finished jobs again, whatever became of them; their attempts begin anew.",
        {NOT_SO: "at least one of them was not (it runs, it waits, it is unknown), or there is none"},
    )
    parser.add_argument("key", nargs="*", help="their keys; behind -- if one begins with a dash")
    parser.add_argument("--failed", action="store_true", help="all that have failed, instead of keys")
    parser.add_argument("--function", metavar="NAME", help="with --failed: only those of this function")
    options = parser.parse_intermixed_args(words)
    if bool(options.key) == options.failed:
        parser.error("say either keys or --failed")
    if options.function is not None and not options.failed:
        parser.error("--function goes with --failed")
    return command.run(parser, options, _retry)


async def _retry(call: Call) -> int:
    change = Change(call.queue.requeue, "retried")
    if call.options.failed:
        return await everywhere(call, change, "failed", call.options.function)
    return await named(call, change, call.options.key)
