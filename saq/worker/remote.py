"""What a process of a worker does: the other side of `processes.py`.

Owns the life of such a process, and what a function sees in it. Must not know queues, nor the worker's side.

It is told what to run one job at a time, each message its length and a pickle. It says ``ready``, and for
each job any number of ``update`` and one of ``returned``, ``raised``, ``unsendable`` (a result that cannot be
pickled) and ``unreadable`` (arguments that cannot be unpickled), with ``meta`` if that has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, BinaryIO

from saq.errors import UsageError
from saq.job import Job

#: Before each message: its length.
SIZE = struct.Struct("!Q")


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
            self._stream.write(SIZE.pack(len(message)))
            self._stream.write(message)
            self._stream.flush()

    def receive(self) -> bytes | None:
        size = self._stream.read(SIZE.size)
        return self._stream.read(SIZE.unpack(size)[0]) if len(size) == SIZE.size else None


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
