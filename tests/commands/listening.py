"""A fleet whose first process listens, as with the web page: `python -m tests.commands.listening PORT`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from saq.worker.lifeline import RECYCLE, SIGNALLED, Begun, Born, Leaving, Lifeline
from saq.worker.supervisor import Supervisor


def work(parent: Lifeline, slot: int, port: int) -> None:
    """Works at nothing until it is told to end."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: told.append(number))
    with socket.socket() as listener:
        if slot == 0:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        parent.tell(Born(f"{slot}-{os.getpid()}", 0))
        parent.tell(Begun())
        print(f"begun {slot}", flush=True)
        while not told:
            time.sleep(0.01)
        parent.tell(Leaving())
        time.sleep(0.3)  # its last jobs
        print(f"over {slot}", flush=True)
    sys.exit(SIGNALLED if told[0] == signal.SIGTERM else RECYCLE)


if __name__ == "__main__":
    sys.exit(Supervisor(2, work, (int(sys.argv[1]),), alone={0}).run())
