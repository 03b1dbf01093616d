"""Whether a server is set up to keep jobs.

Owns which settings are looked at, and what is said of them. Must not change any, and must not refuse a server
but for its age, and for a right without which nothing works: what cannot be asked (an ACL, a managed service)
is left out.
"""

from __future__ import annotations

import asyncio
import re

from saq.errors import ServerError
from saq.queue.redis.rights import missing
from saq.queue.redis.wire import RefusedError, Wire

OLDEST = (6, 2)


async def check(wire: Wire, prefix: str) -> list[str]:
    """What may lose jobs, and what to set, a sentence each.

    Raises ``ServerError`` for too old a server, and for rights that are missing.
    """
    info, save, rights = await asyncio.gather(_info(wire), _save(wire), missing(wire, prefix))
    _check_version(info, wire.link.address)
    if rights:
        raise ServerError(
            f"the user of the connection to {wire.link.address} lacks rights: `ACL SETUSER <user> "
            f"{' '.join(rights)}`; all that SAQ needs stands in docs/deployment.md"
        )
    return [sentence for sentence in (_eviction(info), _persistence(info, save)) if sentence]


async def _info(wire: Wire) -> dict[str, str]:
    try:
        text = (await wire.call("INFO")).decode("utf-8", "replace")
    except RefusedError:
        return {}
    return {name: value for name, colon, value in (row.partition(":") for row in text.splitlines()) if colon}


async def _save(wire: Wire) -> str | None:
    """When snapshots are taken; None if nobody says. That is not part of INFO."""
    try:
        answer = await wire.call("CONFIG", "GET", "save")
    except RefusedError:
        return None
    return answer[1].decode("utf-8", "replace") if len(answer) == 2 else None


def _check_version(info: dict[str, str], address: str) -> None:
    # Of Valkey this is the Redis whose commands it has, and of others as well.
    said = info.get("redis_version", "")
    version = re.match(r"(\d+)\.(\d+)", said)
    if version and (int(version[1]), int(version[2])) < OLDEST:
        raise ServerError(
            f"the server at {address} is Redis {said}, and SAQ needs 6.2 or later, or Valkey: upgrade it"
        )


def _eviction(info: dict[str, str]) -> str | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    what = "results" if policy.startswith("volatile") else "jobs"
    return (
        f"maxmemory-policy is {policy}: when its memory is full, Redis throws {what} away; "
        "set maxmemory-policy noeviction"
    )


def _persistence(info: dict[str, str], save: str | None) -> str | None:
    if info.get("aof_enabled", "1") != "0":
        return None
    if save is None:
        loss = "a crash may lose jobs"
    elif save:
        loss = f"Redis takes snapshots only (save {save}): a crash loses all jobs since the last one"
    else:
        loss = "Redis keeps nothing on disk: a restart loses all jobs"
    return f"appendonly is no: {loss}; set appendonly yes"
