"""`saq repair`: checks what Redis holds of a queue, and mends it.

Owns its command line, what it says, and its exit codes. What is wrong and what is right is decided in
`queue/redis/repair.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from saq import logs
from saq.errors import SaqError, ServerError
from saq.logs import hide_secrets
from saq.queue.backend import Finding, Progress
from saq.queue.base import Queue
from saq.settings import import_settings, queues_of
from saq.worker.process import run_loop

DESCRIPTION = """\
Checks what Redis holds of a queue against itself, and mends what does not fit: after a backup was restored,
keys were evicted or deleted by hand, or the server lost its last second. Workers and producers may go on
meanwhile. No job that is still there gets lost; a job whose content is gone is named.
"""
EPILOG = """\
exit codes:
  0  the queue is sound, or all that was wrong is mended
  1  something is wrong and was not mended (--dry-run, or it takes a human), or the server cannot be reached
  2  the settings or an option cannot be right
"""
#: Seconds between two lines of progress on a terminal.
SHOWN_EVERY = 0.1


def build_parser() -> argparse.ArgumentParser:
    """The parser of `saq repair`."""
    parser = argparse.ArgumentParser(
        prog="saq repair",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", help="path of the settings that name the queue: module.settings")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, only say what is wrong")
    parser.add_argument("--json", action="store_true", help="say it as a JSON object for each queue")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs `saq repair`; returns the exit code."""
    options = build_parser().parse_args(arguments)
    logs.configure(0)
    try:
        sound = True
        for queue in queues_of(import_settings(options.settings)):
            try:
                report = run_loop(_repair(queue, options.dry_run, print_findings=not options.json))
            except ServerError as error:
                # The others may lie on servers that can be reached.
                print(hide_secrets(f"saq repair: {queue.name}: {error}"), file=sys.stderr)
                sound = False
                continue
            print(json.dumps(report.to_dict()) if options.json else report.summary())
            sound = sound and report.sound
    except SaqError as error:
        print(hide_secrets(f"saq repair: {error}"), file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print("saq repair: stopped; what was mended is mended", file=sys.stderr)
        return 1
    return 0 if sound else 1


class Report:
    """What came of a repair."""

    def __init__(self, queue: str, dry_run: bool) -> None:
        self.queue = queue
        self.dry_run = dry_run
        self.warnings: list[str] = []
        self.findings: list[Finding] = []
        self.looked = 0
        self.tidied = 0
        self.seconds = 0.0

    @property
    def sound(self) -> bool:
        """Whether there is nothing wrong any more."""
        return all(finding.mended for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The same in JSON's terms."""
        return {**vars(self), "sound": self.sound, "findings": [f._asdict() for f in self.findings]}

    def summary(self) -> str:
        """The last line."""
        mended = sum(finding.mended for finding in self.findings)
        said = f"{self.queue}: looked at {self.looked:,} entries in {self.seconds:.1f} s: "
        if not self.findings:
            return said + "sound"
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in Counter(f.kind for f in self.findings).items())
        rest = "all mended" if self.sound else "nothing was changed" if self.dry_run else f"{mended:,} mended"
        return f"{said}{len(self.findings):,} wrong ({kinds}), {rest}"


async def _repair(queue: Queue, dry_run: bool, print_findings: bool) -> Report:
    report, line, began = Report(queue.name, dry_run), _Line(), time.monotonic()
    try:
        report.warnings = await queue.check()
        for warning in report.warnings:
            line.say(f"warning: {warning}", sys.stderr)
        async for item in queue.repair(dry_run=dry_run):
            if isinstance(item, Progress):
                report.tidied = item.tidied
                report.looked = item.total
                line.show(f"{item.part}: {item.looked:,} of {item.total:,}")
            else:
                report.findings.append(item)
                if print_findings:
                    line.say(_said(item, dry_run))
    finally:
        line.clear()
        await queue.disconnect()
    report.seconds = time.monotonic() - began
    return report


def _said(finding: Finding, dry_run: bool) -> str:
    """A finding in one line; a key may hold anything, also what a terminal would obey."""
    remedy = f"would be: {finding.remedy}" if dry_run else finding.remedy
    return f"{finding.kind}: {finding.key!r} {finding.wrong}; {remedy}"


class _Line:
    """A line of progress that is written over again; only on a terminal."""

    def __init__(self) -> None:
        self._shown = ""
        self._next = 0.0

    def show(self, text: str) -> None:
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + SHOWN_EVERY
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(len(self._shown)))
        sys.stderr.flush()
        self._shown = text

    def clear(self) -> None:
        if self._shown:
            self._write("")
            sys.stderr.write("\r")

    def say(self, text: str, file: Any = None) -> None:
        self.clear()
        print(text, file=file)
