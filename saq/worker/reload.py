"""Tells when Python files have changed. Owns the thread that watches them; needs the extra `reload`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from saq.errors import MissingDependencyError, UsageError


def watcher(folders: Sequence[str]) -> Callable[[Callable[[], None]], None]:
    """What watches these folders and all below them: it takes what is to be called after each change.

    Raises:
        MissingDependencyError: watchfiles is not installed.
        UsageError: one of them is no folder.
    """
    try:
        import watchfiles
    except ImportError as error:
        raise MissingDependencyError('--reload needs watchfiles: pip install "saq[reload]"') from error
    for folder in folders:
        if not Path(folder).is_dir():
            raise UsageError(f"--reload-dir {folder!r} is no folder")

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # the supervisor says it

    def watch(changed: Callable[[], None]) -> None:
        def run() -> None:
            for _ in watchfiles.watch(
                *folders, watch_filter=watchfiles.PythonFilter(), raise_interrupt=False
            ):
                changed()

        threading.Thread(target=run, name="saq-reload", daemon=True).start()

    return watch
