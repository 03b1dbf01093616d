"""Words of the command line that several of its commands take.

Owns what they may be, and how a wrong one is refused. Must not know a command.
"""

from __future__ import annotations

import argparse


def port(text: str) -> int:
    """A port to listen at; 0 is any free one."""
    if not text.isdecimal() or not 0 <= int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def add_web_options(group: argparse._ArgumentGroup) -> None:
    """Where the web interface listens, and what it shows and allows."""
    group.add_argument("--port", type=port, default=8080, help="where it listens [8080]; 0 is any free one")
    group.add_argument(
        "--host", default="127.0.0.1", help="[127.0.0.1]; another address needs AUTH_PASSWORD or --insecure"
    )
    group.add_argument("--insecure", action="store_true", help="without a password, too")
    group.add_argument("--read-only", action="store_true", help="nothing may be changed")
    group.add_argument(
        "--redact",
        metavar="FUNCTION",
        help="path of a function(name, value, job) that hides or replaces arguments, results, meta and "
        "errors: saq.web.redact.secrets, saq.web.redact.everything, or your own",
    )
