"""A request that has found its route.

Owns what a view is handed. Must not decide anything about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saq.errors import ServerError
from saq.queue.base import Queue
from saq.queue.history import History
from saq.web.http import Request
from saq.web.live import Live
from saq.web.present import Presenter

#: What says that a queue's server is not there, or not now.
AWAY = (ServerError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Site:
    """What one web interface consists of, for its views.

    Args:
        queues: all that are shown, by name.
        presenter: shows their jobs.
        read_only: whether nothing may be changed.
        live: what is measured while somebody watches.
        document: the whole API, as OpenAPI has it.
        past: of queue and minutes what is written down of the hours that are over, and which hours these are.
    """

    queues: Mapping[str, Queue]
    presenter: Presenter
    read_only: bool
    live: Live
    document: Mapping[str, Any]
    past: dict[tuple[str, int], tuple[range, History]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what the app found out about it.

    Args:
        request: as it came.
        site: what it was sent to.
        segments: of its path, raw.
        names: what stands in the path for ``{queue}``, ``{job}`` and the like, decoded.
        params: of its query, by name, as its route allows them.
        body: of a change, an object.
        found: the queue that the path names, if there is one.
    """

    request: Request
    site: Site
    segments: Sequence[bytes]
    names: Mapping[str, str]
    params: Mapping[str, Any]
    body: Mapping[str, Any]
    found: Queue | None

    @property
    def queue(self) -> Queue:
        """The queue of a route that has one: the app answers 404 before a view is asked."""
        assert self.found is not None
        return self.found
