"""From a URL to a client of redis-py.

Owns which URLs there are, and what is said of one that is none. Must not connect, and must not show a
password.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio as aioredis
import redis.exceptions
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.sentinel import Sentinel

from saq.errors import InvalidUrlError

Client = aioredis.Redis | aioredis.RedisCluster

_SCHEME = re.compile(r"(?:redis|valkey)(s?)(?:\+(sentinel|cluster))?|unix")
_UNREADABLE = (
    "its parts cannot be told apart. A port is a number; in user, password and path, write %2F for /, %23 "
    "for #, %3F for ?, %40 for @ and %25 for %"
)
_SECRET = re.compile(r"(password=)[^&]*")


def masked(url: str) -> str:
    """A URL without its secrets, whatever else is wrong with it."""
    scheme, separator, rest = url.rpartition("://") if "://" in url else ("", "", url)
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + separator + _SECRET.sub(r"\1***", rest)


def client_of(url: str) -> Client:
    """A client for the server, or the servers, at ``url``. Raises ``InvalidUrlError``."""
    scheme, separator, _ = url.partition("://")
    known = _SCHEME.fullmatch(scheme)
    if known is None or not separator:
        raise InvalidUrlError(
            f"no backend goes by the URL {masked(url)!r}: use redis://host:port, rediss:// (TLS), "
            "unix:///path/to/socket, redis+sentinel://host:port,host:port/service, "
            "redis+cluster://host:port,host:port or embedded://name"
        )
    make = {"sentinel": _sentinel, "cluster": _cluster}.get(known[2] or "", _server)
    try:
        return make(url, "rediss" if known[1] else "unix" if scheme == "unix" else "redis")
    except InvalidUrlError:
        raise
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        # What the parser complains of may be part of a password: only the name of an option is repeated.
        option = re.search(r"keyword argument '(\w+)'|Invalid value for '(\w+)'", str(error))
        why = _UNREADABLE
        if option is not None:
            why = f"the option {option[1] or option[2]} does not exist there, or cannot have that value"
        raise InvalidUrlError(f"the URL {masked(url)!r} cannot be read: {why}") from None


def _server(url: str, scheme: str) -> Client:
    rest = url.partition("://")[2]
    if "," in urlsplit(url).netloc.rpartition("@")[2]:
        raise InvalidUrlError(
            f"the URL {masked(url)!r} names several servers: sentinels go by {scheme}+sentinel://, the nodes "
            f"of a Cluster by {scheme}+cluster://"
        )
    options = _options(f"{scheme}://{rest}", url)
    if scheme == "unix" and "path" not in options:
        raise InvalidUrlError(f"the URL {masked(url)!r} names no socket: unix:///path/to/socket")
    kind = {"redis": Connection, "rediss": SSLConnection, "unix": UnixDomainSocketConnection}[scheme]
    kind(**options)  # says which of them it does not know
    return aioredis.Redis.from_url(f"{scheme}://{rest}")


def _sentinel(url: str, scheme: str) -> Client:
    places, path, options = _several(url, scheme, 26379)
    service, _, db = path.partition("/")
    if not service:
        raise InvalidUrlError(
            f"the URL {masked(url)!r} names no service: {scheme}+sentinel://host:port,host:port/service"
        )
    if db:
        options["db"] = _number(db, url)
    # What is said of TLS holds for the sentinels as well; who they are is said apart.
    theirs = {name: value for name, value in options.items() if name.startswith(("ssl", "socket"))}
    for name in [name for name in options if name.startswith("sentinel_")]:
        theirs[name.removeprefix("sentinel_")] = options.pop(name)
    kind = SSLConnection if scheme == "rediss" else Connection
    kind(**options)
    kind(**theirs)
    if scheme == "rediss":
        options["ssl"] = theirs["ssl"] = True
    sentinel = Sentinel(places, sentinel_kwargs=theirs, **options)  # type: ignore[no-untyped-call]
    client: aioredis.Redis = sentinel.master_for(unquote(service))
    return client


def _cluster(url: str, scheme: str) -> Client:
    places, path, options = _several(url, scheme, 6379)
    if _number(path or "0", url) or options.pop("db", 0):
        raise InvalidUrlError(f"the URL {masked(url)!r} names a database: a Cluster has none but 0")
    nodes = [ClusterNode(host, port) for host, port in places]
    return aioredis.RedisCluster(startup_nodes=nodes, ssl=scheme == "rediss", **options)


def _several(url: str, scheme: str, port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Hosts and ports, the path, and the other parts as redis-py takes them."""
    split = urlsplit(url)
    who, at, hosts = split.netloc.rpartition("@")
    places = []
    for host in hosts.split(","):
        found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d+))?", host)
        if found is None:
            raise InvalidUrlError(f"the URL {masked(url)!r} names {host!r} where host:port was expected")
        places.append((found[1].strip("[]"), int(found[2] or port)))
    options = _options(f"{scheme}://{who}{at}host/?{split.query}", url)
    options.pop("host", None)
    return places, split.path.strip("/"), options


def _options(url: str, whole: str) -> dict[str, Any]:
    """What a URL of one server says, as redis-py takes it."""
    options: dict[str, Any] = dict(parse_url(url))
    options.pop("connection_class", None)
    path = urlsplit(url).path.strip("/")
    if "path" not in options and path:
        options["db"] = _number(path, whole)
    return options


def _number(text: str, url: str) -> int:
    if not text.isdecimal():
        raise InvalidUrlError(f"the URL {masked(url)!r} names the database {text!r}: it is a number")
    return int(text)
