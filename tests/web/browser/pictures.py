"""Takes the pictures of the documentation: `python -m tests.web.browser.pictures` (it takes six minutes).

Owns what is to be seen on them: the jobs of a shop, run by real workers for five minutes, so that the charts
are full.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname
from typing import Any

from playwright.sync_api import Page, Route, ViewportSize, expect, sync_playwright

from saq import CronJob, Queue
from saq.web import paths
from tests.conftest import SERVER_KIND
from tests.servers import Server
from tests.web.browser.conftest import find_chromium
from tests.web.browser.stage import FUNCTIONS, Stage

ROOT = Path(__file__).resolve().parents[3]
PLACE = ROOT / "docs/web"
SECONDS = 300.0
#: Colours that are no farther apart than this, squared, are one.
ALIKE = 30
SIZE: ViewportSize = {"width": 1280, "height": 800}
#: System fonts differ; on these pictures text has one that most have seen.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<match><test name="family"><string>system-ui</string></test>
<edit name="family" mode="assign" binding="strong"><string>Liberation Sans</string></edit></match>
</fontconfig>"""


async def timed(seconds: float, name: str, ctx: Any, **arguments: Any) -> Any:
    await asyncio.sleep(random.lognormvariate(math.log(seconds), 0.6))
    return await FUNCTIONS[name](ctx, **arguments) if name in FUNCTIONS else "paid"


def slow(seconds: float, name: str) -> Any:
    async def function(ctx: Any, **arguments: Any) -> Any:
        return await timed(seconds, name, ctx, **arguments)

    return function


async def charge_card(ctx: Any, *, amount: str, card: str) -> Any:
    """One in six is declined."""
    return await timed(0.3, "charge_card" if card < "1667" else "pay", ctx, amount=amount, card=card)


SHOP = {
    "send_email": slow(0.06, "send_email"),
    "resize_image": slow(0.18, "resize_image"),
    "charge_card": charge_card,
    "sync_account": slow(0.1, "sync_account"),
    "fetch_prices": slow(0.4, "fetch_prices"),
}


#: A worker knows the function of a cron entry from there.
CRON = [
    CronJob(FUNCTIONS["build_report"], cron="0 3 * * *", kwargs={"month": "last"}),
    CronJob(FUNCTIONS["clean_up"], cron="30 2 1 * *"),
    CronJob(FUNCTIONS["clean_up"], cron="*/15 8-18 * * 1-5"),
]


