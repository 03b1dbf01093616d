"""What is said when the work is done.

Owns the outcome of the demo and its words: the table of files, and what became of the other jobs. Must not
talk to a queue.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from saq.demo.work import CannotRead, Fingerprint
from saq.job import Job, Status
from saq.terminal.screen import Column, Screen, plural, printable, size, table

#: So many files that could not be read are named.
NAMED = 5

COLUMNS = (
    Column("File", keep_end=True, least=16),
    Column("Size", right=True),
    Column("Lines", right=True),
    Column("SHA-256", optional=True),
    Column("Most frequent words", least=19, optional=True),
)


@dataclasses.dataclass
class FileResult:
    """What the two jobs of a file brought."""

    name: str
    fingerprint: Fingerprint | None = None
    words: list[str] | None = None
    #: Why it could not be read.
    error: str | None = None

    @property
    def size(self) -> int:
        """Its bytes, 0 if they are not known."""
        return self.fingerprint.size if self.fingerprint else 0


@dataclasses.dataclass
class Outcome:
    """Everything that happened."""

    files: list[FileResult] = dataclasses.field(default_factory=list)
    #: Seconds from the first enqueue to the last result of a file.
    seconds: float = 0.0
    later: Job | None = None
    stumble: Job | None = None
    ticks: int = 0
    #: What should have worked and did not.
    unexpected: list[str] = dataclasses.field(default_factory=list)


def reason_of(error: str | None) -> tuple[str, bool]:
    """The last line of a stack trace, and whether it is only that a file cannot be read."""
    lines = (error or "").strip().splitlines() or ["no error was recorded"]
    prefix = f"{CannotRead.__module__}.{CannotRead.__qualname__}: "
    return lines[-1].removeprefix(prefix), lines[-1].startswith(prefix)


def show(screen: Screen, outcome: Outcome, rows: int, concurrency: int) -> None:
    """Prints it."""
    read = [file for file in outcome.files if file.error is None]
    if read:
        _show_files(screen, read, rows)
    unread = [file for file in outcome.files if file.error is not None]
    if unread:
        title = f"  Could not be read: {plural(len(unread), 'file')}"
        screen.say(
            screen.style(title, "bold")
            + ("; its" if len(unread) == 1 else "; their")
            + " jobs failed, as they should"
        )
        for file in unread[:NAMED]:
            screen.say(f"    {printable(file.name)}: {screen.style(printable(file.error or ''), 'red')}")
        if len(unread) > NAMED:
            screen.say(f"    and {len(unread) - NAMED:,} more")
        screen.say()
    _show_others(screen, outcome)
    jobs = 2 * len(outcome.files)
    rate = f"{jobs / outcome.seconds:,.0f} jobs per second" if outcome.seconds else ""
    screen.say(
        f"  {plural(jobs, 'job')} for {plural(len(outcome.files), 'file')} in {outcome.seconds:.2f} s: "
        f"{screen.style(rate, 'green')},"
    )
    screen.say(f"  enqueued, run and brought back by one process, {plural(concurrency, 'job')} at a time.")
    if outcome.unexpected:
        screen.say()
        screen.say(screen.style("  This should have worked, and did not:", "red"))
        for line in outcome.unexpected[:NAMED]:
            screen.say(f"    {printable(line)}")
        if len(outcome.unexpected) > NAMED:
            screen.say(f"    and {len(outcome.unexpected) - NAMED:,} more")


def _show_files(screen: Screen, read: list[FileResult], rows: int) -> None:
    """Texts first, the largest of them first: they have the most to say."""
    ranked = sorted(read, key=lambda file: (file.words is None, -file.size, file.name))
    shown = [_row(file) for file in ranked[:rows]]
    rest = ranked[rows:]
    if rest:
        shown.append([f"and {plural(len(rest), 'more', 'more')}", *_totals(rest), "", ""])
    shown.append([f"{plural(len(read), 'file')} in all", *_totals(read), "", ""])
    titles, *lines = table(COLUMNS, shown, screen.width - 3)
    screen.say("  " + screen.style(titles, "bold"))
    for number, line in enumerate(lines):
        style = "bold" if number == len(lines) - 1 else "dim" if number == rows else ""
        screen.say("  " + (screen.style(line, style) if style else line))
    notes = []
    if any(file.fingerprint and file.fingerprint.partial for file in ranked[:rows]):
        notes.append("* too large to read as a whole: lines and SHA-256 of the first 16 MiB")
    if twins := _twins(read):
        notes.append(twins)
    for note in notes:
        screen.say("  " + screen.style(note, "dim"))
    screen.say()


def _row(file: FileResult) -> list[str]:
    found = file.fingerprint
    assert found is not None
    mark = "*" if found.partial else ""
    lines = "binary" if found.lines is None else f"{found.lines:,}{mark}"
    words = ", ".join(file.words or ())
    return [printable(file.name), size(found.size), lines, found.sha256[:12] + mark, printable(words)]


def _totals(files: list[FileResult]) -> tuple[str, str]:
    lines = sum(file.fingerprint.lines or 0 for file in files if file.fingerprint)
    return size(sum(file.size for file in files)), f"{lines:,}"


def _twins(read: list[FileResult]) -> str:
    digests = Counter(
        file.fingerprint.sha256
        for file in read
        if file.fingerprint and file.size and not file.fingerprint.partial
    )
    copies = sum(count - 1 for count in digests.values())
    if not copies:
        return ""
    return f"{plural(copies, 'file')} {'is a copy' if copies == 1 else 'are copies'} of another"


def _show_others(screen: Screen, outcome: Outcome) -> None:
    screen.say(screen.style("  And besides", "bold"))
    later, stumble = outcome.later, outcome.stumble
    if later is not None and later.status is Status.COMPLETE:
        late = max(0, round(later.started - later.scheduled * 1000))
        screen.say(f"    scheduled  two seconds ahead; it started {late} ms after its time")
    if stumble is not None and stumble.status is Status.COMPLETE:
        screen.say(
            f"    retried    failed on purpose at its first attempt, complete at attempt {stumble.attempts}"
        )
    screen.say(f"    cron       {plural(outcome.ticks, 'tick')} of “* * * * * *”: every second")
    screen.say()
