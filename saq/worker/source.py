"""A queue that a worker takes jobs from.

Owns what a worker is to one of its queues: who claims there and is told what happens to the jobs, what is
registered and reported there, whether it shall be quiet. Must not run a job, nor know of the other queues.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from saq.job import Job
from saq.logs import job_fields
from saq.queue.views import CronEntry, Report
from saq.types import WorkerInfo
from saq.worker.fetcher import Fetcher
from saq.worker.options import Share
from saq.worker.run import Run, Why
from saq.worker.runner import Runner
from saq.worker.tally import Taken, Tally

if TYPE_CHECKING:
    from saq.worker.observer import Watch
    from saq.worker.upkeep import Schedule

logger = logging.getLogger("saq")


class Owner(Protocol):
    """What a source needs of its worker."""

    id: str

    @property
    def held(self) -> bool:
        """Whether it takes no jobs, whatever its queues say."""

    def about(self) -> Mapping[str, Any]:
        """What the worker reports of itself: plain JSON."""


class Source:
    """What a worker is to one of its queues: its `Claimant`.

    Args:
        owner: the worker.
        share: the queue, and how much of the worker is for it.
        alone: whether it is the worker's only queue.
    """

    def __init__(self, owner: Owner, share: Share, alone: bool) -> None:
        self.id = owner.id
        self.queue = share.queue
        self.share = share
        self.tally = Tally()
        #: Who watches what is done with this queue.
        self.watch: Watch | None = None
        self.schedule: Schedule | None = None
        #: While it works.
        self.fetcher: Fetcher | None = None
        self.runner: Runner | None = None
        self.attached = False
        self.quiet = False
        self._owner = owner
        self._untold: Taken | None = None
        #: Behind what is logged of it.
        self._of = "" if alone else f" of {self.queue.name}"

    @property
    def runs(self) -> list[Run]:
        """What runs."""
        return list(self.runner.runs.values()) if self.runner is not None else []

    async def attach(self, lease: float, max_lost: int) -> None:
        """Claims for the worker from now on."""
        if not self.attached:
            await self.queue.attach(self, lease, max_lost)
            self.attached = True

    async def register(
        self, ttl: float, metadata: dict[str, Any] | None, functions: Iterable[str]
    ) -> WorkerInfo:
        """Says for ``ttl`` seconds that the worker lives, and which functions it knows."""
        return await self.queue.worker_info(
            self.id, queue_key=self.queue.name, metadata=metadata, ttl=ttl, functions=functions
        )

    async def report(self) -> None:
        """Says what the worker is, and what it has done since the last time."""
        # What could not be handed in is kept for the next time.
        self._untold = self._untold or self.tally.take()
        entries: list[CronEntry] = self.schedule.entries() if self.schedule is not None else []
        report = Report(self._owner.about(), entries, self._untold.waits, self._untold.functions)
        quiet = await self.queue.report(self.id, report)
        self._untold = None
        self.on_quiet(quiet)

    async def detach(self) -> None:
        """Takes the registration away, and hands in the last report."""
        self.attached = False
        await self.queue.detach(self)
        await self.report()

    # What the queue tells it (`Claimant`) -------------------------------------------------------------------

    def on_abort(self, job: Job, reason: str) -> None:
        """A job that it runs shall end."""
        if self.runner is not None and (run := self.runner.find(job)) is not None:
            fields = job_fields(job, self.queue.name, self.id)
            logger.info("Aborting %s: %s", job.info(), reason, extra=fields)
            self.runner.interrupt(run, Why.ABORT, reason)

    def on_lost(self, job: Job) -> None:
        """A job that it runs belongs to somebody else by now."""
        if self.runner is not None and (run := self.runner.find(job)) is not None:
            self.runner.interrupt(run, Why.LOST, "its lease was lost")
            if self.watch is not None:
                self.watch.lost(job)

    def on_news(self) -> None:
        """There may be something to claim."""
        if self.fetcher is not None:
            self.fetcher.look()

    def on_quiet(self, quiet: bool) -> None:
        """It shall take no jobs for the time being, or take jobs again."""
        if quiet != self.quiet:
            self.quiet = quiet
            what = "was asked to take no jobs" if quiet else "may take jobs again"
            fields = {"worker_id": self.id, "queue": self.queue.name}
            logger.info("Worker %s %s%s", self.id, what, self._of, extra=fields)
            self.be_quiet()

    def be_quiet(self) -> None:
        """Takes no jobs, or takes jobs, as the queue and the worker say."""
        if self.fetcher is not None:
            self.fetcher.be_quiet(self.quiet or self._owner.held)
