"""The transitions as calls.

Owns the Lua sources: one file per transition in `lua/`, shared pieces in `lua/lib/`, put together by their
`--@include` line. Must not know what a job is made of.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from saq.queue.redis.wire import PATIENCE, RefusedError, UnreachableError, Wire, ignore

_INCLUDE = re.compile(r"^--@include (.*)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--[^@].*\n", re.MULTILINE)


class Script(NamedTuple):
    """A script and the name by which the server's cache knows it."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script of a transition, complete."""
    folder = files(__package__) / "lua"

    def fragment(match: re.Match[str]) -> str:
        parts = [(folder / "lib" / f"{part}.lua").read_text("utf-8") for part in match[1].split()]
        return "\n".join(parts)

    source = _INCLUDE.sub(fragment, (folder / f"{name}.lua").read_text("utf-8"))
    source = _COMMENT.sub("", source)
    return Script(source, hashlib.sha1(source.encode()).hexdigest())


async def evaluate(
    wire: Wire, name: str, prefix: str, *arguments: Any, patience: float | None = PATIENCE
) -> Any:
    """Runs a transition. The server's cache may have been emptied: then it gets the source as well."""
    script = load(name)
    try:
        return await wire.call("EVALSHA", script.sha, 1, prefix, *arguments, patience=patience)
    except RefusedError as error:
        if error.code != "NOSCRIPT":
            raise error.in_script(script.source) from None
    try:
        return await wire.call("EVAL", script.source, 1, prefix, *arguments, patience=patience)
    except RefusedError as error:
        raise error.in_script(script.source) from None


class Lane:
    """A client that sends one numbered call at a time, so that each may be sent again.

    A script keeps the number and the answer of the latest call of each lane, and answers a number that it
    has seen from there.
    """

    def __init__(self, wire: Wire, prefix: str) -> None:
        self._wire = wire
        self._prefix = prefix
        self._client = secrets.token_hex(6)
        self._number = 0
        self._turn = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._turn.locked()

    async def call(self, name: str, *arguments: Any, patience: float | None = PATIENCE) -> Any:
        """Runs a transition whose first two arguments are client and number."""
        async with self._turn:
            self._number += 1
            return await evaluate(
                self._wire,
                name,
                self._prefix,
                self._client,
                self._number,
                *arguments,
                patience=patience,
            )

    async def call_behind(
        self, wire: Wire, block: tuple[Any, ...], name: str, *arguments: Any
    ) -> tuple[Any, RefusedError | None]:
        """Runs a transition on another connection, right behind a command that blocks there.

        The server runs it in the very moment in which the block ends. Whatever becomes of that connection,
        the call is sent again on the lane's own, under the same number. Returns the answer, and why the block
        was refused, if it was.
        """
        async with self._turn:
            self._number += 1
            numbered = (self._prefix, self._client, self._number, *arguments)
            try:
                blocked = wire.send(*block)
                blocked.add_done_callback(ignore)
                answer = await wire.send("EVALSHA", load(name).sha, 1, *numbered)
            except UnreachableError:
                return await evaluate(self._wire, name, *numbered, patience=None), None
            except RefusedError as error:
                if error.code != "NOSCRIPT":
                    wire.abort()  # it may lead to a server that does not serve us any more
                answer = await evaluate(self._wire, name, *numbered, patience=None)
            refused = blocked.exception() if blocked.done() else None
            return answer, refused if isinstance(refused, RefusedError) else None
