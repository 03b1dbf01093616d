"""The queue on Redis or Valkey."""

from saq.queue.redis.queue import RedisQueue
from saq.queue.redis.wire import RefusedError, UnreachableError

__all__ = ["RedisQueue", "RefusedError", "UnreachableError"]
