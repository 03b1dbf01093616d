"""What `import saq` brings with it.

Owns looking, in a fresh interpreter. Must not judge: that is `exact.py`.

Whatever Python and the libraries import among themselves changes with their versions. What the code of `saq`
asks for does not, and is what a change here can make worse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent

_SCRIPT = """
import builtins, json, sys

before, asked, load = set(sys.modules), set(), builtins.__import__

def noting(name, globals=None, locals=None, fromlist=(), level=0):
    module = load(name, globals, locals, fromlist, level)
    if globals and str(globals.get("__name__")).partition(".")[0] == "saq" and not level:
        asked.add(name)
    return module

builtins.__import__ = noting
import saq
builtins.__import__ = load
new = set(sys.modules) - before
own = sorted(name for name in new if name.partition(".")[0] == "saq")
# Uncompiled kernels ask for cython where it is installed, and do without elsewhere.
others = sorted(name for name in asked if name.partition(".")[0] not in ("saq", "cython"))
print(json.dumps([own, others, len(new)]))
"""


class Imports(NamedTuple):
    """What is imported.

    Args:
        own: modules of `saq`.
        others: modules that those ask for.
        all: how many modules that makes, with all that come along.
    """

    own: list[str]
    others: list[str]
    all: int


def imports(root: Path = ROOT) -> Imports:
    """What one `import saq` brings from below this folder, with uncompiled kernels: they import the same, and
    are everywhere."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        cwd=root,
        env=os.environ | {"SAQ_NO_SPEEDUPS": "1", "SAQ_REQUIRE_SPEEDUPS": ""},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return Imports(*json.loads(done.stdout))
