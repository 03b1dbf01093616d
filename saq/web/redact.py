"""Hooks that hide what not everybody who looks may see.

Owns two that are ready to be used. Any function of that form is one: see ``saq.web.present.Redact``.
"""

from __future__ import annotations

import re
from typing import Any

from saq.job import Job

HIDDEN = "(hidden)"

#: Names of what is secret: `password`, `api_key`, `X-Auth-Token`, `stripeSecret` …
_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authori[sz]ation|cookie|session_?id"
    r"|(api|access|private|secret|signing|encryption)[_-]?key|^pin$|^cvv$|^iban$",
    re.IGNORECASE,
)
#: The same inside text, with what stands behind it: `password=x`, `"token": "x"`, `Authorization: Bearer x`.
_SAID = re.compile(
    r"""(?P<name>["']?[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|credential|authori[sz]ation|cookie"""
    r"""|api[_-]?key|access[_-]?key|private[_-]?key)[\w.-]*["']?\s*[=:]\s*)"""
    r"""(?P<value>"[^"]*"|'[^']*'|(?:bearer\s+|basic\s+)?[^\s,;&"')\]}]+)""",
    re.IGNORECASE,
)
#: The user and the password in an address.
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_DEEP = 20


def everything(name: str, value: Any, job: Job) -> Any:
    """Hides all arguments, results and meta. Of an error it leaves the name of the exception."""
    if name != "error":
        return HIDDEN
    last = str(value).rstrip().rpartition("\n")[2]
    kind = re.match(r"[\w.]+(?=:|$)", last)
    return f"{kind[0]}: {HIDDEN}" if kind else HIDDEN


def secrets(name: str, value: Any, job: Job) -> Any:
    """Hides values whose names say that they are secret, at any depth, and in the text of an error."""
    return _without(value, 0)


def _without(value: Any, depth: int) -> Any:
    if depth > _DEEP:
        return HIDDEN
    if isinstance(value, dict):
        return {
            key: HIDDEN if isinstance(key, str) and _SECRET.search(key) else _without(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without(inner, depth + 1) for inner in value]
    if isinstance(value, str):
        text = _SAID.sub(lambda found: f"{found['name']}{HIDDEN}", value)
        return _IN_ADDRESS.sub(HIDDEN, text)
    return value
