"""`saq resume`: workers take jobs of the queue again."""

from __future__ import annotations

from collections.abc import Sequence

from saq.terminal import command
from saq.terminal.command import DONE, Call
from saq.terminal.pause import set_paused


def main(words: Sequence[str]) -> int:
    """Runs `saq resume`."""
    parser = command.parser(
        "resume",
        "Hands out jobs of the queue again, after `saq pause`.",
        {DONE: "done, or it was so already"},
    )
    return command.run(parser, parser.parse_intermixed_args(words), _resume)


async def _resume(call: Call) -> int:
    return await set_paused(call, False)
