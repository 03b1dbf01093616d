"""Queues: everything a user calls, and the backends it is done with."""

from saq.queue.base import JobError, Queue

__all__ = ["JobError", "Queue"]
