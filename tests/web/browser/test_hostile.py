"""Whatever users put in, and wherever: it is drawn as text, and as nothing else."""

from __future__ import annotations

import re
import time
from typing import Any

from playwright.sync_api import Page, expect

from saq import CronJob
from saq.web import paths
from tests.web.browser.conftest import Guard, Open
from tests.web.browser.stage import Stage

#: What they would do, if they could.
DEED = "window.__pwned=1"
TEXTS = (
    f'<img src=x onerror="{DEED}">',
    f"<script>{DEED}</script>",
    f'"><svg onload={DEED}>',
    f"'-{DEED}-'",
    f"javascript:{DEED}",
    f"</pre></title></textarea><iframe srcdoc='<script>parent.{DEED}</script>'>",
    f"{{{{constructor.constructor('{DEED}')()}}}}",
    f"${{{DEED}}}",
    f"<style onload={DEED}>*{{display:none}}</style>",
    f"<a href=javascript:{DEED} style=position:fixed;inset:0>x</a>",
    f"<math><mtext></table><mglyph><style><img src=x onerror={DEED}>",
    "&lt;b&gt;&amp;",
    "__proto__",
    "constructor",
    "toString",
    "\u202egnp.exe \u2066 \u200b",
    "line\nbreak\ttab",
    "😀" * 30,
    "..",
    "=",
)
#: What looks like something that the page itself is made of.
OBJECTS: tuple[dict[str, Any], ...] = (
    {"type": "img", "props": {"src": "x", "onerror": DEED}, "key": None, "ref": None, "constructor": None},
    {"__html": f"<img src=x onerror={DEED}>", "dangerouslySetInnerHTML": {"__html": "<b>"}},
    {"__proto__": {"polluted": True}, "constructor": {"prototype": {"polluted": True}}},
    {"$$typeof": "Symbol(react.element)", "toString": DEED, "valueOf": None, "then": DEED},
    {"nested": [[[[[[TEXTS[0]]]]]], {TEXTS[1]: {TEXTS[2]: None}}]},
)
#: All that the page is made of.
TAGS = frozenset(
    re.findall(
        r"\w+",
        """a b body button canvas code datalist dd div dl dt figcaption figure h1 h2 head header html i img
        input kbd label li link main meta nav noscript ol option p path polyline pre progress script section
        select span strong svg table tbody td th thead time title tr ul""",
    )
)


class Mischief(Exception):
    pass


async def returns(ctx: Any, **arguments: Any) -> Any:
    await ctx["job"].update(meta={TEXTS[0]: TEXTS, "object": OBJECTS[0]})
    return {"texts": TEXTS, "objects": OBJECTS}


async def raises(ctx: Any, *, text: str, **arguments: Any) -> Any:
    raise Mischief(text)


def innocent(page: Page) -> None:
    """Whether nothing but this page's own elements is on it."""
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate("({}).polluted") is None
    tags = set(page.evaluate("[...new Set([...document.querySelectorAll('*')].map(one => one.localName))]"))
    assert tags <= TAGS, tags - TAGS
    attributes = page.evaluate(
        """[...document.querySelectorAll("*")].flatMap(one => one.getAttributeNames())
            .filter(name => /^on|^srcdoc$|^formaction$/.test(name))"""
    )
    assert attributes == []
    addresses = page.evaluate(
        "[...document.querySelectorAll('[href], [src]')].map(one => one.href ?? one.src)"
    )
    root = "/".join(page.url.split("/")[:3])
    assert [one for one in addresses if not one.startswith(f"{root}/")] == []
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img').length") == 1


def test_text_stays_text(look: Open, guard: Guard, stage: Stage) -> None:
    stage.hold()
    queues = [stage.queue(text) for text in TEXTS]
    functions: dict[str, Any] = {text: raises if i % 2 else returns for i, text in enumerate(TEXTS)}
    queue = queues[0]
    stage.worker(
        queue,
        {**functions, "returns": returns},
        id=f"{TEXTS[0]}{TEXTS[1]}",
        metadata={TEXTS[2]: TEXTS[0], "object": OBJECTS[1]},
        cron_jobs=[CronJob(returns, cron="0 3 * * *", kwargs={"text": TEXTS[0], "object": OBJECTS[0]})],
    )
    jobs = [
        stage.enqueue(
            queue,
            text,
            key=text,
            kwargs={"text": text, "object": OBJECTS[i % len(OBJECTS)], text: text},
            meta={text: text},
        )
        for i, text in enumerate(TEXTS)
    ]
    stage.ended(queue, *jobs)
    for i, text in enumerate(TEXTS):
        stage.enqueue(queue, text, key=f"later {text}", text=text, scheduled=time.time() + 600 + i)
        stage.enqueue(queues[1], text, key=text, text=text, object=OBJECTS[i % len(OBJECTS)], group_key=text)
    held = stage.enqueue(queue, "hold", key=f"held {TEXTS[0]}", text=TEXTS[0], timeout=0)

    site = stage.serve(queues)
    page = look(site)
    shown = page.locator(".queues td.c-queue")
    expect(shown).to_have_count(len(TEXTS))
    expect(shown.first).to_contain_text(TEXTS[0])
    innocent(page)
    for state, number in (("finished", 10), ("failed", 10), ("scheduled", 20), ("active", 1)):
        page.goto(f"{site}{paths.join('queues', queue.name)}?state={state}")
        expect(page.locator(".jobs tbody tr")).to_have_count(number)
        innocent(page)
    page.goto(f"{site}{paths.join('queues', queues[1].name)}")
    expect(page.locator(".jobs tbody tr")).to_have_count(len(TEXTS))
    innocent(page)
    for text in TEXTS:
        page.goto(f"{site}{paths.join('queues', queue.name, 'jobs', text)}")
        expect(page.locator(".under code")).to_have_text(text, use_inner_text=False)
        expect(page.locator(".blocks pre").first).to_be_visible()
        innocent(page)
    page.goto(f"{site}{paths.join('queues', queue.name, 'jobs', held.key)}")
    expect(page.locator(".head .state")).to_have_text("active")
    innocent(page)
    for path, part in (
        ("failed", ".groups"),
        ("schedule", ".entries"),
        ("schedule", ".scheduled"),
        ("workers", ".worker"),
    ):
        page.goto(f"{site}{path}")
        expect(page.locator(part).first).to_be_visible()
        innocent(page)
    stage.let_go()


def test_addresses_do_nothing_by_themselves(look: Open, guard: Guard, stage: Stage) -> None:
    guard.allowed |= {"404", "422"}
    queue = stage.queue("addressed")
    site = stage.serve([queue])
    page = look(site)
    for text in TEXTS:
        encoded = paths.encode(text)
        for path in (
            f"queues/addressed?text={encoded}&function={encoded}&worker={encoded}&group={encoded}&status={encoded}",
            f"queues/addressed?state={encoded}&cursor={encoded}",
            f"failed?queue={encoded}",
            f"queues/addressed/jobs/{encoded}",
            f"queues/{encoded}",
        ):
            page.goto(f"{site}{path}#{encoded}")
            expect(page.locator("h1")).to_be_visible()
            innocent(page)
