"""What a query may say.

Owns the parameters of routes: what they are called, what they may be, and what becomes of what they may not
be. Must not know any route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from saq.web.http import HttpError

MAX_TEXT = 200
MAX_NAME = 10_000


class Param(NamedTuple):
    """A parameter of a query. With ``low`` and ``high`` it is a number, which is brought within these; with
    ``choices`` it is one of them; else it is text."""

    name: str
    description: str
    default: Any = None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    longest: int = MAX_NAME

    def read(self, text: str | None) -> Any:
        """What was asked for. Raises ``HttpError`` 422 for what is none of the choices."""
        if self.low is not None and self.high is not None:
            return whole_number(text, self.default, self.low, self.high)
        if text is None or (text == "" and self.default is None):
            return self.default
        if self.choices:
            if text not in self.choices:
                raise HttpError(422, "bad_value", f"{self.name} is one of: {', '.join(self.choices)}.")
            return text
        return text[: self.longest]

    @property
    def schema(self) -> dict[str, Any]:
        """As OpenAPI has it. No number is refused, whatever it is: its bounds are words."""
        if self.low is not None:
            return {"type": ["integer", "string"], "default": self.default}
        schema: dict[str, Any] = {"type": "string"}
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default is not None:
            schema["default"] = self.default
        return schema


def read_all(params: Iterable[Param], fields: Mapping[str, str]) -> dict[str, Any]:
    """All parameters of a query, by name."""
    return {param.name: param.read(fields.get(param.name)) for param in params}


def whole_number(text: str | None, default: int, low: int, high: int) -> int:
    """A number, brought within its bounds; what is none is ``default``."""
    if text is None or not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
        return default
    return min(max(int(text), low), high)
