"""Goes through the suspensions of an operation, with each fault at each.

Owns the faults, and what is looked at after one. A fault is tried at the first suspension, the second, and so
on, until the operation ends before it is reached: so none is left out, however many there are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis

import saq.queue.redis
from saq.errors import ServerError
from saq.queue.redis import RedisQueue
from saq.queue.redis.scripts import load
from tests.faults import proxy
from tests.faults.proxy import Proxy, proxied
from tests.harness import describe
from tests.servers import Server
from tests.suspensions.killing import Killer
from tests.suspensions.operations import DONE_ALREADY, OPERATIONS, Operation, Scene, prepare
from tests.suspensions.promises import QUEUE, damage, drain, look_at, summary
from tests.suspensions.stepping import MAIN, Fault, Stepper, stepping
from tests.worker.support import until

#: These happen while the coroutine itself waits; the others whenever anything that it has started does.
OF_ITSELF = ("cancelled", "cancelled late", "disconnected")
FAULTS = (*OF_ITSELF, "request lost", "answer lost", "killed")
#: Nothing takes so long that does not hang.
DEADLINE = 10.0
#: No operation has so many suspensions: one that is never reached would be looked for for ever.
SUSPENSIONS = 400
SCRIPTS = [load(path.stem).source for path in Path(saq.queue.redis.__file__).parent.glob("lua/*.lua")]
#: The name of the connections of the client that everything is done to.
CLIENT = "tried"


def client_of(url: str) -> RedisQueue:
    return RedisQueue.from_url(f"{url}?client_name={CLIENT}", name=QUEUE)


def cancel(task: asyncio.Task[Any], _: asyncio.Future[Any] | None) -> None:
    """It is cancelled while it waits."""
    task.cancel()


def cancel_late(task: asyncio.Task[Any], awaited: asyncio.Future[Any] | None) -> None:
    """What it waits for is there already, in the same turn of the loop."""
    if awaited is None:
        asyncio.get_running_loop().call_soon(task.cancel)
    else:
        awaited.add_done_callback(lambda _: task.cancel())


class Bench:
    """A server, a healthy client, and another whose every connection leads through a proxy."""

    def __init__(self, server: Server, between: Proxy, healthy: RedisQueue, killer: Killer) -> None:
        self.server = server
        self.proxy = between
        self.killer = killer
        self.healthy = healthy
        self.raw: Redis = server.client(protocol=2)
        #: What there was before anything was done to the other one.
        self.known: set[asyncio.Task[Any]] = set()
        self.threads: set[threading.Thread] = set()

    async def reset(self, prepare: Callable[[RedisQueue], Awaitable[None]] = prepare) -> None:
        """The queue as it shall be found, on a server that knows all scripts."""
        self.server.flush()
        with self.raw.pipeline(transaction=False) as pipe:
            for source in SCRIPTS:
                pipe.script_load(source)
            pipe.execute()
        await prepare(self.healthy)
        self.known = asyncio.all_tasks()

    async def quiet(self) -> None:
        """Waits until all that was started has ended, but for what a queue keeps for good."""
        while tasks := [task for task in self._tasks() if task.get_name() != "saq-inbox"]:
            _, pending = await asyncio.wait(tasks, timeout=DEADLINE)
            assert not pending, "\n".join(map(describe, pending))

    def _tasks(self) -> set[asyncio.Task[Any]]:
        mine = {*self.known, asyncio.current_task()}
        return {task for task in asyncio.all_tasks() if task not in mine and task.get_name() != proxy.TASK}

    async def nothing_left_over(self) -> None:
        """Of a client that has disconnected: no connection, no task, no thread."""
        await gone_from(self.raw)
        await until(lambda: not self.proxy._links)
        await until(lambda: not self._tasks())
        left = [thread for thread in threading.enumerate() if thread not in self.threads]
        assert not [thread for thread in left if thread.name == "saq-leases"]


async def gone_from(raw: Redis) -> None:
    """Waits until the server has no connection of the client."""
    await until(lambda: CLIENT not in [client["name"] for client in raw.client_list()])


@asynccontextmanager
async def bench(server: Server, killer: Killer) -> AsyncIterator[Bench]:
    healthy = RedisQueue.from_url(server.url(), name=QUEUE)
    try:
        async with proxied(server.port) as between:
            with stepping():
                made = Bench(server, between, healthy, killer)
                await made.reset()
                made.threads = set(threading.enumerate())
                yield made
    finally:
        await healthy.disconnect()


async def act(operation: Operation, scene: Scene, stepper: Stepper | None = None) -> Any:
    """Does it, beside what somebody else does. Returns what came of it; an exception as well."""
    beside = operation.beside and asyncio.ensure_future(operation.beside(scene))
    stepper = stepper or Stepper()
    task = stepper.start(operation.act(scene))  # type: ignore[arg-type]
    done, _ = await asyncio.wait({task}, timeout=DEADLINE)
    if not done:
        where = stepper.where
        task.cancel()
        raise AssertionError(f"it hangs: {where}")
    while beside and not beside.done():
        # Once is not always enough: redis-py may swallow it as it begins a call.
        beside.cancel()
        await asyncio.wait({beside}, timeout=0.1)
    if beside and not beside.cancelled() and (error := beside.exception()) is not None:
        error.add_note(f"beside it; what came of itself: {task}")
        raise error
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()


def enumerate_suspensions() -> Iterator[int]:
    yield from range(1, SUSPENSIONS)
    raise AssertionError("there is no end of it")


class Trial:
    """One operation, done once without a fault, and then with each."""

    def __init__(self, at: Bench, operation: Operation) -> None:
        self._bench = at
        self._operation = operation
        self.total = 0
        self.seen: set[Any] = set()
        self._result: Any = None
        self._states: list[dict[str, Any]] = []

    async def undisturbed(self) -> None:
        """What it does when nothing goes wrong."""
        stepper = Stepper()
        async with self._client(self._bench.server.url()) as scene:
            before = self._state()
            self._result = await act(self._operation, scene, stepper)
            assert not isinstance(self._result, BaseException), self._result
            await self._bench.quiet()
            self._states = [before, self._state()]
        self.total = stepper.count
        self.seen |= stepper.seen
        await self._end()

    async def each(self, fault: str) -> list[int]:
        """With a fault at every suspension. Returns which those were."""
        visited: list[int] = []
        for at in enumerate_suspensions():
            try:
                reached = await self._once(fault, at)
                # What somebody else does meanwhile may make it shorter than it was.
                while not reached and at <= self.total:
                    reached = await self._once(fault, at)
            except BaseException as error:
                error.add_note(f"{self._operation.name}: {fault} at suspension {at}")
                raise
            if not reached:
                return visited
            visited.append(at)
        return visited

    async def _once(self, fault: str, at: int) -> bool:
        return await (self._killed(at) if fault == "killed" else self._faulty(fault, at))

    # -- how -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self, url: str) -> AsyncIterator[Scene]:
        await self._bench.reset()
        scene = Scene(client_of(url), self._bench.healthy, self._bench.raw)
        try:
            await scene.queue.connect()
            if self._operation.setup:
                await self._operation.setup(scene)
            yield scene
        finally:
            await scene.queue.disconnect()

    def _state(self) -> dict[str, Any]:
        look = look_at(self._bench.raw)
        wrong = list(damage(look))
        assert not wrong, wrong
        return summary(look)

    async def _end(self) -> None:
        await self._bench.nothing_left_over()
        await drain(self._bench.raw, self._bench.healthy)

    async def _faulty(self, fault: str, at: int) -> bool:
        operation, between = self._operation, self._bench.proxy
        async with self._client(between.url) as scene:
            faults: dict[str, tuple[Fault, str | None]] = {
                "cancelled": (cancel, MAIN),
                "cancelled late": (cancel_late, MAIN),
                "disconnected": (lambda *_: _disconnect(scene.queue), MAIN),
                "request lost": (lambda *_: between.drop_all(), None),
                "answer lost": (lambda *_: between.lose_answer(), None),
            }
            stepper = Stepper(at, *faults[fault])
            result = await act(operation, scene, stepper)
            self.seen |= stepper.seen
            between.loses()  # what was not lost until now is none of the next one's
            await self._bench.quiet()
            self._judge(fault, stepper, result)
            if operation.check and fault != "disconnected":
                await operation.check(scene, result)
            if stepper.reached:
                again = await act(operation, scene)
                assert not isinstance(again, BaseException) or (
                    operation.owner and isinstance(again, DONE_ALREADY)
                ), again
                await self._bench.quiet()
                if operation.atomic:
                    assert self._state() == self._states[1], "done again, it is done"
        await self._end()
        return stepper.reached

    def _judge(self, fault: str, stepper: Stepper, result: Any) -> None:
        """Whether what the caller was told is right."""
        state, operation = self._state(), self._operation
        if operation.atomic:
            assert state in self._states, "neither as it was before nor as it is after"
        if fault.startswith("cancelled") and stepper.reached:
            assert isinstance(result, asyncio.CancelledError) or result == self._result, result
        elif isinstance(result, ServerError) and stepper.reached:
            assert fault == "disconnected" or operation.connects, result
        else:
            assert result == self._result, repr(result)
            # Whose batch cannot be aborted for want of a connection is told in the log.
            vague = operation.beside or (operation.check and fault == "disconnected")
            assert vague or state == self._states[1], "it was told to be done"

    async def _killed(self, at: int) -> bool:
        operation, raw = self._operation, self._bench.raw
        await self._bench.reset()
        reached = self._bench.killer.run(operation.name, self._bench.server.url(), at)
        await gone_from(raw)
        state = self._state()
        if operation.atomic:
            assert state in self._states, "neither as it was before nor as it is after"
        if not operation.owner:
            async with self._again() as scene:
                again = await act(operation, scene)
                assert not isinstance(again, BaseException), again
                if operation.atomic:
                    assert self._state() == self._states[1], "done again, it is done"
        await self._end()
        return reached

    @asynccontextmanager
    async def _again(self) -> AsyncIterator[Scene]:
        """Another process finds what the killed one has left."""
        scene = Scene(client_of(self._bench.server.url()), self._bench.healthy, self._bench.raw)
        try:
            yield scene
        finally:
            await scene.queue.disconnect()


_disconnecting: set[asyncio.Task[None]] = set()


def _disconnect(queue: RedisQueue) -> None:
    task = asyncio.ensure_future(queue.disconnect())
    _disconnecting.add(task)
    task.add_done_callback(_disconnecting.discard)


async def client_life(stepper: Stepper, name: str, url: str) -> None:
    """An operation in a process of its own, on a queue that is prepared."""
    operation = OPERATIONS[name]
    other = RedisQueue.from_url(url, name=QUEUE)
    scene = Scene(client_of(url), other, Redis.from_url(url, protocol=2))
    await scene.queue.connect()
    if operation.setup:
        await operation.setup(scene)
    result = await act(operation, scene, stepper)
    if isinstance(result, BaseException):
        raise result
    await scene.queue.disconnect()
    await other.disconnect()
