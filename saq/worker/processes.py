"""Processes for functions that compute.

Owns child processes, what goes to them and comes back, and their end; what they do with it is `remote.py`.
Must not know queues, nor decide what becomes of a job.

A call that is cancelled kills its process: SIGKILL, to it and to what it has started. So a time limit holds
whatever the function does, and another attempt may follow at once. A process that dies by itself is an error
of that call. Others are reused; a new one is started when there is use for it, up to a limit.

The children are spawned, not forked: nothing of the worker's threads and connections is half copied into
them. They import the functions by their names. When the worker is gone, however it ended, so are they: the
kernel kills them (Linux), or a thread in them that watches the worker does.

Own code, where a library would be welcome. `ProcessPoolExecutor` cannot end one of its processes: all calls
under way fail with it. Pebble can, but looks for timeouts and deaths ten times a second from three threads,
asks with SIGTERM before it kills, starts all its processes at once, and lets one that computes outlive a
worker that was killed. What is needed of it is this page.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from typing import Any

from saq.errors import ProcessDiedError, RemoteTraceback, SerializationError
from saq.job import Job
from saq.worker.remote import SIZE, serve
from saq.worker.threads import Threads

logger = logging.getLogger("saq")

#: Seconds that a process may take to start and to import what it shall run.
START_PATIENCE = 60.0
#: Seconds that an idle process has to end by itself, before it is killed.
END_PATIENCE = 1.0
#: Seconds that the kernel has to end those that were killed, when the worker stops.
KILL_PATIENCE = 5.0

_FIELDS = tuple(field.name for field in dataclasses.fields(Job) if field.name != "queue")


class Child:
    """A process, and the way to it."""

    def __init__(
        self, process: BaseProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        #: When it is gone.
        self._code: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it can still be heard."""
        return not self._reader.at_eof()

    async def send(self, message: bytes) -> None:
        """Hands a message over. Raises ``OSError`` if there is nobody to take it."""
        self._writer.write(SIZE.pack(len(message)) + message)
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next message. Raises ``EOFError`` if there is none any more."""
        (size,) = SIZE.unpack(await self._reader.readexactly(SIZE.size))
        return pickle.loads(await self._reader.readexactly(size))

    def kill(self) -> None:
        """SIGKILL, to it and to what it has started."""
        if self._code is not None:
            return  # its number may be another's by now
        pid = self._process.pid
        if pid is not None and hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()

    def hang_up(self) -> None:
        """An idle one ends then."""
        self._writer.close()

    async def end(self) -> int:
        """Waits until it is gone. Returns its exit code; negative: by that signal."""
        delay = 0.001
        while self._code is None:
            if (code := self._process.exitcode) is None:
                await asyncio.sleep(delay)
                delay = min(2 * delay, 0.05)
            else:
                self._code = code
                self._process.close()
        self._writer.close()
        return self._code


class Processes:
    """Runs functions in up to ``limit`` processes.

    Args:
        limit: how many, at the most.
        functions: name → what ``options.reference`` made of the function.
    """

    def __init__(self, limit: int, functions: Mapping[str, bytes]) -> None:
        self.functions = functions
        self._limit = limit
        self._idle: list[Child] = []
        #: Those that live, or are being started or ended.
        self._count = 0
        self._waiting: deque[asyncio.Future[Child]] = deque()
        self._starting: set[Child] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        #: One thread starts them all, and stays: on Linux, a child dies with the thread that started it.
        self._starter = Threads(1)

    async def acquire(self) -> Child:
        """A process that is free, waiting for one if need be. It has to be handed to ``call``.

        Raises:
            ProcessDiedError: none can be started.
        """
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            logger.warning("An idle process has died")
            self._end(child)
        future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._grow()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._release(future.result())
            raise

    async def call(self, child: Child, job: Job) -> Any:
        """Runs the function of a job. Cancelled, it kills the process.

        Raises:
            ProcessDiedError: the process died meanwhile.
            SerializationError: an argument or the result cannot be handed over.
            BaseException: what the function raised, caused by a ``RemoteTraceback``.
        """
        try:
            message = _packed(job)
        except SerializationError:
            self._release(child)
            raise
        try:
            await child.send(message)
            while True:
                kind, content, meta = await child.receive()
                if meta is not None:
                    job.meta = meta
                if kind != "update":
                    break
                await _update(job, content)
        except (EOFError, OSError):
            # Nothing can be heard of it. If it is not dead, it shall be.
            code = await asyncio.shield(self._end(child))
            raise ProcessDiedError(f"the process that ran {job.function} {_said(code)}") from None
        except BaseException:
            await asyncio.shield(self._end(child))
            raise
        self._release(child)
        if kind == "returned":
            return _unpacked(job, content)
        if kind == "unsendable":
            raise SerializationError(f"the result of {job.function} cannot be handed over: {content}")
        if kind == "unreadable":
            raise SerializationError(
                f"the arguments of {job.function} cannot be read in its process: {content}"
            )
        error, text = content
        raise _exception(error, text) from RemoteTraceback(text)

    def _release(self, child: Child) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(child)
                return
        if self._closed:
            self._end(child)
        else:
            self._idle.append(child)

    def _grow(self) -> None:
        """Starts one more process, if somebody waits for it and there may be one more."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if self._waiting and self._count < self._limit and not self._closed:
            self._count += 1
            self._own(self._start(), "saq-process-start")

    async def _start(self) -> None:
        try:
            child = await self._started()
        except Exception as error:
            self._count -= 1
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(error)
                    break
            self._grow()
        else:
            self._release(child)

    async def _started(self) -> Child:
        process, channel = await self._starter.run(_spawn, self.functions)
        unix = channel.family is getattr(socket, "AF_UNIX", None)
        connect = asyncio.open_unix_connection if unix else asyncio.open_connection
        child = Child(process, *await connect(sock=channel))
        self._starting.add(child)
        try:
            if self._closed:
                child.kill()
            async with asyncio.timeout(START_PATIENCE):
                await child.receive()
        except TimeoutError:
            await self._ended(child)
            raise ProcessDiedError(f"a process was not ready within {START_PATIENCE:g} s") from None
        except (EOFError, OSError):
            code = await self._ended(child)
            raise ProcessDiedError(
                f"a process {_said(code)} while it started; what it said stands in the worker's output"
            ) from None
        finally:
            self._starting.discard(child)
        logger.debug("Process %s started", process.pid)
        return child

    def _end(self, child: Child) -> asyncio.Task[int]:
        """Kills a process. The task waits until it is gone."""
        child.kill()
        return self._own(self._replace(child), "saq-process-end")

    async def _replace(self, child: Child) -> int:
        code = await self._ended(child)
        self._count -= 1
        self._grow()
        return code

    async def _ended(self, child: Child) -> int:
        child.kill()
        return await child.end()

    def _own(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Ends all processes, and waits until they are gone."""
        self._closed = True
        for future in self._waiting:
            future.cancel()
        idle, self._idle = self._idle, []
        for child in idle:
            child.hang_up()
        if idle:
            ends = [self._own(child.end(), "saq-process-end") for child in idle]
            await asyncio.wait(ends, timeout=END_PATIENCE)
            for child in idle:
                self._end(child)
        for child in self._starting:
            child.kill()
        deadline = time.monotonic() + KILL_PATIENCE
        while self._tasks and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for task in self._tasks:
            logger.error("A process does not end although it was killed")
            task.cancel()
        self._starter.close()


async def _update(job: Job, fields: dict[str, Any]) -> None:
    try:
        await job.update(**fields)
    except Exception as error:
        logger.warning("An update of %s from its process is dropped: %s", job.info(), error)


def _packed(job: Job) -> bytes:
    fields = {name: getattr(job, name) for name in _FIELDS}
    try:
        return pickle.dumps(fields)
    except Exception as error:
        for name, value in (job.kwargs or {}).items():
            try:
                pickle.dumps(value)
            except Exception as reason:
                raise SerializationError(
                    f"the argument {name!r} of {job.function} cannot be handed to a process: {reason}"
                ) from reason
        raise SerializationError(f"{job.info()} cannot be handed to a process: {error}") from error


def _unpacked(job: Job, content: bytes) -> Any:
    try:
        return pickle.loads(content)
    except Exception as error:
        raise SerializationError(f"the result of {job.function} cannot be read here: {error}") from error


def _exception(content: bytes | None, text: str) -> BaseException:
    if content is not None:
        try:
            error = pickle.loads(content)
            # A coroutine cannot raise a StopIteration.
            if isinstance(error, BaseException) and not isinstance(error, StopIteration):
                return error
        except Exception as reason:
            logger.debug("An exception from a process cannot be read here: %s", reason)
    return RuntimeError(text.strip().rpartition("\n")[2])


def _said(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + ("; perhaps for want of memory" if name == "SIGKILL" else "")


# In the starting thread -------------------------------------------------------------------------------------


def _spawn(functions: Mapping[str, bytes]) -> tuple[BaseProcess, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = multiprocessing.get_context("spawn").Process(
                target=serve, args=(theirs, os.getpid(), dict(functions)), name="saq-process", daemon=True
            )
            process.start()
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return process, ours
