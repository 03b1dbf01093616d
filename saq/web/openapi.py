"""The OpenAPI document.

Owns how the table of routes and the shapes become one. Must not say anything that they do not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from saq.version import __version__
from saq.web.params import Param
from saq.web.schemas import SCHEMAS, ref

if TYPE_CHECKING:
    from saq.web.routes import Route

_NAME = re.compile(r"\{(\w+)\}")
_ERRORS = {
    "401": "no password, or a wrong one",
    "403": "from elsewhere, not said to be JSON, or the interface is read-only",
    "404": "there is no such thing",
    "500": "something is wrong here; the log says what",
    "503": "Redis is not available at present",
}
_CHANGE_ERRORS = {
    "400": "the body is not JSON",
    "409": "too late, or not at this time: nothing was changed",
    "413": "the body is too large",
    "422": "a value of the body that cannot be",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole API, relative to where the page is."""
    found: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.summary:
            found.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SAQ",
            "version": __version__,
            "description": "What the queues do, and the few things one may do to them. A name in a path is "
            "percent-encoded; the names '', '.' and '..' are written '=', '=.' and '=..'. A number that is "
            "out of its bounds is brought within them, and what is none counts as the default. Changes are "
            "taken from the page itself alone: Sec-Fetch-Site must be same-origin, or Origin this host.",
        },
        "servers": [{"url": "..", "description": "the root of the web interface, relative to this document"}],
        "security": [{}, {"basic": []}],
        "paths": found,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    errors = {**_ERRORS, **(_CHANGE_ERRORS if route.body else {})}
    if any(param.choices or param.name == "cursor" for param in route.params):
        errors["422"] = "a value of the query that cannot be"
    if route.answer:
        answer: dict[str, Any] = {"application/json": {"schema": ref(route.answer)}}
    else:
        answer = {"text/event-stream": {"schema": {"type": "string"}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _identifier(route),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _NAME.findall(route.path)
            ),
            *map(_parameter, route.params),
        ],
        "responses": {
            "200": {"description": "done", "content": answer},
            **{
                status: {"description": what, "content": {"application/json": {"schema": ref("Error")}}}
                for status, what in sorted(errors.items())
            },
        },
    }
    if route.body:
        operation["requestBody"] = {
            "required": "oneOf" in SCHEMAS[route.body],
            "content": {"application/json": {"schema": ref(route.body)}},
        }
    return operation


def _parameter(param: Param) -> dict[str, Any]:
    return {
        "name": param.name,
        "in": "query",
        "required": False,
        "description": param.description,
        "schema": param.schema,
    }


def _identifier(route: Route) -> str:
    words = [word for word in re.split(r"[/{}.]+", route.path.removeprefix("/api")) if word]
    return "_".join([route.method.lower(), *words])
