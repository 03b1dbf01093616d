"""Job keys and queue names with any characters, and queues that do not see each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from saq.errors import UsageError
from saq.job import Job, Status
from saq.queue.base import Queue
from tests.conformance.helpers import QueueFactory, all_keys, claim, claim_keys, counts, enqueue, listening

#: What means something to a store, to a script or to a protocol.
SPECIAL = "{}[]*?:;%\\^-\n\r\0 \t'\"/+~|<>ü\u2028\ud800\udfff\U0001f600"
text = st.text(
    st.sampled_from(SPECIAL) | st.characters(codec=None, exclude_categories=()), max_size=12
)  # surrogates included
with_queues = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
AWKWARD = ["", "k", "K", "A", ":", "a:b", "1:k", "{a}", "}{", "*", "k*", "[k]", "\\", "%41", "\0", "k\0", " "]
AWKWARD += [
    "\n",
    "ü",
    "u\u0308",
    "\ud83d\ude00",
    "\U0001f600",
    "\ud800",
    "\udfff",
    "job:k",
    "jobs",
    "x" * 5_000,
]


async def life_of(key: str, queue: Queue, other: Queue) -> None:
    """Takes a job through everything that names it."""
    sent = await queue.enqueue("f", key=key, n=1)
    assert sent is not None
    assert await other.enqueue("f", key=key) is None
    found = await other.job(key)
    assert found is not None
    assert (found.key, found.kwargs) == (key, {"n": 1})
    assert await all_keys(other) == [key]
    job = await claim(other)
    assert job.key == key
    await job.update(progress=0.5)
    await sent.refresh()
    assert (sent.status, sent.progress) == (Status.ACTIVE, 0.5)
    assert (await queue.info(jobs=True))["jobs"][0]["key"] == key
    await job.finish(Status.COMPLETE, result=key)
    await sent.refresh(0)
    assert sent.key == key
    assert sent.result == json.loads(json.dumps(key)), "JSON makes one character of a pair of surrogates"
    assert await all_keys(other, [Status.COMPLETE]) == [key]
    assert await queue.requeue(key)
    again = await queue.job(key)
    assert again is not None
    assert await queue.abort(again, "stop")
    assert await queue.delete(key)
    assert await other.job(key) is None
    assert await all_keys(queue) == []


@pytest.mark.parametrize("key", AWKWARD, ids=lambda key: ascii(key)[:20])
async def test_a_key_may_have_any_characters(key: str, queue: Queue, other: Queue):
    await life_of(key, queue, other)


@pytest.mark.parametrize("name", AWKWARD, ids=lambda name: ascii(name)[:20])
async def test_a_queue_name_may_have_any_characters(name: str, queue_factory: QueueFactory):
    queue, other = queue_factory(name), queue_factory(name)
    assert queue.name == name
    assert (await queue.info())["name"] == name
    await life_of("k:{}*", queue, other)


@with_queues
@given(text, text)
@example("\ud83d\ude00", "\U0001f600")
async def test_any_key_in_any_queue_lives_its_life(queue_factory: QueueFactory, name: str, key: str):
    queue, other = queue_factory(name), queue_factory(name)
    await life_of(key, queue, other)
    await queue.disconnect()
    await other.disconnect()


names_and_keys = st.tuples(st.text(":%{}a*b1\ud800", max_size=6), st.text(":%{}a*b1\ud800", max_size=6))


@settings(deadline=None)
@given(names_and_keys, names_and_keys)
@example(("a", "b:x"), ("a:b", "x"))
@example(("a", "b}:job:x"), ("a}:job:b", "x"))
@example(("default", "job:x"), ("job:default", "x"))
@example(("%3A", "x"), (":", "x"))
def test_no_two_queues_and_keys_share_an_id(one: tuple[str, str], two: tuple[str, str]):
    assume(one != two)

    def job_id(name: str, key: str) -> str:
        return Queue.from_url("redis://localhost", name=name).job_id(key)

    assert job_id(*one) != job_id(*two)


PAIRS = [
    ("a", "a:b"),
    ("default", "job:default"),
    ("a", "A"),
    ("a", "a "),
    ("", "*"),
    ("a", "a*"),
    ("a", "{a}"),
    ("a}", "{a"),
    ("a%3Ab", "a:b"),
    ("\ud83d\ude00", "\U0001f600"),
    ("ab", "abc"),
]


@pytest.mark.parametrize("names", PAIRS, ids=ascii)
async def test_queues_do_not_see_each_other(names: tuple[str, str], queue_factory: QueueFactory):
    one, two = (queue_factory(name) for name in names)
    keys = ["k", "b:k", ":k", "job:k", "*"]
    await enqueue(one, *keys)
    await one.enqueue("f", key="later", scheduled=4e9)
    await one.finish(await claim(one), Status.COMPLETE, result="one")
    assert await counts(two) == {}
    assert await two.jobs([*keys, "later"]) == [None] * 6
    assert await all_keys(two) == []
    assert await claim_keys(two) == []
    assert not await two.delete("later")
    assert not await two.abort(Job("f", key="b:k", queue=two), "no")
    assert (await two.info(jobs=True))["jobs"] == []

    async with listening(two, *keys) as heard:
        assert await two.enqueue("f", key="k") is not None, "taken in the one, a key is free in the other"
        await one.pause()
        assert await claim_keys(two) == ["k"], "a pause of the one is none of the other"
        await one.resume()
        assert await claim_keys(one, 1) == ["b:k"]
        assert [(await heard.get())[1] for _ in range(2)] == [Status.QUEUED, Status.ACTIVE]
        await two.count("queued")
        assert heard.empty(), "what happens in the one is not heard in the other"
    job = await one.job("k")
    assert job is not None
    assert job.result == "one"


@pytest.mark.parametrize("key", [b"bytes", 1, ("k",), 0.5], ids=repr)
async def test_a_key_that_is_no_text_is_refused(key: object, queue: Queue):
    with pytest.raises(UsageError, match="key"):
        await queue.enqueue("f", key=key)