def load(second: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What comes in within a second: (queue, function, arguments)."""
    wave = 1 + 0.6 * math.sin(second / 23) + 0.25 * math.sin(second / 7)
    for _ in range(round(14 * wave)):
        yield "default", "send_email", {"to": f"customer{random.randrange(10**4)}@example.org"}
    for _ in range(round(9 * wave)):
        yield "images", "resize_image", {"path": f"/uploads/{random.randrange(10**6):06}.jpg", "width": 1200}
    if random.random() < 0.5:
        yield "payments", "charge_card", {"amount": "49.90", "card": f"{random.randrange(10**4):04}"}
    if random.random() < 0.2:
        yield "default", "sync_account", {"account": random.randrange(10**4)}
    if random.random() < 0.25:
        yield "default", "fetch_prices", {"url": f"https://prices{random.randrange(9)}.example.org"}


async def work(queues: dict[str, Queue], seconds: float) -> None:
    began = time.monotonic()
    for second in range(int(seconds)):
        for queue, function, arguments in load(second):
            retries = 3 if function == "fetch_prices" else 1
            await queues[queue].enqueue(function, kwargs=arguments, retries=retries, retry_delay=2.0)
        await asyncio.sleep(max(0.0, began + second + 1 - time.monotonic()))


def fill(stage: Stage) -> dict[str, Queue]:
    """Workers, and what is there before anything happens."""
    random.seed(4)
    stage.hold()
    queues = {name: stage.queue(name) for name in ("default", "images", "payments", "reports")}
    stage.worker(queues["default"], SHOP, concurrency=10, cron_jobs=CRON, metadata={"zone": "eu-1a"})
    stage.worker(queues["default"], SHOP, concurrency=10, cron_jobs=CRON, metadata={"zone": "eu-1b"})
    stage.worker(queues["images"], SHOP, concurrency=6, metadata={"zone": "eu-1a", "gpu": True})
    stage.worker(queues["payments"], SHOP, concurrency=4)
    for i in range(3):
        stage.enqueue(
            queues["images"], "hold", progress=0.21 + 0.3 * i, key=f"catalogue-2024-{i + 1:02}", timeout=0
        )
    for i in range(24):
        due = time.time() + SECONDS + 90 + 411 * i
        to = f"customer{random.randrange(10**4)}@example.org"
        stage.enqueue(queues["default"], "send_email", to=to, template="reminder", scheduled=due)
    for i in range(40):
        stage.enqueue(queues["reports"], "build_report", month=f"20{10 + i // 4}-{1 + i % 4 * 3:02}")
    stage.run(queues["reports"].pause())
    return queues


def palette(png: bytes) -> bytes:
    """The same picture in 256 colours, the most frequent of those that differ: less than half the size."""
    width, height, pixels = decoded(png)
    counts = Counter(struct.iter_unpack("3s", pixels))
    colours: list[bytes] = []
    for (colour,), _ in counts.most_common():
        if all(sum((x - y) ** 2 for x, y in zip(colour, one, strict=True)) > ALIKE for one in colours):
            colours.append(colour)
        if len(colours) == 256:
            break
    exact = {colour: i for i, colour in enumerate(colours)}

    def nearest(colour: bytes) -> int:
        found = exact.get(colour)
        if found is None:
            r, g, b = colour
            distances = ((r - c[0]) ** 2 + (g - c[1]) ** 2 + (b - c[2]) ** 2 for c in colours)
            found = min(zip(distances, range(256), strict=False))[1]
            exact[colour] = found
        return found

    indices = bytes(nearest(colour) for (colour,) in struct.iter_unpack("3s", pixels))
    rows = b"".join(b"\0" + indices[y * width : (y + 1) * width] for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(colours)),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )


def decoded(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a PNG of 8 bits of red, green and blue, as Chromium writes it."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) == (8, 2), "not the kind of PNG that is known here"
    packed, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + size]
        at += 12 + size
    raw, stride = zlib.decompress(packed), width * 3
    rows, above = [], bytearray(stride)
    for y in range(height):
        how = raw[y * (stride + 1)]
        row = bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            left, corner = (row[x - 3], above[x - 3]) if x >= 3 else (0, 0)
            row[x] = (row[x] + predicted(how, left, above[x], corner)) & 255
        rows.append(row)
        above = row
    return width, height, b"".join(rows)


def predicted(how: int, left: int, above: int, corner: int) -> int:
    """What a filter of PNG expects a byte to be."""
    if how < 4:
        return (0, left, above, (left + above) // 2)[how]
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def shoot(page: Page, site: str) -> Iterator[tuple[str, bytes]]:
    """Name and picture of each page."""
    default = f"{site}{paths.join('queues', 'default')}"

    def picture() -> bytes:
        expect(page.locator(".waiting")).to_have_count(0)
        expect(page.locator(".live")).to_have_text("Live")
        page.mouse.move(0, 0)
        return page.screenshot()

    page.goto(site)
    expect(page.locator(".chart .canvas canvas")).to_have_count(4)
    yield "overview", picture()
    page.goto(f"{default}?state=failed")
    yield "queue", picture()
    page.locator(".jobs tbody tr", has_text="fetch_prices").locator("a").first.click()
    expect(page.locator(".timeline li")).to_have_count(3)
    yield "job", picture()
    for name in ("failed", "schedule", "workers"):
        page.goto(f"{site}{name}")
        yield name, picture()


def elsewhere(route: Route) -> None:
    """Whatever machine this is: on the pictures it has a name that means nothing."""
    response = route.fetch()
    text = response.text().replace(str(ROOT), "/srv/shop").replace(f'"{gethostname()}"', '"shop-1"')
    route.fulfill(response=response, body=text)


def main() -> int:
    PLACE.mkdir(parents=True, exist_ok=True)
    logging.getLogger("saq").setLevel(logging.CRITICAL)  # jobs fail on purpose here
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(SERVER_KIND) as server,
        sync_playwright() as playwright,
    ):
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS)
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"], env={"FONTCONFIG_FILE": str(fonts)}
        )
        stage = Stage(server)
        queues = fill(stage)
        site = stage.serve(queues.values())
        contexts = {
            theme: browser.new_context(viewport=SIZE, color_scheme=theme) for theme in ("light", "dark")
        }
        for context in contexts.values():
            context.route(re.compile(r"/api/(?!events)"), elsewhere)
        # Somebody has to watch for samples to be taken.
        pages = {theme: context.new_page() for theme, context in contexts.items()}
        for page in pages.values():
            page.goto(site)
        working = stage.begin(work(queues, 2 * SECONDS))
        pages["light"].wait_for_timeout(SECONDS * 1000)
        for theme, page in pages.items():
            for name, png in shoot(page, site):
                small = palette(png)
                (PLACE / f"{name}-{theme}.png").write_bytes(small)
                print(f"{name}-{theme}.png {len(small) // 1024} kB")
        working.cancel()
        browser.close()
        stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
