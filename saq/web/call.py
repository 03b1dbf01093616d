"""A request that has found its route.

Owns what a view is handed. Must not decide anything about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saq.errors import ServerError
from saq.queue.base import Queue
from saq.web.http import Request

#: What says that a queue's server is not there, or not now.
AWAY = (ServerError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what the app found out about it.

    Args:
        request: as it came.
        queues: all that are shown, by name.
        segments: of its path, raw.
        query: raw.
        names: what stands in the path for ``{queue}``, ``{job}`` and ``{name}``, decoded.
        found: the queue that the path names, if there is one.
    """

    request: Request
    queues: Mapping[str, Queue]
    segments: Sequence[bytes]
    query: bytes
    names: Mapping[str, str]
    found: Queue | None

    @property
    def queue(self) -> Queue:
        """The queue of a route that has one: the app answers 404 before a view is asked."""
        assert self.found is not None
        return self.found
