"""What the user of a connection needs to be allowed.

Owns the list of rights, and how each is tried without changing anything. Must not run without need: it is for
the start of a worker, and for the documentation.

A script that lacks one right of many stops halfway, and keeps what it has written. So a worker asks before it
begins.
"""

from __future__ import annotations

import asyncio

from saq.queue.redis.answers import RefusedError
from saq.queue.redis.scripts import evaluate
from saq.queue.redis.wire import Wire

#: What the scripts call, and what of each changes nothing: `K` is a key that is never there.
_IN_SCRIPTS = """
DEL K|EXISTS K|EXPIREAT K 1|GET K|GETRANGE K 0 0|HDEL K f|HEXISTS K f|HGET K f|HINCRBY K f none|HLEN K
HMGET K f|HSCAN K 0|HSET K f v g|PEXPIRE K 1|PTTL K|PUBLISH K m|SET K v XX|STRLEN K|TIME|TYPE K|UNLINK K
ZADD K XX 0 m|ZCARD K|ZCOUNT K 0 0|ZMSCORE K m|ZPOPMIN K|ZRANGE K 0 0|ZRANGEBYSCORE K 0 0|ZREM K m
ZREMRANGEBYRANK K 0 0|ZREMRANGEBYSCORE K 0 0|ZREVRANGE K 0 0|ZSCAN K 0|ZSCORE K m
"""
#: What clients send themselves, and can be tried like that.
_SENT = "BZPOPMIN K none|CLIENT ID|DBSIZE|EVAL return(1) 0|HGETALL K|PING|SCAN 0 COUNT 1|UNSUBSCRIBE K"
#: And what cannot: without it, a connection, a call or a subscription fails by itself.
_FIRST = ("+client|setname", "+evalsha", "+subscribe")


def _right(words: list[str]) -> str:
    return "+" + "|".join(word.lower() for word in (words[:2] if words[0] == "CLIENT" else words[:1]))


_TRIED_IN_SCRIPT = [row.split() for row in _IN_SCRIPTS.strip().replace("\n", "|").split("|")]
_TRIED = [row.split() for row in _SENT.split("|")]

#: All of them, as ACL SETUSER takes them. `docs/deployment.md` shows these; a test holds that.
RIGHTS = ("~saq:*", "resetchannels", "&saq:*", *sorted({*map(_right, _TRIED_IN_SCRIPT + _TRIED), *_FIRST}))


async def missing(wire: Wire, prefix: str) -> list[str]:
    """Which rights the user of this connection lacks."""
    key = f"{prefix}nothing"
    arguments: list[str | int] = []
    for words in _TRIED_IN_SCRIPT:
        arguments += [len(words), *(key if word == "K" else word for word in words)]
    tried = [[key if word == "K" else word for word in words] for words in _TRIED]
    refused = wire.link.errors["refused"]
    answers = await asyncio.gather(
        evaluate(wire, "rights", prefix, *arguments),
        *(wire.call(*words) for words in tried),
        return_exceptions=True,
    )
    wire.link.errors["refused"] = refused  # one of these is refused on purpose
    lacking = set()
    for words, answer in zip([["EVALSHA"], *tried], answers, strict=True):
        if words == ["EVALSHA"] and isinstance(answer, list):
            for command, said in zip(answer[::2], answer[1::2], strict=True):
                error = RefusedError(said.decode("utf-8", "replace"))
                if error.code == "NOPERM":
                    lacking.add(error.right or f"+{command.decode().lower()}")
        elif isinstance(answer, RefusedError):
            if answer.code == "NOPERM":
                # Not every release says which subcommand.
                right = answer.right or "+"
                lacking.add(_right(words) if right[0] == "+" else right)
        elif isinstance(answer, BaseException):
            raise answer
    return sorted(lacking)
