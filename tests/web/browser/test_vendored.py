"""What others wrote lies here as it was recorded, with its licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.browser import vendored


def test_the_files_are_those_that_were_recorded() -> None:
    assert list(vendored.problems()) == []


@pytest.mark.parametrize("folder", vendored.FOLDERS, ids=lambda folder: folder.parts[-3])
def test_each_package_has_its_licence(folder: Path) -> None:
    for package, about in vendored.record(folder).items():
        assert about["version"]
        assert about["licence"] in ("MIT", "Apache-2.0", "MPL-2.0")
        assert f"LICENSE-{package}.txt" in about["sha256"]


def test_a_changed_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vendor"
    folder.mkdir()
    for path in vendored.PAGE.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(vendored, "FOLDERS", (folder,))
    monkeypatch.setitem(vendored.FILES, folder, vendored.FILES[vendored.PAGE])
    assert list(vendored.problems()) == []
    (folder / "htm.mjs").write_text("export default 1")
    (folder / "more.js").write_text("")
    assert list(vendored.problems()) == [
        f"more.js is in {folder}, but not recorded",
        f"htm.mjs in {folder} is not the file that was recorded",
    ]


def test_nothing_is_imported_by_a_bare_name() -> None:
    for path in vendored.PAGE.glob("*.mjs"):
        text = path.read_text()
        assert 'from"preact"' not in text
        assert "sourceMappingURL" not in text
