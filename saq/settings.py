"""Settings: where they are, and whether they are any.

Owns importing "module.settings" and naming what is wrong with it. Must not start anything.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from saq.errors import SettingsError
from saq.queue import Queue
from saq.types import SettingsDict
from saq.worker.options import shares
from saq.worker.worker import Worker

DEFAULT_URL = "redis://localhost"

#: The names of all settings: the parameters of ``Worker``.
NAMES = tuple(name for name in inspect.signature(Worker.__init__).parameters if name != "self")


def import_settings(settings: str) -> SettingsDict:
    """The settings at a dotted path: a dict, or a callable that returns one. The queue has its default.

    Raises:
        SettingsError: it cannot be imported, or is none; the message says why.
    """
    path = settings.strip()
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise SettingsError(
            f"{path!r} is no settings path: it names a module and a variable in it, such as app.settings"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_path)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and module_path.startswith(error.name or "/")
        hint = f"; looked in {os.getcwd()} and the installed packages" if missing else ""
        raise SettingsError(
            f"cannot import {module_path!r} for the settings {path!r}: {type(error).__name__}: {error}{hint}"
        ) from error
    if not hasattr(module, name):
        raise SettingsError(f"the module {module_path!r} has no {name!r}{_similar(name, vars(module))}")
    found = getattr(module, name)
    if callable(found):
        try:
            found = found()
        except Exception as error:
            raise SettingsError(f"{path}() raised {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(
            f"{path} must be a dict of settings, or a callable that returns one, not {type(found).__name__}"
        )
    return check(found, path)


def check(settings: dict[str, Any], path: str = "settings") -> SettingsDict:
    """The settings with the default queue. Raises ``SettingsError`` for a name that is none."""
    for name in settings:
        if name not in NAMES:
            raise SettingsError(f"{path} has an unknown setting {name!r}{_similar(name, NAMES)}")
    if "functions" not in settings:
        raise SettingsError(f"{path} has no 'functions': the functions that this worker runs")
    checked = dict(settings)
    if checked.get("queue") is None and checked.get("queues") is None:
        checked["queue"] = Queue.from_url(DEFAULT_URL)
    return cast(SettingsDict, checked)


def import_function(path: str) -> Callable[..., Any]:
    """The function at a dotted path. Raises ``SettingsError``."""
    module_path, _, name = path.strip().rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module_path), name)
    except Exception as error:
        raise SettingsError(f"cannot import {path!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise SettingsError(f"{path} is not a function: {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def queues_of(settings: SettingsDict) -> list[Queue]:
    """The queues of these settings, whether they are in ``queue`` or in ``queues``.

    Raises:
        UsageError: they cannot be.
    """
    return [share.queue for share in shares(settings.get("queue"), settings.get("queues"))]


def _similar(name: str, names: Any) -> str:
    close = difflib.get_close_matches(str(name), [n for n in names if not n.startswith("_")], 1)
    return f"; did you mean {close[0]!r}?" if close else ""
