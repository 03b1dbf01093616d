"""The two selves of the kernels, and what comes of calling them.

Owns how two outcomes are compared: results by value, type and order, errors by type and message.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from saq.serializer import dumps, loads

#: What the worker of each self calls; the dispatcher hands on the very same.
CODEC = (
    "join_netstrings",
    "key_of",
    "new_key",
    "pack_end",
    "pack_enqueue",
    "pack_value",
    "split_netstrings",
    "unpack_claims",
    "unpack_payload",
    "unpack_record",
    "unpack_value",
)
PLAIN = ("dump_plain", "load_plain")


class Handle:
    """Stands for ``Job``."""


class Kernels:
    """One self of all kernels."""

    def __init__(self, codec: ModuleType, plain: ModuleType) -> None:
        self.modules = (codec, plain)
        for names, module in ((CODEC, codec), (PLAIN, plain)):
            for name in names:
                setattr(self, name, getattr(module, name))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def value(self, data: Any) -> Any:
        """``unpack_value``, with the serializer that a queue has by default."""
        return self.unpack_value(data, self.load_plain, loads)

    def payload(self, data: Any) -> Any:
        """``unpack_payload``, likewise."""
        return self.unpack_payload(data, self.load_plain, loads)

    def claims(self, answer: list[Any], common: dict[str, Any], finish: Callable[..., None]) -> Any:
        """``unpack_claims``, likewise; nothing stands before the claims."""
        return self.unpack_claims(answer, 0, common, Handle, self.load_plain, loads, finish)

    def pack(self, *fields: Any) -> Any:
        """``pack_value``, likewise."""
        return self.pack_value(*fields, self.dump_plain, dumps)


def load(suffix: str) -> Kernels:
    """The uncompiled self (""), or the compiled one ("_c"). Raises ImportError if there is none."""
    codec, plain = (importlib.import_module(f"saq._speedups.{name}{suffix}") for name in ("_codec", "_plain"))
    return Kernels(codec, plain)


def required() -> bool:
    """Whether the compiled self must be there."""
    return os.environ.get("SAQ_REQUIRE_SPEEDUPS", "") not in ("", "0")


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
    """What comes of a call, as text that differs where anything does."""
    try:
        return "returned", described(function(*arguments))
    except Exception as error:
        return f"raised {type(error).__name__}", str(error)


def described(value: Any) -> str:
    """Like ``repr``, which tells 1 from True and shows the order of a dict; handles by their fields."""
    kind = type(value)
    if kind is list or kind is tuple:
        return f"{kind.__name__}({', '.join(map(described, value))})"
    if kind is Handle:
        return f"Handle {value.__dict__!r}"
    if isinstance(value, Exception):
        return f"{kind.__name__}: {value}"
    return repr(value)
