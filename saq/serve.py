"""`saq web`: the web interface as a process of its own.

Owns its command line, and that it ends when it is told to. Must not run a job: workers are elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any

from saq import logs
from saq.arguments import add_web_options
from saq.errors import MissingDependencyError, SaqError
from saq.logs import hide_secrets
from saq.queue.base import Queue
from saq.settings import import_function, import_settings, queues_of
from saq.worker.process import run_loop

DESCRIPTION = """\
Serves the web interface of the queues in these settings, without working on them.
"""
EPILOG = """\
environment:
  AUTH_USER, AUTH_PASSWORD   who may use it [admin, unset: everybody who reaches it]

example:
  saq web shop.settings mail.settings --read-only --redact saq.web.redact.secrets
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of `saq web`."""
    parser = argparse.ArgumentParser(
        prog="saq web",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "settings", nargs="+", help="paths of the settings that name the queues: module.settings"
    )
    add_web_options(parser.add_argument_group("the web interface"))
    parser.add_argument(
        "--verbose", "-v", action="count", default=0, help="once: what happens; twice: everything"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs `saq web`; returns the exit code."""
    options = build_parser().parse_args(arguments)
    logs.configure(options.verbose)
    try:
        queues = [queue for path in options.settings for queue in queues_of(import_settings(path))]
        redact = None if options.redact is None else import_function(options.redact)
        run_loop(_serve(queues, options, redact))
    except KeyboardInterrupt:
        pass
    except SaqError as error:
        print(hide_secrets(f"saq web: {error}"), file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


async def _serve(queues: Sequence[Queue], options: argparse.Namespace, redact: Any) -> None:
    try:
        from saq.web.aiohttp import serve
    except ImportError as error:
        raise MissingDependencyError('the web interface needs aiohttp: pip install "saq[web]"') from error
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, end.set)
    try:
        async with serve(
            queues,
            options.host,
            options.port,
            insecure=options.insecure,
            redact=redact,
            read_only=options.read_only,
        ) as url:
            print(f"The web interface is at {url}", flush=True)
            await end.wait()
    finally:
        for queue in queues:
            await queue.disconnect()
