"""Processes for functions that compute.

Owns child processes, what goes to them and comes back, and their end. Must not know queues, nor decide what
becomes of a job.

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
import ctypes
import dataclasses
import inspect
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from multiprocessing.process import BaseProcess
from typing import Any, BinaryIO

from saq.errors import ProcessDiedError, RemoteTraceback, SerializationError, UsageError
from saq.job import Job
from saq.worker.threads import Threads

logger = logging.getLogger("saq")

#: Seconds that a process may take to start and to import what it shall run.
START_PATIENCE = 60.0
#: Seconds that an idle process has to end by itself, before it is killed.
END_PATIENCE = 1.0
#: Seconds that the kernel has to end those that were killed, when the worker stops.
KILL_PATIENCE = 5.0

_SIZE = struct.Struct("!Q")
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
        self._writer.write(_SIZE.pack(len(message)) + message)
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next message. Raises ``EOFError`` if there is none any more."""
        (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
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


# In the child -----------------------------------------------------------------------------------------------


def serve(channel: socket.socket, parent: int, functions: Mapping[str, bytes]) -> None:
    """Runs what it is sent until the other side hangs up."""
    _leave_signals()
    _die_with(parent)
    known: dict[str, Callable[..., Any]] = {}
    for name, reference in functions.items():
        # What cannot be imported is said by the job that needs it.
        with contextlib.suppress(Exception):
            known[name] = pickle.loads(reference)
    with channel, channel.makefile("rwb") as stream:
        way = _Way(stream)
        way.send("ready", None, None)
        while (fields := way.receive()) is not None:
            try:
                job = RemoteJob(**pickle.loads(fields))
            except Exception as error:
                way.send("unreadable", str(error) or type(error).__name__, None)
                continue
            job.way = way
            way.send(*_run(job, known, functions))


def _run(
    job: RemoteJob, known: dict[str, Callable[..., Any]], functions: Mapping[str, bytes]
) -> tuple[str, Any, Any]:
    try:
        function = known.get(job.function)
        if function is None:
            function = known[job.function] = pickle.loads(functions[job.function])
        result = function(RemoteContext(job=job), **(job.kwargs or {}))
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    except BaseException as error:
        # Without the frame of this function: it is not the user's.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return "raised", (_pickled(error), "".join(traceback.format_exception(error))), job.meta_to_send()
    try:
        return "returned", pickle.dumps(result), job.meta_to_send()
    except Exception as error:
        return "unsendable", str(error) or type(error).__name__, job.meta_to_send()


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _pickled(error: BaseException) -> bytes | None:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)  # many can be written, and not read
    except Exception:
        return None
    return content


def _leave_signals() -> None:
    """When to stop is for the worker to say: what is sent to a whole group is not meant for this."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        # Not ignored, which what the function starts would inherit.
        signal.signal(signum, lambda number, frame: None)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        # Also where a function never lets go of the interpreter.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)  # it died before
    threading.Thread(target=_watch_parent, name="saq-parent", daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


class _Way:
    """The way to the worker, from its child."""

    def __init__(self, stream: Any) -> None:
        self._stream: BinaryIO = stream
        self._lock = threading.Lock()

    def send(self, kind: str, content: Any, meta: dict[Any, Any] | None) -> None:
        try:
            message = pickle.dumps((kind, content, meta))
        except Exception as error:
            if kind == "update":
                raise
            message = pickle.dumps(("unsendable", f"meta: {error}", None))
        with self._lock:
            self._stream.write(_SIZE.pack(len(message)))
            self._stream.write(message)
            self._stream.flush()

    def receive(self) -> bytes | None:
        size = self._stream.read(_SIZE.size)
        return self._stream.read(_SIZE.unpack(size)[0]) if len(size) == _SIZE.size else None


class RemoteContext(dict[str, Any]):
    """The context of a function in a process: ``job``, and nothing of the worker."""

    def __missing__(self, key: str) -> Any:
        raise KeyError(f"{key!r}: in a process, the context holds 'job' alone")


class RemoteJob(Job):
    """A job in the process that runs it: its fields, and ``update``."""

    way: _Way

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["_meta"] = dict(self.meta)

    def meta_to_send(self) -> dict[Any, Any] | None:
        """What the function has put into ``meta``, if it has."""
        return self.meta if self.meta != self.__dict__["_meta"] else None

    def update(self, **fields: Any) -> Awaitable[None]:  # type: ignore[override]
        """Has the worker change stored fields; without any, it is a heartbeat. It need not be awaited.

        What the queue refuses is said in the worker's log, not here.
        """
        self.way.send("update", fields, self.meta_to_send())
        for name, value in fields.items():
            setattr(self, name, value)
        return _Done()

    def get_queue(self) -> Any:
        """There is none."""
        raise UsageError(
            f"{self.info()} runs in a process, which has no connection to its queue: its function can "
            "return, raise, and call update()"
        )


class _Done:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
