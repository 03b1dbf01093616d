"""Asking all queues at once.

Owns that one whose server is away does not hide the others. Must not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from saq.queue.base import Queue
from saq.web.call import AWAY, Site
from saq.web.present import queue_name

#: Seconds that each queue is given: a page of all of them does not wait for one that is away.
PATIENCE = 3.0

T = TypeVar("T")


class Asked(NamedTuple):
    """What the queues said, in order.

    Args:
        answers: of those that answered.
        unavailable: those that did not, for the client.
    """

    answers: list[Any]
    unavailable: list[dict[str, Any]]


async def ask(site: Site, question: Callable[[Queue], Awaitable[T]]) -> Asked:
    """Asks each queue. If none of them answers, that is the answer: it raises what the first one raised."""
    found = await asyncio.gather(
        *(asyncio.wait_for(question(queue), PATIENCE) for queue in site.queues.values()),
        return_exceptions=True,
    )
    answers: list[T] = []
    away: dict[str, BaseException] = {}
    for name, answer in zip(site.queues, found, strict=True):
        if not isinstance(answer, BaseException):
            answers.append(answer)
        elif isinstance(answer, AWAY):
            away[name] = answer
        else:
            raise answer
    if away and not answers:
        raise next(iter(away.values()))
    return Asked(answers, [queue_name(name) for name in away])
