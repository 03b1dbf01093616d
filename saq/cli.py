"""The command line.

Owns its words. A settings path holds a dot, so further verbs are bare first words. Each is a module with a
`main` of its own, which takes the words behind it and returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from saq import _speedups
from saq.arguments import add_web_options, port
from saq.version import __version__


class Verb(NamedTuple):
    """A command beside that of the worker: its words, what it does, and the module that does it."""

    words: str
    does: str
    module: str


VERBS = {
    "demo": Verb("[FOLDER]", "a server, a worker and real jobs, from nothing", "saq.demo"),
    "info": Verb("SETTINGS", "how the queue is, its counters, its workers; --watch", "saq.terminal.info"),
    "jobs": Verb("SETTINGS", "lists jobs by where they are", "saq.terminal.jobs"),
    "job": Verb("SETTINGS KEY", "all that is known of a job", "saq.terminal.job"),
    "enqueue": Verb("SETTINGS NAME", "a new job; --wait prints its result", "saq.terminal.enqueue"),
    "retry": Verb("SETTINGS KEY", "finished jobs once more", "saq.terminal.retry"),
    "abort": Verb("SETTINGS KEY", "ends jobs that wait or run", "saq.terminal.abort"),
    "pause": Verb("SETTINGS", "hands out no more jobs", "saq.terminal.pause"),
    "resume": Verb("SETTINGS", "hands out jobs again", "saq.terminal.resume"),
    "cron": Verb("SETTINGS", "what the clock enqueues, and when", "saq.terminal.cron"),
    "workers": Verb("SETTINGS", "who works, and at what", "saq.terminal.workers"),
    "quiet": Verb("SETTINGS [WORKER]", "has workers take no more jobs", "saq.terminal.quiet"),
    "web": Verb("SETTINGS ...", "the web interface of one or more queues, by itself", "saq.serve"),
    "repair": Verb("SETTINGS", "checks what Redis holds of a queue, and mends it", "saq.repair"),
}
_VERB_LINES = "\n".join(f"  {f'saq {name} {verb.words}':<28} {verb.does}" for name, verb in VERBS.items())

EPILOG = f"""\
verbs, each with a --help of its own:
{_VERB_LINES}

signals:
  SIGTERM, SIGINT            stop: take no more jobs, give the running ones their grace; the second: stop now
  SIGTSTP, SIGCONT           take no more jobs, and stay; take jobs again
  SIGHUP                     with --workers: replace the processes one by one, without losing a job or time

exit codes:
  0  it was told to stop, or there was nothing left to do (burst); with --check: there are live workers
  1  it cannot work: no server can be reached, workers die as they start; with --check: there are none
  2  the settings or an option cannot be right

environment:
  AUTH_USER, AUTH_PASSWORD   who may use the web interface [admin, unset: everybody who reaches it]

example:
  saq examples.simple.settings -v --web
"""


def version() -> str:
    """What runs here, in one line."""
    kind = "compiled" if _speedups.COMPILED else "uncompiled"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"saq {__version__} (speedups {kind}: {_speedups.FILE}, Python {python})"


def build_parser() -> argparse.ArgumentParser:
    """The parser of `saq SETTINGS`."""
    parser = argparse.ArgumentParser(
        prog="saq",
        description="Start a worker.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "settings",
        type=_settings,
        help="path of a settings dict, or of a callable that returns one: module_a.settings; "
        "the current folder is importable",
    )
    parser.add_argument("--workers", type=_count, default=1, help="number of worker processes [1]")
    parser.add_argument(
        "--verbose", "-v", action="count", default=0, help="once: what happens; twice: everything"
    )
    parser.add_argument(
        "--metrics-port",
        type=port,
        help="serve /metrics (Prometheus), /ready and /health on this port; "
        "with --workers, each process on the next one",
    )
    parser.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        help="where that port listens [127.0.0.1]; no password is asked",
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 0 if the queue has live workers, else 1"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="leave logging alone")
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="text, or one JSON object a line [text]",
    )
    parser.add_argument(
        "--max-jobs", type=_count, metavar="N", help="replace a worker process after so many jobs"
    )
    parser.add_argument(
        "--max-memory",
        type=_size,
        metavar="SIZE",
        help="replace a worker process that holds more memory, after its running jobs: 500M, 2G",
    )
    parser.add_argument(
        "--reload", action="store_true", help="for development: start again when Python files change"
    )
    parser.add_argument(
        "--reload-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="watch this folder instead of the current one; may be repeated",
    )
    group = parser.add_argument_group("the web interface")
    group.add_argument("--web", action="store_true", help="serve it beside the worker")
    group.add_argument(
        "--extra-web-settings",
        "-e",
        action="append",
        type=_settings,
        help="settings whose queues it shows, too; may be repeated",
    )
    add_web_options(group)
    parser.add_argument("--version", action="version", version=version())
    return parser


def _settings(text: str) -> str:
    if "." not in text.strip("."):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a verb nor a settings path, which holds a dot: module.settings"
        )
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _SIZES[found[2].upper()]) if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G")
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in VERBS:
        code: int = importlib.import_module(VERBS[words[0]].module).main(words[1:])
        return code
    options = build_parser().parse_args(words)
    from saq.runner import run

    run(
        options.settings,
        workers=options.workers,
        verbose=options.verbose,
        web=options.web,
        extra_web_settings=options.extra_web_settings,
        port=options.port,
        host=options.host,
        insecure=options.insecure,
        read_only=options.read_only,
        redact=options.redact,
        metrics_port=options.metrics_port,
        metrics_host=options.metrics_host,
        check=options.check,
        quiet=options.quiet,
        log_format=options.log_format,
        max_jobs=options.max_jobs,
        max_memory=options.max_memory,
        reload=options.reload or bool(options.reload_dir),
        reload_dirs=options.reload_dir,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
