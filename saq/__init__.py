"""SAQ: background jobs for Python on asyncio and Redis."""

from saq.job import CronJob, Job, Status
from saq.queue import Queue
from saq.worker import Worker

__version__ = "1.0.0"

__all__ = ["CronJob", "Job", "Queue", "Status", "Worker"]
