"""Where a process listens.

Owns how an address is written, and what is said of one that cannot be had. Must not listen itself.
"""

from __future__ import annotations

import errno
import socket

#: What cannot be listened at raises these.
CANNOT_LISTEN = (OSError, OverflowError, UnicodeError)


def url_of(host: str, port: int) -> str:
    """The address as a browser takes it."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def cannot_listen(host: str, port: int, error: Exception, what: str = "", option: str = "") -> str:
    """What to do about it, in terms of the command line.

    Args:
        what: stands before "port" where there are several: "the metrics ".
        option: stands before the names of the options: "metrics-".
    """
    reason = error.errno if isinstance(error, OSError) else None
    if reason == errno.EADDRINUSE:
        return (
            f"{what}port {port} is taken: something else listens at {host} already, maybe another worker; "
            f"stop it, or choose another --{option}port (0 is any free one)"
        )
    if reason == errno.EACCES:
        return f"{what}port {port} is not for everybody: choose a --{option}port from 1024 on"
    if isinstance(error, (socket.gaierror, UnicodeError)) or reason == errno.EADDRNOTAVAIL:
        advice = f"choose another --{option}host, such as 127.0.0.1 or 0.0.0.0"
        return f"{host!r} is no address of this machine: {advice}"
    return f"cannot listen at {host!r}, {what}port {port}: {error}"
