"""Charts as SVG, written by hand: bars with their spread, and percentiles on a logarithmic scale.

Owns how a chart looks, in light and in dark: it brings its own ground, as the page around it may have chosen
otherwise. Knows nothing of benchmarks: it is given labels and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH = 820
LEFT = 190
RIGHT = 150
TOP = 62
ROW = 24
BAR = 14
FONT = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

STYLE = f"""
  text {{ font: 12px {FONT}; fill: #24292f; }}
  .title {{ font-size: 15px; font-weight: 600; }}
  .note, .tick {{ fill: #57606a; font-size: 11px; }}
  .value {{ font-variant-numeric: tabular-nums; }}
  .ours {{ font-weight: 600; }}
  .card {{ fill: #ffffff; stroke: #d1d9e0; }}
  .bar {{ fill: #8c959f; }}
  .bar.pale {{ fill: #c8cfd6; }}
  .bar.mine {{ fill: #0969da; }}
  .spread {{ stroke: #24292f; stroke-width: 1; opacity: .65; }}
  .grid {{ stroke: #d0d7de; stroke-width: 1; }}
  .a {{ fill: #0969da; }} .b {{ fill: #bf8700; }} .c {{ fill: #cf222e; }}
  .range {{ stroke: #8c959f; stroke-width: 2; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e6edf3; }}
    .note, .tick {{ fill: #9198a1; }}
    .card {{ fill: #0d1117; stroke: #3d444d; }}
    .bar {{ fill: #7d8590; }}
    .bar.pale {{ fill: #3d444d; }}
    .bar.mine {{ fill: #4493f8; }}
    .spread {{ stroke: #e6edf3; }}
    .grid {{ stroke: #3d444d; }}
    .a {{ fill: #4493f8; }} .b {{ fill: #d29922; }} .c {{ fill: #f85149; }}
    .range {{ stroke: #656c76; }}
  }}
"""


class Bar(NamedTuple):
    """A bar with its spread; ``mine`` sets it apart, ``pale`` puts it back."""

    label: str
    value: float
    low: float
    high: float
    mine: bool = False
    pale: bool = False


class Dots(NamedTuple):
    """A row of points, the same number in each row."""

    label: str
    values: Sequence[float]
    mine: bool = False


def bars(title: str, note: str, rows: Sequence[Bar], text: Callable[[float], str]) -> str:
    """Horizontal bars from zero, in the order that they are given; the line is from lowest to highest."""
    top = max((row.high for row in rows), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    body = []
    for k, row in enumerate(rows):
        y = TOP + k * ROW
        middle = y + BAR / 2
        length = max(1.0, row.value * scale)
        body.append(_label(row.label, middle, row.mine))
        kind = "bar mine" if row.mine else "bar pale" if row.pale else "bar"
        body.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        low, high = LEFT + row.low * scale, LEFT + row.high * scale
        body.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>')
        end = max(LEFT + length, high) + 6
        body.append(
            f'<text class="value" x="{end:.1f}" y="{middle + 4:.1f}">{escape(text(row.value))}</text>'
        )
    return _svg(title, note, body, TOP + len(rows) * ROW + 12)


def dots(
    title: str,
    note: str,
    names: Sequence[str],
    rows: Sequence[Dots],
    text: Callable[[float], str],
) -> str:
    """Rows of up to three points on a logarithmic scale, such as percentiles."""
    values = [value for row in rows for value in row.values if value > 0]
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10.0))))
    width = WIDTH - LEFT - RIGHT

    def x(value: float) -> float:
        return LEFT + (math.log10(max(value, 10.0**low)) - low) / (high - low) * width

    top = TOP + 22
    height = len(rows) * ROW
    body = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{top + height}"/>')
        said = escape(text(10.0**power))
        body.append(f'<text class="tick" x="{at:.1f}" y="{top - 14}" text-anchor="middle">{said}</text>')
    for k, row in enumerate(rows):
        middle = top + k * ROW + BAR / 2
        body.append(_label(row.label, middle, row.mine))
        first, last = x(min(row.values)), x(max(row.values))
        body.append(f'<line class="range" x1="{first:.1f}" x2="{last:.1f}" y1="{middle}" y2="{middle}"/>')
        for kind, value in zip("abc", row.values, strict=False):
            body.append(f'<circle class="{kind}" cx="{x(value):.1f}" cy="{middle}" r="4.5"/>')
        said = f"{text(row.values[0])} … {text(row.values[-1])}"
        body.append(
            f'<text class="value note" x="{WIDTH - RIGHT + 12}" y="{middle + 4:.1f}">{escape(said)}</text>'
        )
    for k, (kind, name) in enumerate(zip("abc", names, strict=False)):
        at = WIDTH - RIGHT + 18 + k * 44
        body.append(f'<circle class="{kind}" cx="{at}" cy="20" r="4.5"/>')
        body.append(f'<text class="note" x="{at + 8}" y="24">{escape(name)}</text>')
    return _svg(title, note, body, top + height + 14)


def _label(label: str, middle: float, mine: bool) -> str:
    kind = ' class="ours"' if mine else ""
    return f'<text{kind} x="{LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(label)}</text>'


def _svg(title: str, note: str, body: Sequence[str], height: float) -> str:
    lines = "\n".join(f"  {line}" for line in body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n'
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="6"/>\n'
        f'  <text class="title" x="16" y="24">{escape(title)}</text>\n'
        f'  <text class="note" x="16" y="44">{escape(note)}</text>\n'
        f"{lines}\n</svg>\n"
    )
