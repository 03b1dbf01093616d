"""Whose turn it is: how the queues of a worker share its slots, reckoned without any server."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saq import Job
from saq.worker.slots import Part, Slots


class Line:
    """A queue with so many jobs, and its part in the slots."""

    def __init__(
        self, slots: Slots, jobs: int, weight: float | None = None, limit: int | None = None
    ) -> None:
        self.jobs = jobs
        self.running: list[Job] = []
        self.refused = 0
        self.part: Part = slots.part(
            lambda job: None,
            weight=weight,
            limit=limit,
            wants=lambda: self.jobs > 0,
        )
        self.part.run = self.running.append

    def claim(self, most: int = 100) -> int:
        """Claims what it may, as a fetcher does: promised first, then taken, the rest given back."""
        wanted = max(0, min(self.part.room(), most))
        self.part.promise(wanted)
        got = min(wanted, self.jobs)
        self.jobs -= got
        self.part.promise(got - wanted)
        for _ in range(got):
            job = Job("f")
            job._member = b"1:f"  # type: ignore[misc]
            self.part.take(job)
        return got

    def end(self, jobs: int = 1) -> None:
        for _ in range(jobs):
            self.running.pop(0)
            self.part.freed()


MANY = 1_000_000


def test_in_order_a_queue_gets_what_the_ones_before_it_leave() -> None:
    slots = Slots(10)
    high, low = Line(slots, 25), Line(slots, MANY)
    assert low.claim() == 0, "the first one has not said that it is empty"
    assert high.claim() == 10
    high.end(10)
    assert (low.claim(), high.claim()) == (0, 10)
    high.end(10)
    assert (high.claim(), low.claim()) == (5, 5)
    high.jobs = 3
    low.end(2)
    assert (low.claim(), high.claim()) == (0, 2)


def test_in_order_a_queue_at_its_limit_holds_up_nobody() -> None:
    slots = Slots(10)
    high, low = Line(slots, MANY, limit=3), Line(slots, MANY)
    assert low.claim() == 7, "all but what the first one may take"
    assert high.claim() == 3
    high.end()
    assert (low.claim(), high.claim()) == (0, 1)


@pytest.mark.parametrize("count", [1, 2, 7, 50])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (1.0, 10.0), (0.5, 0.2, 0.3), (1e-9, 2e-9)])
def test_by_weight_each_gets_its_share_while_all_have_work(count: int, weights: tuple[float, ...]) -> None:
    slots = Slots(count)
    lines = [Line(slots, MANY, weight) for weight in weights]
    claimed: Counter[int] = Counter()
    for turn in range(4_000):
        for position, line in enumerate(lines):
            claimed[position] += line.claim(most=turn % 5 + 1)
        for line in lines:
            line.end(len(line.running))
    total = sum(claimed.values())
    assert total >= 4_000
    for position, weight in enumerate(weights):
        assert claimed[position] / total == pytest.approx(weight / sum(weights), abs=0.02)


def test_by_weight_with_one_slot_the_turns_alternate() -> None:
    slots = Slots(1)
    lines = [Line(slots, MANY, 3), Line(slots, MANY, 1)]
    order = ""
    for _ in range(16):
        for name, line in zip("ab", lines, strict=True):
            if line.claim():
                order += name
                line.end()
    # No four of the one in a row, and never two of the other.
    assert len(order) >= 16
    assert "aaaa" not in order
    assert "bb" not in order


def test_a_queue_that_had_no_work_has_saved_nothing_up() -> None:
    slots = Slots(1)
    busy, late = Line(slots, MANY, 1), Line(slots, 0, 1)
    for _ in range(1_000):
        assert busy.claim() == 1, "what nobody else wants is for who has work"
        busy.end()
    late.jobs = MANY
    claimed = Counter[str]()
    for _ in range(20):
        for name, line in (("busy", busy), ("late", late)):
            if line.claim():
                claimed[name] += 1
                line.end()
    assert abs(claimed["busy"] - claimed["late"]) <= 2, claimed


def test_a_queue_kept_from_its_share_by_its_limit_takes_each_slot_that_it_may() -> None:
    slots = Slots(10)
    few, many = Line(slots, MANY, 1, limit=2), Line(slots, MANY, 1)
    for _ in range(50):
        few.claim()
        many.claim()
        assert (len(few.running), len(many.running)) == (2, 8)
        few.end()
        many.end()


def test_a_job_without_a_promise_takes_a_slot_only_when_it_is_its_turn() -> None:
    slots = Slots(2)
    high, low = Line(slots, 0), Line(slots, 0)
    job = Job("f")
    assert low.part.admit(job)
    high.jobs = 5
    assert not low.part.admit(job), "the first one wants the last slot"
    assert high.part.admit(job)
    assert not high.part.admit(job), "full"


def test_a_limit_in_all_holds_for_all_together() -> None:
    slots = Slots(10, limit=4)
    one, other = Line(slots, MANY, 1), Line(slots, MANY, 1)
    assert one.claim() + other.claim() == 4
    one.end(len(one.running))
    assert (one.claim(), other.claim(), slots.left) == (0, 0, 0)


Move = st.tuples(st.integers(0, 3), st.sampled_from(["claim", "end", "more", "admit"]), st.integers(1, 20))


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(1, 20),
    shares=st.lists(
        st.tuples(st.floats(1e-3, 1e3), st.one_of(st.none(), st.integers(1, 5))), min_size=2, max_size=4
    ),
    weighted=st.booleans(),
    moves=st.lists(Move, max_size=60),
)
def test_nobody_waits_for_ever_and_no_bound_is_passed(
    count: int,
    shares: list[tuple[float, int | None]],
    weighted: bool,
    moves: list[tuple[int, str, int]],
) -> None:
    slots = Slots(count)
    lines = [Line(slots, 5, weight if weighted else None, limit) for weight, limit in shares]
    for position, what, number in moves:
        line = lines[position % len(lines)]
        if what == "claim":
            line.claim(number)
        elif what == "end":
            line.end(min(number, len(line.running)))
        elif what == "more":
            line.jobs += number
        elif line.part.admit(Job("f")):
            pass
        running = sum(len(line.running) for line in lines)
        assert running <= count
        assert slots._free == count - running
        for line in lines:
            assert line.part.used == len(line.running)
            assert line.part.limit is None or len(line.running) <= line.part.limit
        wanting = [line for line in lines if line.part.wants()]
        if wanting and running < count:
            assert any(line.part.room() > 0 for line in wanting), "free slots, and nobody may have them"
            # All that is free is for somebody, and for one at a time.
            room = sum(max(0, line.part.room()) for line in wanting)
            free = count - running
            bound = sum(
                free if line.part.limit is None else min(free, line.part.limit - line.part.used)
                for line in wanting
            )
            assert room <= free or not weighted
            assert min(free, bound) <= room or weighted
