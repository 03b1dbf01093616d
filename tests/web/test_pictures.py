"""The pictures of the documentation: each is there in light and dark, is shown, and all of them are small."""

from __future__ import annotations

import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "docs/web"
PAGES = ("overview", "queue", "job", "failed", "schedule", "workers")


def test_every_page_is_there_in_light_and_dark() -> None:
    wanted = {f"{page}-{theme}.png" for page in PAGES for theme in ("light", "dark")}
    assert {path.name for path in PLACE.iterdir()} == wanted
    shown = (ROOT / "docs/web.md").read_text()
    assert set(re.findall(r'"web/([\w-]+\.png)"', shown)) == wanted
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r'"docs/web/([\w-]+\.png)"', readme)) == {"overview-light.png", "overview-dark.png"}


def test_they_are_small() -> None:
    files = list(PLACE.iterdir())
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        kind, width, height = struct.unpack(">12x4sII", path.read_bytes()[:24])
        assert kind == b"IHDR"
        assert (width, height) == (1280, 800), path.name
