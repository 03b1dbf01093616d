"""That there is no coroutine of the client or the worker whose suspensions are not gone through."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import saq
from tests.suspensions.driver import Bench, Trial, cancel, client_of
from tests.suspensions.operations import OPERATIONS
from tests.suspensions.stepping import Stepper, stepping
from tests.suspensions.working import Life, enqueue_all

HOUSE = Path(saq.__file__).parent
#: What only looks, or repairs by hand, has tests of its own.
CLIENT = ("claims", "inbox", "leases", "outbox", "queue", "scripts", "session", "waiters", "wire")
WORKER = ("fetcher", "membership", "runner", "source", "turns", "upkeep", "worker")
MODULES = [
    HOUSE / "job.py",
    HOUSE / "queue/base.py",
    *(HOUSE / f"queue/redis/{name}.py" for name in CLIENT),
    *(HOUSE / f"worker/{name}.py" for name in WORKER),
]
#: Those that are not, or not each time, and why.
EXEMPT = {
    "Claims._claimed": "waits only when it hands back what it must not run: tests/redis/test_leases.py",
    "Claims.still_owned": "after a loop that was blocked: tests/worker/test_limits.py",
    "RedisQueue.still_owned": "likewise",
    "Claims._renew": "after a claim that took half a lease: tests/faults/test_slow.py",
    "Fetcher._pause_after": "after an error that is none of the connection's: tests/faults/test_refusals.py",
    "LeaseKeeper._keep": "in a loop and a thread of its own: tests/faults/test_cuts.py",
    "LeaseKeeper._renew": "likewise",
    "Turns.dequeue": "of several queues: tests/worker/test_queues.py",
    "_woken": "likewise",
    "Upkeep.retry.<locals>.once": "likewise",
    "Membership._join_late": "likewise",
    "Worker._retire": "when its process shall be replaced: tests/commands/test_fleet.py",
    "Worker.report_now": "when its process is told to hold: tests/commands/test_fleet.py",
    "Waiters._catch_up": "when two lives of a key overtake each other: tests/conformance/test_waiting.py",
    "Waiters._fetch": "of a record that is too large for a message: tests/conformance/test_waiting.py",
}


def coroutines(module: Path) -> Iterator[str]:
    """Every coroutine function and async generator of a module, by its qualified name."""

    def walk(node: ast.AST, within: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{within}{child.name}.")
            elif isinstance(child, ast.AsyncFunctionDef | ast.FunctionDef):
                if isinstance(child, ast.AsyncFunctionDef):
                    yield f"{within}{child.name}"
                yield from walk(child, f"{within}{child.name}.<locals>.")
            else:
                yield from walk(child, within)

    yield from walk(ast.parse(module.read_text()), "")


async def test_every_coroutine_is_seen_suspended(at: Bench):
    seen = set()
    for operation in OPERATIONS.values():
        trial = Trial(at, operation)
        await trial.undisturbed()
        if operation.name in ("apply", "wait", "enqueue"):
            for fault in ("request lost", "answer lost", "disconnected"):
                await trial.each(fault)
        seen |= trial.seen
    await at.reset(enqueue_all)
    queue = client_of(at.server.url())
    stepper = Stepper()
    await stepper.start(Life(queue, at.raw).all())
    await queue.disconnect()
    seen |= stepper.seen
    names = {(Path(code.co_filename), code.co_qualname) for code in seen}
    there = {(module, name) for module in MODULES for name in coroutines(module)}
    missed = {name for _, name in there - names}
    assert not missed - EXEMPT.keys(), sorted(missed - EXEMPT.keys())
    assert EXEMPT.keys() <= {name for _, name in there}, "there is no such coroutine any more"


async def test_each_suspension_is_counted_and_a_fault_comes_at_the_one_it_is_meant_for():
    async def within() -> None:
        await asyncio.sleep(0)

    async def three() -> None:
        await within()
        await asyncio.sleep(0.001)
        await asyncio.create_task(within(), name="other")

    with stepping():
        stepper = Stepper()
        await stepper.start(three())
        assert stepper.count == 3
        stepper = Stepper(task=None)
        await stepper.start(three())
        assert stepper.count == 4
        for at in (1, 2, 3, 4):
            stepper = Stepper(at, cancel)
            ended = stepper.start(three())
            await asyncio.wait({ended})
            assert ended.cancelled() == stepper.reached == (at < 4)
