"""Who may come in, what may change something, and what every response says to a browser.

Owns the rules. Must not know routes or queues, and keeps no secret but the digests of the credentials.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from saq.web.http import HttpError

logger = logging.getLogger("saq")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

#: On every response, errors included.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Credentials:
    """The one user who may come in."""

    def __init__(self, user: bytes, password: bytes) -> None:
        self._user = _digest(user)
        self._password = _digest(password)

    @classmethod
    def from_environment(cls) -> Credentials | None:
        """``AUTH_USER`` [admin] and ``AUTH_PASSWORD``; None if there is no password."""
        password = os.fsencode(os.environ.get("AUTH_PASSWORD", ""))
        if not password:
            if "AUTH_PASSWORD" in os.environ:
                logger.warning("AUTH_PASSWORD is empty: the web interface asks for no password")
            return None
        return cls(os.fsencode(os.environ.get("AUTH_USER") or "admin"), password)

    def check(self, authorization: str) -> bool:
        """Whether an ``Authorization`` header names that user and password, in constant time."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded.strip().encode("ascii"), validate=True)
        except (ValueError, binascii.Error):
            given = b""
        user, colon, password = given.partition(b":")
        # Both are compared, always. Digests have one length, so that not even the lengths can be timed.
        same_user = hmac.compare_digest(_digest(user), self._user)
        same_password = hmac.compare_digest(_digest(password), self._password)
        return (same_user & same_password) and colon == b":" and scheme.lower() == "basic"


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def authenticate(credentials: Credentials | None, headers: Mapping[str, str]) -> None:
    """Raises ``HttpError`` 401 for somebody who may not come in."""
    if credentials is not None and not credentials.check(headers.get("authorization", "")):
        raise HttpError(
            401,
            "unauthorized",
            "This needs a user name and a password.",
            {"WWW-Authenticate": 'Basic realm="saq", charset="UTF-8"'},
        )


def check_change(headers: Mapping[str, str]) -> None:
    """Raises ``HttpError`` 403 unless one of our own pages sent this, or somebody says so on purpose.

    Where it came from, the browser says in a header that no script can set. A form cannot send this content
    type, and a script of another site cannot without being allowed to.
    """
    if not same_origin(headers):
        raise HttpError(
            403,
            "cross_origin",
            "A change is asked for from the page itself: Sec-Fetch-Site must be same-origin, "
            "or, where it is not sent, Origin must be this host.",
        )
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HttpError(403, "not_json", "A change is asked for with the Content-Type application/json.")


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of this host."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = headers.get("origin"), headers.get("host")
    if not origin or not host:
        return False
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS[parts.scheme]
        ours = urlsplit(f"//{host}")
        return (
            parts.hostname is not None
            and origin == f"{parts.scheme}://{parts.netloc}"
            and host == ours.netloc
            and "@" not in parts.netloc + host
            # The scheme of our own side is not known here: a proxy may have ended TLS.
            and (parts.hostname, parts.port or default) == (ours.hostname, ours.port or default)
        )
    except (KeyError, ValueError):  # another scheme, or not an origin at all
        return False


def check_host(headers: Mapping[str, str]) -> None:
    """Raises ``HttpError`` 403 if the page was found by a name that is not of this machine.

    On the loopback without a password, the address is all that protects: a site whose name is made to point
    to 127.0.0.1 would be "same origin" here (DNS rebinding). An IP address cannot be made to point elsewhere.
    """
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        name = ""
    if not (name == "localhost" or name.endswith(".localhost") or _address(name)):
        raise HttpError(
            403,
            "wrong_host",
            "Without a password this is served to localhost only. Use that name, set AUTH_PASSWORD, "
            "or start with --insecure.",
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    address = _address(host)
    return address.is_loopback if address else host.lower() in ("localhost", "localhost.")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
