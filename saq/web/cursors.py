"""Cursors: a place in a list as opaque text.

Owns the way there and back. Must not trust what comes back.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from saq.queue.views import Mark
from saq.web.http import HttpError

_SCORE = re.compile(rb"-?\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?")


class Cursor(NamedTuple):
    """Where a list goes on, and since when it is gone through (milliseconds; 0 if that does not matter)."""

    mark: Mark
    began: int = 0

    def __str__(self) -> str:
        data = b"%d;%b;%b" % (self.began, self.mark.score, self.mark.key)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read(text: str | None) -> Cursor | None:
    """The cursor again. Raises ``HttpError`` 422 for what is none."""
    if not text:
        return None
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        data = b""
    began, _, rest = data.partition(b";")
    score, separator, key = rest.partition(b";")
    if not (separator and began.isdigit() and len(began) < 19 and _SCORE.fullmatch(score)):
        raise HttpError(422, "bad_value", "This is no cursor: send the one of the answer before.")
    return Cursor(Mark(score, key), int(began))
