"""Where settings come from, and what is said of those that are none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saq.errors import SettingsError
from saq.queue import Queue
from saq.settings import NAMES, import_settings
from saq.types import SettingsDict
from saq.worker import import_settings as import_settings_of_the_worker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules of a test's own."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_dict_and_a_callable_that_returns_one_are_settings(folder: Path) -> None:
    (folder / "conf.py").write_text(
        "settings = {'functions': [print], 'concurrency': 3}\ndef make(): return settings\n"
    )
    assert import_settings("conf.settings")["concurrency"] == 3
    assert import_settings("conf.make")["concurrency"] == 3
    assert import_settings_of_the_worker("conf.make")["concurrency"] == 3


def test_settings_may_lie_in_a_package(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("")
    (folder / "app" / "conf.py").write_text("settings = {'functions': []}\n")
    assert import_settings("app.conf.settings")["functions"] == []


def test_the_queue_is_by_default_the_redis_of_this_machine(folder: Path) -> None:
    (folder / "conf.py").write_text("settings = {'functions': []}\n")
    queue = import_settings("conf.settings")["queue"]
    assert isinstance(queue, Queue)
    assert repr(queue) == "RedisQueue<redis://localhost:6379/0, name: 'default'>"


def test_every_setting_of_the_documented_type_is_a_parameter_of_the_worker() -> None:
    assert set(NAMES) == set(SettingsDict.__annotations__)


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "conf", "'conf' is no settings path"),
        ("", "konf.settings", "cannot import 'konf'.*No module named 'konf'; looked in"),
        ("import konf", "conf.settings", "cannot import 'conf'.*No module named 'konf'$"),
        ("settings = ", "conf.settings", "cannot import 'conf'.*SyntaxError"),
        ("1 / 0", "conf.settings", "cannot import 'conf'.*ZeroDivisionError"),
        ("Settings = {}", "conf.settings", "has no 'settings'; did you mean 'Settings'"),
        ("settings = [1]", "conf.settings", "must be a dict of settings.* not list"),
        ("def settings(): return 3", "conf.settings", "must be a dict of settings.* not int"),
        ("def settings(x): return {}", "conf.settings", "raised TypeError"),
        ("settings = {}", "conf.settings", "has no 'functions'"),
        ("settings = {'functions': [], 'timer': {}}", "conf.settings", "unknown setting 'timer'.*'timers'"),
        ("settings = {'functions': [], 3: {}}", "conf.settings", "unknown setting 3"),
    ],
)
def test_what_is_wrong_with_settings_is_said(text: str, path: str, says: str, folder: Path) -> None:
    (folder / "conf.py").write_text(text + "\n")
    with pytest.raises(SettingsError, match=says) as caught:
        import_settings(path)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
