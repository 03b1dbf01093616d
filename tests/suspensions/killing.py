"""Operations in processes that kill themselves: `python -m tests.suspensions.killing`.

Owns the processes. A parent that has imported everything, and has no thread and no loop, forks one for each
operation: a few milliseconds instead of the half second of a new interpreter. It reads a line for each
operation, and writes back how it ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from tests.harness import new_event_loop
from tests.processes import ROOT
from tests.suspensions.stepping import Stepper, stepping

#: A process that hangs is ended after so many seconds.
HANGS_AFTER = 20

#: Makes what is stepped from its name and the address of the server, and does everything around it.
Life = Callable[[Stepper, str, str], Coroutine[Any, Any, None]]


def kill_myself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    """Forks processes that do something and kill themselves at a suspension."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.suspensions.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONASYNCIODEBUG": ""},
            start_new_session=True,
        )

    def run(self, name: str, url: str, at: int) -> bool:
        """Does it in a process of its own, which dies at the suspension `at` of any of its coroutines.

        Returns whether it came so far: otherwise it has done all of it.
        """
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps([name, url, at]).encode() + b"\n")
        self._parent.stdin.flush()
        ended = int(self._parent.stdout.readline())
        assert ended in (0, -signal.SIGKILL), f"{name}, to be killed at {at}, ended with {ended}"
        return ended != 0

    def close(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


def main() -> None:
    from tests.suspensions.driver import client_life
    from tests.suspensions.working import worker_life

    for line in sys.stdin:
        name, url, at = json.loads(line)
        life = worker_life if name.startswith("worker") else client_life
        child = os.fork()
        if child == 0:
            signal.alarm(HANGS_AFTER)
            try:
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    runner.run(_live(life, name, url, at))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


async def _live(life: Life, name: str, url: str, at: int) -> None:
    with stepping():
        await life(Stepper(at, kill_myself, task=None), name, url)


if __name__ == "__main__":
    main()
