"""What can go wrong, grouped by who is at fault.

Owns every exception class that SAQ raises on purpose. Must not import anything of SAQ.

* ``UsageError``: the caller asked for something that cannot be; change the call.
* ``ServerError``: Redis could not or would not do it; look at the server or the way to it.
* ``DataError``: something stored or handed over cannot be read or written as a job.
* ``StaleError``: the job has moved on; somebody else owns it by now.
* ``ProcessDiedError``: a function has taken the process down that it ran in.

Each message says what to do about it, where there is something to do.
"""

from __future__ import annotations


class SaqError(Exception):
    """The base of every error that SAQ raises on purpose."""


class UsageError(SaqError, ValueError):
    """A parameter, a setting or a call cannot be right."""


class InvalidUrlError(UsageError):
    """The URL of a queue names no backend that SAQ knows."""


class SettingsError(UsageError):
    """A settings path cannot be imported, or what it holds is not a set of settings."""


class MissingDependencyError(SaqError, ImportError):
    """An optional package is needed for this and is not installed."""


class DataError(SaqError, ValueError):
    """Bytes that are not a job, or a value that cannot be stored."""


class SerializationError(DataError, TypeError):
    """A value cannot be serialized without losing something. The message names the argument."""


class DecodeError(DataError):
    """Stored bytes cannot be read back. They are kept as they are."""


class ServerError(SaqError):
    """Redis is not there, or refused a command."""


class EmbeddedServerError(ServerError):
    """The embedded server cannot be found, started or reached."""


class StaleError(SaqError):
    """This attempt of the job does not own it any more; nothing was changed."""


class ProcessDiedError(SaqError):
    """The process that ran a function died before it returned. The message says how."""


class RemoteTraceback(SaqError):
    """The cause of an exception that came from another process: its stack trace there, in ``text``."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"\n{text}")


class RunningError(UsageError):
    """The job is running, and only its owner may end it. Abort it instead."""
