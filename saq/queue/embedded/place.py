"""Where an embedded server lives: from the URL to its directory and its socket.

Owns the meaning of ``embedded://`` URLs, the directory (its place, owner and mode) and the
choice of a path for the unix socket. Must not start or contact anything.

* ``embedded://NAME``: ``$XDG_STATE_HOME/saq/embedded/NAME``, or
  ``~/.local/state/saq/embedded/NAME`` where that variable is not set.
* ``embedded:///absolute/path`` and ``embedded://./relative/path``: that directory.

In a path, ``%20`` and the like stand for the character, as in any URL.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import threading
from pathlib import Path
from urllib.parse import unquote

from saq.errors import EmbeddedServerError, InvalidUrlError

SCHEME = "embedded://"

# A unix socket's path has room for 107 bytes on Linux and 103 on macOS.
MAX_SOCKET_PATH = 100

SOCKET_NAME = "server.sock"

# Holds the path of the socket where it is not in the directory.
RECORD = "socket"

# Also what tells a directory of ours from one that only happens to be there.
USERS_LOCK = "users.lock"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FORMS = (
    f"use {SCHEME}NAME (letters, digits, '.', '_' and '-', at most 64, a letter or digit first), "
    f"{SCHEME}/absolute/path or {SCHEME}./relative/path"
)


def directory_of(url: str) -> Path:
    """The directory that an ``embedded://`` URL means. It need not exist."""
    if url[: len(SCHEME)].lower() != SCHEME:
        raise InvalidUrlError(f"{url!r} is not the URL of an embedded server: {_FORMS}")
    rest = url[len(SCHEME) :]
    if "?" in rest or "#" in rest:
        raise InvalidUrlError(
            f"{url!r}: an embedded server takes no parameters in its URL (in a path, write %3F "
            "for '?' and %23 for '#')"
        )
    head, slash, _ = rest.partition("/")
    if not rest:
        raise InvalidUrlError(f"{url!r} names no server: {_FORMS}")
    if slash and head not in ("", ".", ".."):
        raise InvalidUrlError(
            f"{url!r} is neither a name nor a path: {_FORMS}. Did you mean "
            f"{SCHEME}./{rest} or {SCHEME}/{rest}?"
        )
    if not slash and head not in (".", ".."):
        if not _NAME.fullmatch(head):
            raise InvalidUrlError(f"{url!r}: {head!r} cannot be the name of a server: {_FORMS}")
        return Path(os.path.realpath(os.path.join(_state_directory(), head)))
    path = unquote(rest, errors="surrogateescape")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise InvalidUrlError(f"{url!r}: a path cannot contain control characters")
    # realpath: two names of one directory must lead to one server.
    directory = Path(os.path.realpath(path))
    if directory == Path(directory.anchor):
        raise InvalidUrlError(f"{url!r}: the root directory cannot hold a server: {_FORMS}")
    return directory


def _state_directory() -> str:
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # The specification: a relative one is to be ignored.
        home = os.path.join(os.path.expanduser("~"), ".local", "state")
    if not os.path.isabs(home):
        raise EmbeddedServerError(
            "the embedded server has no place to live: this user has no home directory; set "
            f"XDG_STATE_HOME, or name a directory: {SCHEME}/absolute/path"
        )
    return os.path.join(home, "saq", "embedded")


def prepare(directory: Path) -> None:
    """Make the directory if need be, and make sure that nobody else can look into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise EmbeddedServerError(f"the directory of the embedded server cannot be made: {error}") from error
    if status.st_uid != os.geteuid():
        raise EmbeddedServerError(
            f"{directory} belongs to another user (uid {status.st_uid}, this process has uid "
            f"{os.geteuid()}): name a directory of your own, for instance one inside it"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        # Somebody made it before us. To close a directory that other people's programs may be
        # reading (think of /tmp) would be a bad surprise; so only one that is empty, or ours.
        if any(directory.iterdir()) and not (directory / USERS_LOCK).exists():
            raise EmbeddedServerError(
                f"{directory} holds other files and is open to other users: name a directory that "
                "does not exist yet, an empty one, or one with mode 0700"
            )
        directory.chmod(0o700)


def socket_of(directory: Path) -> Path:
    """The path of the server's socket: the same for all processes and for all its lives.

    Where the directory's own path is too long for a socket, it is in another directory. Which
    one depends on the environment of the process that comes first, so that one records it.
    """
    inside = directory / SOCKET_NAME
    if _fits(inside):
        return inside
    prepare(directory)
    record = directory / RECORD
    # The digest guards against the record of another directory, of which this one is a copy.
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    folder = f"saq-{os.geteuid()}-{digest}"
    recorded = _read(record)
    if recorded is not None and _can_be(recorded, folder) is None:
        return recorded
    chosen = _choose(inside, folder)
    temporary = directory / f"{RECORD}.{os.getpid()}.{threading.get_ident()}"
    temporary.write_bytes(os.fsencode(chosen))
    try:
        if recorded is not None:
            temporary.replace(record)
            return chosen
        # Unlike a replacement, a link fails if another process was faster.
        record.hardlink_to(temporary)
    except FileExistsError:
        return _read(record) or chosen
    finally:
        temporary.unlink(missing_ok=True)
    return chosen


def prepare_socket(socket_path: Path, directory: Path) -> None:
    """Makes the directory of the socket, if that is another one."""
    folder = socket_path.parent
    if folder == directory:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise EmbeddedServerError(
            f"{folder}, made for the socket of the embedded server in {directory}, is not private "
            "to this user: remove it"
        )


def _choose(inside: Path, folder: str) -> Path:
    refused = []
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
        candidate = Path(parent, folder, SOCKET_NAME)
        reason = _can_be(candidate, folder)
        if reason is None:
            return candidate
        if parent:
            refused.append(reason)
    raise EmbeddedServerError(
        f"there is no place for the socket of the embedded server: {inside} is longer than "
        f"{MAX_SOCKET_PATH} bytes, and elsewhere {'; '.join(refused)}. "
        "Name a directory with a shorter path."
    )


def _can_be(socket_path: Path, folder: str) -> str | None:
    """Why this cannot be the path of the socket, or None if it can be."""
    parent = socket_path.parent
    if parent.name != folder or not socket_path.is_absolute() or not _fits(socket_path):
        return f"{socket_path} is too long or does not belong to it"
    if parent.is_symlink() or parent.exists():
        return None if _is_private(parent) else f"{parent} is not private to this user"
    if not os.access(parent.parent, os.W_OK | os.X_OK):
        return f"{parent.parent} does not exist or cannot be written to"
    return None


def _read(record: Path) -> Path | None:
    try:
        return Path(os.fsdecode(record.read_bytes()))
    except FileNotFoundError:
        return None


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH


def _is_private(directory: Path) -> bool:
    """Whether nobody else can have put something there. Follows no symbolic link."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not stat.S_IMODE(status.st_mode) & 0o077
    )
