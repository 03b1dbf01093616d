"""Ports for what tests start.

Not those that the system gives to whoever connects: any of them may be taken in the moment after it was
found to be free, for many tests run at once.
"""

from __future__ import annotations

import random
import socket
from contextlib import closing

#: Below 32,768, where those begin on Linux; the other systems begin higher.
FIRST, LAST = 12_000, 32_000


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on at present."""
    while True:
        first = random.randrange(FIRST, LAST - count)
        try:
            for port in range(first, first + count):
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def free_port() -> int:
    """A port that nobody listens on at present."""
    return free_ports(1)
