"""Code of others that lies in this tree: what, in which version, under which licence, and how it is renewed.

    python -m tests.web.browser.vendored                      verifies the hashes
    python -m tests.web.browser.vendored renew                fetches the recorded versions again
    python -m tests.web.browser.vendored renew preact@11.2.0  changes a version

Owns the two `vendor` folders; each has a `vendor.json` that says what lies in it. Must not be needed by a
user, nor change a file beyond what stands below: the page needs no build. Renewing needs npm.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "saq/web/static/vendor"
TESTS = ROOT / "tests/web/browser/vendor"
FOLDERS = (PAGE, TESTS)
RECORD = "vendor.json"

#: Which file of a package lies here under which name.
FILES: dict[Path, dict[str, dict[str, str]]] = {
    PAGE: {
        "preact": {
            "preact.mjs": "dist/preact.mjs",
            "hooks.mjs": "hooks/dist/hooks.mjs",
            "LICENSE-preact.txt": "LICENSE",
        },
        "htm": {"htm.mjs": "dist/htm.mjs", "LICENSE-htm.txt": "LICENSE"},
        "uplot": {
            "uplot.mjs": "dist/uPlot.iife.min.js",
            "uplot.css": "dist/uPlot.min.css",
            "LICENSE-uplot.txt": "LICENSE",
        },
    },
    TESTS: {"axe-core": {"axe.min.js": "axe.min.js", "LICENSE-axe-core.txt": "LICENSE"}},
}

#: All that is changed: imports become addresses (there is no import map without an inline script), a script
#: becomes a module, and no map is asked for that is not there.
EDITS = {
    "preact.mjs": (("\n//# sourceMappingURL=preact.mjs.map", ""),),
    "hooks.mjs": (('from"preact"', 'from"./preact.mjs"'), ("\n//# sourceMappingURL=hooks.mjs.map", "")),
    "uplot.mjs": (("}return en}();", "}return en}();\nexport default uPlot;"),),
}


def record(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / RECORD).read_text())
    assert isinstance(found, dict)
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def problems() -> Iterator[str]:
    """What is not as it was recorded."""
    for folder in FOLDERS:
        recorded = {
            name: digest for package in record(folder).values() for name, digest in package["sha256"].items()
        }
        here = {path.name for path in folder.iterdir()} - {RECORD}
        yield from (f"{name} is in {folder}, but not recorded" for name in sorted(here - recorded.keys()))
        for name, digest in recorded.items():
            if name not in here:
                yield f"{name} is recorded, but not in {folder}"
            elif sha256((folder / name).read_bytes()) != digest:
                yield f"{name} in {folder} is not the file that was recorded"
        missing = {name for files in FILES[folder].values() for name in files} - recorded.keys()
        yield from (f"{name} is not recorded in {folder}: renew it" for name in sorted(missing))


def renew(folder: Path, wanted: dict[str, str]) -> None:
    """Fetches every package of a folder, in the version wanted, recorded, or latest."""
    known = record(folder) if (folder / RECORD).exists() else {}
    renewed = {}
    for package, files in FILES[folder].items():
        old = known.get(package, {})
        version = wanted.get(package) or old.get("version") or "latest"
        about, archive = fetch(package, version)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        if about["version"] == old.get("version") and integrity != old["integrity"]:
            raise SystemExit(f"{package} {version} is not the package that was recorded: find out why")
        digests = {}
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for name, source in files.items():
                member = tar.extractfile(f"package/{source}")
                assert member is not None, source
                data = edited(name, member.read())
                (folder / name).write_bytes(data)
                digests[name] = sha256(data)
        renewed[package] = {
            "version": about["version"],
            "licence": about["license"],
            "integrity": integrity,
            "sha256": digests,
        }
        print(f"{package} {about['version']}")
    (folder / RECORD).write_text(json.dumps(renewed, indent=2) + "\n")


def fetch(package: str, version: str) -> tuple[dict[str, Any], bytes]:
    """A package from the registry that npm is set up for: what it says of itself, and its archive."""
    with tempfile.TemporaryDirectory() as place:
        command = ["npm", "pack", "--json", "--pack-destination", place, f"{package}@{version}"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        archive = next(Path(place).glob("*.tgz")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("package/package.json")
        assert member is not None
        return json.load(member), archive


def edited(name: str, data: bytes) -> bytes:
    text = data.decode()
    for old, new in EDITS.get(name, ()):
        if old not in text:
            raise SystemExit(f"{name} has changed: {old!r} is not in it. Look at it, and at EDITS.")
        text = text.replace(old, new)
    return text.encode()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["renew"]:
        pairs = (argument.rpartition("@") for argument in arguments[1:])
        wanted = {package: version for package, _, version in pairs}
        for folder in FOLDERS:
            renew(folder, wanted)
    found = list(problems())
    print("\n".join(found) or "All files are as recorded.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
