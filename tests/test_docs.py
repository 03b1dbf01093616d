"""The documentation says what is so: its generated parts are current, its links lead somewhere, its code is
code, and the imports of the package run the way it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from saq import Queue, Status, Worker
from saq.settings import NAMES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def test_generated_parts_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_the_readme_is_the_one_that_is_tested():
    assert (ROOT / "examples/simple.py").read_text() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path):
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def links(page: Path) -> list[str]:
    """What a page links to in this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_code_is_code(page: Path):
    for block in code_blocks(page):
        compile(block, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_guide_knows_every_setting():
    text = (ROOT / "docs/guide.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text.partition("| setting |")[2].partition("\n\n")[0], re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert explained == set(NAMES) - {"poll_interval"}  # which is accepted, and needed for nothing


async def test_the_test_of_the_guide_passes(tmp_path: Path):
    async def send_mail(ctx: Any, *, to: str, text: str) -> int:
        return len(text)

    (block,) = [block for block in code_blocks(ROOT / "docs/guide.md") if "def test_mail" in block]
    names: dict[str, Any] = {"Queue": Queue, "Worker": Worker, "send_mail": ("send_mail", send_mail)}
    exec(compile(block, "guide.md", "exec"), names)
    await names["test_mail"](tmp_path)


# Imports run downwards --------------------------------------------------------------------------------------

#: The floors of the house, the lowest first. A module may import what is on a lower floor, and what is in its
#: own room; not what is beside it.
FLOORS = [
    ["saq.arguments", "saq.errors", "saq.listening", "saq.logs", "saq.types", "saq.utils", "saq.version"],
    ["saq._speedups", "saq.cron"],
    ["saq.serializer"],
    ["saq.job"],
    ["saq.queue"],  # the interface, `saq.queue.base`; the backends have floors of their own
    ["saq.queue.embedded"],
    ["saq.queue.redis"],
    ["saq.worker"],
    ["saq.observe"],
    ["saq.web"],
    ["saq"],  # the public door itself
    ["saq.settings"],
    ["saq.runner", "saq.terminal"],
    ["saq.demo", "saq.repair", "saq.serve"],
    ["saq.cli"],
    ["saq.__main__"],
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: What opens upwards, inside a function, so that nobody pays for what they do not use.
DOORS = {
    ("saq.queue.base", "saq.queue.redis"),  # `from_url` picks the backend
    ("saq.worker", "saq.settings"),
    ("saq.worker.process", "saq.observe.monitor"),
    ("saq.worker.process", "saq.observe.server"),
    ("saq.worker.process", "saq.settings"),
    ("saq.worker.process", "saq.web.aiohttp"),
}

#: What these rooms must not touch at all.
OUT_OF_BOUNDS = {
    "saq._speedups": {"asyncio", "redis", "hiredis"},
    "saq.job": {"asyncio", "redis", "hiredis"},
    "saq.queue": {"redis", "hiredis"},
    "saq.queue.embedded": {"asyncio", "redis", "hiredis"},
    "saq.worker": {"redis", "hiredis"},
    "saq.observe": {"redis", "hiredis"},
    "saq.web": {"redis", "hiredis"},
}


class Import(NamedTuple):
    """One import: who, whom, and whether it happens only when a function is called."""

    module: str
    target: str
    deferred: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "saq").rglob("*.py"))}


def imports(module: str) -> Iterator[Import]:
    """Those for type checkers alone do not count."""

    def walk(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, deferred) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield Import(module, inner if inner in MODULES else child.module or "", deferred)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    yield from walk(ast.Module([other], []), deferred)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, deferred or function)

    yield from walk(ast.parse(MODULES[module].read_text()), False)


def room_of(module: str) -> str:
    if module == "saq":
        return module
    while module != "saq":
        if module in FLOOR_OF:
            return module
        module = module.rpartition(".")[0]
    raise AssertionError("no floor")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str):
    try:
        room = room_of(module)
    except AssertionError:
        pytest.fail(f"{module} has no floor yet: give it one in FLOORS")
    for one in imports(module):
        if one.target.partition(".")[0] != "saq":
            assert one.target.partition(".")[0] not in OUT_OF_BOUNDS.get(room, set()), one
            continue
        target = room_of(one.target)
        if target == room or FLOOR_OF[target] < FLOOR_OF[room]:
            continue
        assert one.deferred, f"{one.module} imports {one.target}, which is above or beside it"
        assert one[:2] in DOORS, f"{one.module} opens a new door to {one.target}"


def test_every_door_is_in_use():
    assert {one[:2] for module in MODULES for one in imports(module) if one.deferred} >= DOORS


def test_every_status_is_in_the_documentation():
    text = (ROOT / "docs/internals.md").read_text()
    assert all(f"**{status.value}**" in text for status in Status if status is not Status.NEW)
