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
