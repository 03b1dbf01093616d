"""Settings of worker processes that are frozen: what a job sees of it is written down, line by line."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from saq import Queue
from saq.types import SettingsDict

NOTES = "SAQ_TEST_NOTES"


def note(ctx: Any, what: str) -> None:
    with Path(os.environ[NOTES]).open("a") as notes:
        notes.write(f"{what} {ctx['job'].attempts} {os.getpid()}\n")


async def patient(ctx: Any) -> int:
    """The first attempt lasts until it is cancelled."""
    note(ctx, "starts")
    try:
        await asyncio.sleep(3600 if ctx["job"].attempts == 1 else 0)
    except asyncio.CancelledError:
        note(ctx, "cancelled")
        raise
    return os.getpid()


async def deaf(ctx: Any) -> int:
    """The same, but what it hears does not keep it from coming to its end."""
    note(ctx, "starts")
    try:
        await asyncio.sleep(3600 if ctx["job"].attempts == 1 else 0)
    except asyncio.CancelledError:
        note(ctx, "cancelled")
        await asyncio.sleep(0.1)
        note(ctx, "ends")
    return os.getpid()


def settings() -> SettingsDict:
    found: dict[str, Any] = {
        "queue": Queue.from_url(os.environ["SAQ_TEST_URL"]),
        "functions": [patient, deaf],
        **json.loads(os.environ.get("SAQ_TEST_SETTINGS", "{}")),
    }
    return found  # type: ignore[return-value]
