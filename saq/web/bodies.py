"""The bodies of changes: whether they are what a route takes.

Owns that check, for as much of JSON Schema as `schemas.py` uses for bodies. Must not know a route.
"""

from __future__ import annotations

import json
from typing import Any

from saq.web.http import HttpError
from saq.web.schemas import SCHEMAS, Schema

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "null": (type(None),),
}


def read(body: bytes, name: str) -> dict[str, Any]:
    """The object in a body; an empty one stands for nothing.

    Raises:
        HttpError: 400 or 422, with what is wrong.
    """
    if not body.strip():
        return {}
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise HttpError(400, "not_json", "The body is not JSON.") from None
    _check(value, SCHEMAS[name], "the body")
    assert isinstance(value, dict)
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, schema: Schema, what: str) -> None:
    if "anyOf" in schema:
        if value is None:
            return
        schema = schema["anyOf"][0]
    kind: str = schema["type"]
    fits: bool = isinstance(value, _KINDS[kind])
    if not fits or isinstance(value, bool):
        raise _wrong(f"{what} is to be of the type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(f"{what} is one of: {', '.join(schema['enum'])}")
    if kind == "object":
        for name in value:
            if name not in schema["properties"]:
                raise _wrong(f"{what} has a field that is not known here", "unknown_field")
            _check(value[name], schema["properties"][name], name)
        for name in schema.get("required", ()):
            if name not in value:
                raise _wrong(f"{what} needs the field {name}")
    elif kind == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
        if not low <= len(value) <= high:
            raise _wrong(f"{what} holds {low} to {high} items")
        for item in value:
            _check(item, schema["items"], what)


def _wrong(message: str, code: str = "bad_value") -> HttpError:
    return HttpError(422, code, f"{message[0].upper()}{message[1:]}.")
