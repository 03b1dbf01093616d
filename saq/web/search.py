"""Finding jobs in a list: by what they are, and by what is written in them.

Owns the filters, and how far one request looks. Must not show or change anything.

A search reads a bounded slice a request, says how far it has come, and hands out the place where it goes on.
It looks at what may be seen of a job: what is hidden cannot be found out by searching for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import Mark, State
from saq.web.cursors import Cursor
from saq.web.present import SEARCHED, Presenter, group_of, value

#: Jobs that one request looks at, at the most.
LOOK = 500

FIELDS = ("function", "status", "text", "worker", "group")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a job must be like. None and "" leave a field open."""

    presenter: Presenter
    function: str | None = None
    status: str | None = None
    text: str | None = None
    worker: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, presenter: Presenter, given: Mapping[str, Any]) -> Filter:
        """The filter that a query or a body asks for."""
        return cls(presenter, **{name: given.get(name) or None for name in FIELDS})

    @property
    def open(self) -> bool:
        """Whether it lets everything through."""
        return not any(getattr(self, name) for name in FIELDS)

    def admits(self, job: Job) -> bool:
        """Whether a job is what is looked for. The cheap questions come first."""
        if self.function and job.function != self.function:
            return False
        if self.status and job.status.value != self.status:
            return False
        if self.worker and job.worker_id != self.worker:
            return False
        if not self.group and not self.text:
            return True
        error = self.presenter.error(job)
        if self.group and group_of(job.function, error)[0] != self.group:
            return False
        return not self.text or self._says(job, error, self.text.lower())

    def _says(self, job: Job, error: str | None, text: str) -> bool:
        if any(text in str(said).lower() for said in (job.key, job.function, error) if said):
            return True
        kwargs = self.presenter.seen("kwargs", job.kwargs, job) if job.kwargs else None
        return kwargs is not None and text in value(kwargs, SEARCHED).lower()


@dataclass(frozen=True, slots=True)
class Found:
    """What one request has found.

    Args:
        now, total, position: as in ``Slice``.
        searched: how many jobs it looked at.
        jobs: those that match.
        places: for each of them the place behind it, and how many had been looked at there.
        next: where it goes on, or None: the list ends here.
    """

    now: int
    total: int
    position: int
    searched: int
    jobs: list[Job]
    places: list[tuple[Mark, int]]
    next: Cursor | None

    def shown(self) -> dict[str, Any]:
        """All but the jobs."""
        return {
            "now": self.now,
            "total": self.total,
            "position": self.position,
            "searched": self.searched,
            "next": None if self.next is None else str(self.next),
        }


async def find(queue: Queue, state: State, after: Cursor | None, wanted: Filter, limit: int) -> Found:
    """Looks for up to ``limit`` jobs; if the cursor says since when one searches, only for those that were
    there at that time."""
    began = after.began if after is not None else 0
    find = limit if wanted.open and not began else LOOK
    part = await queue.views.browse(state, after.mark if after is not None else None, look=LOOK, find=find)
    jobs: list[Job] = []
    places: list[tuple[Mark, int]] = []
    searched, end = part.looked, part.end
    for job, mark, looked in part.jobs:
        if (began and _since(job) > began) or not wanted.admits(job):
            continue
        jobs.append(job)
        places.append((mark, looked))
        if len(jobs) == limit:
            if looked < part.looked:
                searched, end = looked, mark
            break
    next = None if end is None else Cursor(end, began)
    return Found(part.now, part.total, part.position, searched, jobs, places, next)


def _since(job: Job) -> int:
    """When it came to where it is."""
    return max(job.queued, job.started, job.completed)
