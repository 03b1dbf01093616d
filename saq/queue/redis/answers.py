"""What goes wrong between us and a server, in words.

Owns the two errors of it, and the advice that stands in them. Must not send anything.
"""

from __future__ import annotations

import re

import redis.exceptions

from saq.errors import ServerError

#: How Redis before 7 tells the error of a command that a script has called.
_WITHIN_SCRIPT = re.compile(r"ERR Error running script.*?: -?([A-Z]+) ", re.DOTALL)

#: How it tells what the user of a connection may not do; within a script, not every release names it.
_NO_RIGHT = re.compile(r"The user executing the script can't|ACL failure in script")
_COMMAND = re.compile(r"permissions to run the '([^']+)' command")
_SCRIPT_LINE = re.compile(r"user_script:(\d+)")
_NAMED = re.compile(r"(?<!call\()'([HZ][A-Z]*(?:SCAN|RANGE|LEN|CARD)|STRLEN)'")
_CALLED = re.compile(r"call\('([A-Z]+)'")

#: Answers that say "not now": the command did nothing and may be sent again.
TRANSIENT = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
#: Those of them that end with the move of a slot from one node to another. That takes as long as it takes.
MOVING = frozenset({"ASK", "TRYAGAIN"})
#: Answers that are no error of anybody's: the script is sent along now, the wait was ended on purpose, the
#: slot is elsewhere.
NO_ERROR = frozenset({"ASK", "MOVED", "NOSCRIPT", "UNBLOCKED"})

_HINTS = {
    "OOM": "Redis is out of memory: raise `maxmemory`, or let it drain. Nothing was stored.",
    "READONLY": "this is a replica: connect to the primary.",
    "MISCONF": "Redis cannot write to its disk and refuses all writes: see its log.",
    "NOREPLICAS": "too few replicas follow the primary (`min-replicas-to-write`): it refuses all writes.",
    "WRONGTYPE": "somebody has put something else in the place of a key of SAQ's: `saq repair` says which.",
    "NOAUTH": "the server wants a password: put it into the URL.",
    "WRONGPASS": "user name or password is wrong.",
    "CROSSSLOT": "the keys of a queue lie in one slot; something split them.",
    "MOVED": "this is a node of a Cluster, and the queue is on another: use redis+cluster:// for the URL.",
    "ASK": "the slot of this queue is on its way to another node, and nothing is done while its keys lie on "
    "both: end that move, or undo it.",
    "CLUSTERDOWN": "the Cluster does not serve all of its slots: see `CLUSTER INFO` and `CLUSTER NODES`.",
}


class UnreachableError(ServerError, redis.exceptions.ConnectionError):
    """The server could not be reached, or the connection broke and did not come back in time."""


class RefusedError(ServerError, redis.exceptions.ResponseError):
    """The server answered with an error.

    ``code`` is its first word, or that of the command in a script. ``right`` is what the user of the
    connection lacks, as ACL SETUSER takes it, where the code is NOPERM and that can be told.
    """

    def __init__(self, answer: str, right: str | None = None) -> None:
        within = _WITHIN_SCRIPT.match(answer)
        self.answer = answer
        self.code = within[1] if within else answer.partition(" ")[0]
        self.right = right
        if _NO_RIGHT.search(answer):
            self.code = "NOPERM"
        hint = _HINTS.get(self.code)
        if self.code == "NOPERM":
            self.right = right or missing_right(answer)
            hint = no_right(self.right)
        super().__init__(f"{answer} ({hint})" if hint else answer)

    def in_script(self, source: str) -> RefusedError:
        """The same, where it came from a script: names the right, if the server did not."""
        line = _SCRIPT_LINE.search(self.answer)
        if self.code != "NOPERM" or self.right or line is None:
            return self
        called = _CALLED.findall(source.split("\n")[int(line[1]) - 1])
        # Some are called by a variable: any command that is named beside.
        called = called or _NAMED.findall(source)
        return RefusedError(self.answer, " ".join(dict.fromkeys(f"+{name.lower()}" for name in called)))


def missing_right(answer: str) -> str | None:
    """What a refusal says that the user lacks; None if it does not say it."""
    if command := _COMMAND.search(answer):
        return f"+{command[1].lower()}"
    if "channel" in answer:
        return "&saq:*"
    if "access" in answer and "key" in answer:
        return "~saq:*"
    return None


def no_right(right: str | None) -> str:
    """What to do about it."""
    return (
        f"the user of this connection lacks that right: `ACL SETUSER <user> {right or '…'}`; all that SAQ "
        "needs stands in docs/deployment.md"
    )


def reason(error: BaseException) -> str:
    """Why a connection did not come about, and what to do about it where that is plain."""
    text = str(error) or type(error).__name__
    if isinstance(error, redis.exceptions.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return f"it refused the credentials: {text}"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"it refuses what every connection begins with: {text} ({no_right(missing_right(text))})"
    if "max number of clients" in text:
        return f"it has no room for another connection: {text}; raise its `maxclients`"
    return text + _tls(text)


def is_there(error: BaseException) -> bool:
    """Whether somebody was there, and did not let us in: then it is of no use to start a server."""
    return reason(error) != (str(error) or type(error).__name__)


def _tls(text: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "Hostname mismatch" in text or "IP address mismatch" in text:
            return " (its certificate is for another name than the one in the URL)"
        return " (whoever signed its certificate is not trusted here: name the file in ssl_ca_certs=…)"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return " (does that port speak TLS? If not, use redis:// for rediss://)"
    if "CERTIFICATE_REQUIRED" in text.upper().replace(" ", "_"):
        return " (it wants a certificate of ours: name the files in ssl_certfile=… and ssl_keyfile=…)"
    return ""
