"""The page that says which test holds what: it names tests that exist, and all of this folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
ROW = re.compile(r"^\| (?P<what>.+?) \| (?P<held>.+) \|$", re.MULTILINE)
#: A test, or where their names are no promise a file of tests.
REFERENCE = re.compile(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`")
#: Of these, a file is enough.
BY_FILE = "web/"


def rows() -> list[tuple[str, str]]:
    """What one saw, and what holds that one does not."""
    found = [(row["what"], row["held"]) for row in ROW.finditer((HERE / "README.md").read_text())]
    return [row for row in found if row[0] != "what one saw"]


def named_in(file: Path) -> set[str]:
    """The tests that pytest finds in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(("what", "held"), rows(), ids=[what[:60] for what, _ in rows()])
def test_what_is_named_exists(what: str, held: str) -> None:
    references = REFERENCE.findall(held)
    assert held == ", ".join(f"`{file}::{test}`" if test else f"`{file}`" for file, test in references) or (
        held.startswith("not here: ") and not references
    )
    for file, test in references:
        assert (TESTS / file).is_file(), f"there is no tests/{file}"
        if test:
            assert test in named_in(TESTS / file), f"tests/{file} has no {test}"
        else:
            assert file.startswith(BY_FILE), f"say which test of tests/{file}"


def test_all_named_in_this_folder_are_named() -> None:
    named = {reference for _, held in rows() for reference in REFERENCE.findall(held)}
    there = {
        (f"{HERE.name}/{file.name}", test)
        for file in HERE.glob("test_*.py")
        if file != Path(__file__)
        for test in named_in(file)
    }
    assert there - named == set()
    assert len(there) > 20, "they were not found"
