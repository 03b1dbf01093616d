"""A terminal, or what stands in for one.

Owns the stream: lines that stay, one line that changes, a page that is drawn over itself, columns that line
up. Must not know what they say.

On a terminal the changing line is drawn over itself in one write, so that nothing flickers. Where the output
goes elsewhere there is nothing to draw over: it becomes a plain line now and then.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, TextIO

#: Where the output is no terminal, the changing line is printed so often at the most, in seconds.
PLAIN_EVERY = 2.0
#: … and the columns are these many.
PLAIN_WIDTH = 100

_HIDE_CURSOR, _SHOW_CURSOR, _CLEAR_LINE = "\x1b[?25l", "\x1b[?25h", "\r\x1b[K"
_HOME, _CLEAR_REST = "\x1b[H", "\x1b[J"
#: Another page to draw on, where a line that is too long is cut off; and back.
_OTHER_PAGE, _FIRST_PAGE = "\x1b[?1049h\x1b[?7l", "\x1b[?7h\x1b[?1049l"
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_BAR = re.compile("[█░]+")
_ASCII = str.maketrans({"█": "#", "░": ".", "…": "~", "“": '"', "”": '"'})


class Screen:
    """A stream that something is shown on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self.terminal and not os.environ.get("NO_COLOR")
        self._plain_text = not _speaks_unicode(stream)
        self._status = ""
        self._printed_at = float("-inf")
        self._paging = False

    @property
    def width(self) -> int:
        """Columns, as they are now."""
        return max(20, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns)

    def style(self, text: str, style: str) -> str:
        """The text in bold, dim, red …, where there are colours."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._coloured and text else text

    def say(self, text: str = "") -> None:
        """Prints lines that stay, above the one that changes."""
        if self.terminal and self._status:
            status, self._status = self._status, ""
            self._write(f"{_CLEAR_LINE}{text}\n")
            self.status(status)
        else:
            self._write(f"{text}\n")

    def status(self, text: str) -> None:
        """Changes the changing line."""
        text = fit(text, self.width - 1)
        if self.terminal:
            if text != self._status:
                drawn = _BAR.sub(lambda part: self.style(part[0], "cyan"), text)
                self._write(f"{'' if self._status else _HIDE_CURSOR}\r{drawn}\x1b[K")
                self._status = text
        elif time.monotonic() - self._printed_at >= PLAIN_EVERY:
            self._printed_at = time.monotonic()
            self._write(f"{text}\n")

    def end_status(self) -> None:
        """Takes the changing line away."""
        if self._status:
            self._status = ""
            self._write(f"{_CLEAR_LINE}{_SHOW_CURSOR}")

    def page(self, lines: Sequence[str]) -> None:
        """Shows a page in the place of the last one, as much of it as there is room for.

        On a terminal, what was there before comes back with ``end_page``; elsewhere, one follows the other.
        """
        if not self.terminal:
            self._write("".join(f"{line}\n" for line in lines) + "\n")
            return
        room = max(1, shutil.get_terminal_size().lines - 1)
        begin = _HOME if self._paging else _OTHER_PAGE + _HIDE_CURSOR + _HOME
        self._paging = True
        self._write(begin + "".join(f"{line}\x1b[K\n" for line in lines[:room]) + _CLEAR_REST)

    def end_page(self) -> None:
        """Takes the page away."""
        if self._paging:
            self._paging = False
            self._write(_FIRST_PAGE + _SHOW_CURSOR)

    def _write(self, text: str) -> None:
        if self._plain_text:
            text = text.translate(_ASCII)
            text = text.encode("ascii", "replace").decode()
        self._stream.write(text)
        self._stream.flush()


def _speaks_unicode(stream: TextIO) -> bool:
    # Not by what it can encode: the name of a file may hold anything at all.
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def printable(text: str) -> str:
    """The text without anything that moves a cursor or cannot be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def width_of(text: str) -> int:
    """How many columns a text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """The text in at most so many columns; what does not fit is cut off at its end, or at its beginning."""
    if width_of(text) <= width:
        return text
    kept: list[str] = []
    room = width - 1
    for character in reversed(text) if keep_end else text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept) + "…"


class Column(NamedTuple):
    """A column of a table.

    Args:
        title: above it.
        right: numbers stand at the right.
        keep_end: what is cut off is the beginning.
        least: it may be narrowed down to so many columns; None is never.
        optional: it is left out, the last such first, where there is no room.
    """

    title: str
    right: bool = False
    keep_end: bool = False
    least: int | None = None
    optional: bool = False


GAP = "  "


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table that is at most ``width`` wide; the first is the titles."""
    cells = [[column.title for column in columns], *rows]
    widths = [max(width_of(row[i]) for row in cells) for i in range(len(columns))]
    shown = list(range(len(columns)))

    def excess(floor: bool) -> int:
        total = len(GAP) * (len(shown) - 1)
        for i in shown:
            least = columns[i].least
            total += widths[i] if least is None or not floor else min(widths[i], least)
        return total - width

    for i in reversed(range(len(columns))):
        if excess(floor=True) > 0 and columns[i].optional:
            shown.remove(i)
    # Then the widest of those that may be narrowed gives way, a column at a time.
    while excess(floor=False) > 0:
        elastic = [i for i in shown if widths[i] > (columns[i].least or widths[i])]
        if not elastic:
            break
        widths[max(elastic, key=lambda i: widths[i])] -= 1
    lines = []
    for row in cells:
        line = []
        for i in shown:
            text = fit(row[i], widths[i], keep_end=columns[i].keep_end)
            blank = " " * (widths[i] - width_of(text))
            line.append(blank + text if columns[i].right else text + blank)
        lines.append(GAP.join(line).rstrip())
    return lines


def bar(done: int, total: int, width: int) -> str:
    """How far it is."""
    full = width if done >= total else width * done // max(total, 1)
    return "█" * full + "░" * (width - full)


def size(number: float) -> str:
    """Bytes for people."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.95 and len(units) > 1:
        number /= 1000
        del units[0]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``1,200 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
