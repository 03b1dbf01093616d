"""`saq pause`: no worker takes a job of the queue any more."""

from __future__ import annotations

from collections.abc import Sequence

from saq.terminal import command
from saq.terminal.command import DONE, Call
from saq.terminal.screen import printable
from saq.terminal.words import ago


def main(words: Sequence[str]) -> int:
    """Runs `saq pause`."""
    parser = command.parser(
        "pause",
        "Hands out no more jobs of the queue, to any worker, until `saq resume`. "
        "Running jobs go on, new ones wait.",
        {DONE: "done, or it was so already"},
    )
    return command.run(parser, parser.parse_intermixed_args(words), _pause)


async def _pause(call: Call) -> int:
    return await set_paused(call, True)


async def set_paused(call: Call, paused: bool) -> int:
    """Pauses the queue, or resumes it, and says how it was."""
    queue = call.queue
    before = await queue.views.counts()
    if bool(before.paused) is not paused:
        await (queue.pause() if paused else queue.resume())
    after = await queue.views.counts()
    if call.json:
        call.document(
            {"queue": queue.name, "paused": after.paused, "changed": bool(before.paused) is not paused}
        )
        return DONE
    name = printable(queue.name)
    if bool(before.paused) is not paused:
        rest = f"; {after.active:,} still run, {after.queued:,} wait" if paused else ""
        call.say(f"{name}: {'paused' if paused else 'resumed'}{rest}")
    elif paused:
        call.say(f"{name}: was paused already, {ago(before.paused, before.now)}")
    else:
        call.say(f"{name}: was not paused")
    return DONE
