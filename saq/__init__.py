"""SAQ: background jobs for Python on asyncio and Redis."""

from saq.job import CronJob, Job, Status
from saq.queue import Queue
from saq.version import __version__ as __version__
from saq.worker import Handler, Share, Worker

__all__ = ["CronJob", "Handler", "Job", "Queue", "Share", "Status", "Worker"]
