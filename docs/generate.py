"""Rewrites the parts of the documentation that are made from the code: `python docs/generate.py`.

Owns what stands between `<!-- generated: NAME -->` and `<!-- end -->` in the Markdown files. Must not touch
anything else. With `--check` it changes nothing, and says what is out of date. A test runs it like that.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from saq.job import STATUS_CHANGES, Status
from saq.observe.figures import OF_QUEUES, OF_WORKERS, Figure
from saq.queue.redis.keys import EXPLAINED

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENT = ROOT / "examples/deployment"
PAGES = ("README.md", "docs/deployment.md", "docs/internals.md", "docs/observability.md")
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keys() -> str:
    """The table of Redis keys."""
    rows = [f"| `{name}` | {kind} | {holds} |" for name, (kind, holds) in EXPLAINED.items()]
    return "\n".join(["| key | type | holds |", "|---|---|---|", *rows])


def statuses() -> str:
    """The table of status changes: from the row to the column."""
    reached = [status for status in Status if any(to is status for _, to in STATUS_CHANGES)]
    left = [status for status in Status if any(here is status for here, _ in STATUS_CHANGES)]
    lines = [
        f"| from \\ to | {' | '.join(status.value for status in reached)} |",
        "|---" * (len(reached) + 1) + "|",
    ]
    for here in left:
        cells = [STATUS_CHANGES.get((here, to), "") for to in reached]
        lines.append(f"| **{here.value}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def diagram() -> str:
    """The same as a picture."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Status.NEW.value}"]
    for (here, to), how in STATUS_CHANGES.items():
        # A colon or a semicolon would end the label.
        label = re.sub(r"\s*[:;]\s*", ", ", how)
        lines.append(f"    {here.value} --> {to.value}: {label}")
    return "\n".join([*lines, "```"])


def house() -> str:
    """Every module with the first line of its docstring."""
    rows: list[tuple[str, str]] = []

    def walk(folder: Path, indent: str) -> None:
        rows.append((f"{indent}{folder.name}/", first_line(folder / "__init__.py")))
        inner = indent + "  "
        modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        rows.extend((f"{inner}{path.name}", first_line(path)) for path in modules)
        for package in sorted(folder.glob("*/__init__.py")):
            walk(package.parent, inner)

    walk(ROOT / "saq", "")
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {what}".rstrip() for name, what in rows]
    return "\n".join(["```text", *lines, "```"])


def first_line(module: Path) -> str:
    """What the module is, as its docstring begins."""
    line = (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").partition("\n")[0]
    return line.partition(". ")[0].rstrip(".").replace("`", "")


def example() -> str:
    """The example of the README is the one that the tests run."""
    return f"```python\n{(ROOT / 'examples/simple.py').read_text('utf-8')}```"


def file(name: str, language: str) -> Callable[[], str]:
    """A file of the deployment as it is."""
    return lambda: f"```{language}\n{(DEPLOYMENT / name).read_text('utf-8')}```"


def figures(table: Sequence[Figure]) -> Callable[[], str]:
    """The metrics of one kind."""
    rows = []
    for figure in table:
        labels = ", ".join(f"`{label}`" for label in figure.labels)
        rows.append(f"| `{figure.name}` | {figure.kind} | {labels} | {figure.help} |")
    return lambda: "\n".join(["| metric | kind | labels | |", "|---|---|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {
    "deployment_app": file("app.py", "python"),
    "systemd": file("saq@.service", "ini"),
    "dockerfile": file("Dockerfile", "dockerfile"),
    "compose": file("compose.yaml", "yaml"),
    "kubernetes": file("kubernetes.yaml", "yaml"),
    "prometheus": file("prometheus.yml", "yaml"),
    "alerts": file("alerts.yml", "yaml"),
    "metrics_of_queues": figures(OF_QUEUES),
    "metrics_of_workers": figures(OF_WORKERS),
    "keys": keys,
    "statuses": statuses,
    "diagram": diagram,
    "house": house,
    "example": example,
}


def render(text: str) -> str:
    """The page with its generated parts as they should be now."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}{PARTS[match[2]]()}\n{match[3]}"

    return PART.sub(part, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if a page is out of date")
    check: bool = parser.parse_args().check
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text("utf-8")
        after = render(before)
        if after != before:
            stale.append(name)
            if not check:
                page.write_text(after, "utf-8")
    for name in stale:
        print(f"{name} is out of date: make docs" if check else f"{name}: rewritten")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
