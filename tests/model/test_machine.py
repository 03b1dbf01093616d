"""Long random sequences of transitions, compared with the model after each one.

SAQ_MODEL_EXAMPLES and SAQ_MODEL_STEPS make a long run of it, with other sequences each time:

    SAQ_MODEL_EXAMPLES=2000 SAQ_MODEL_STEPS=100 pytest tests/model
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.conftest import SERVER_KIND
from tests.model.reference import Settlement
from tests.model.world import World
from tests.servers import Server

LONG = "SAQ_MODEL_EXAMPLES" in os.environ
SETTINGS = settings(
    max_examples=int(os.environ.get("SAQ_MODEL_EXAMPLES", "100")),
    stateful_step_count=int(os.environ.get("SAQ_MODEL_STEPS", "40")),
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
)

FAR, PAST = "4000000000", "1000"
KEYS = (b"a", b"b", b"c", b"d:1", "\N{SNOWMAN}".encode())
WORKERS = ("w1", "w2", "w3")
GUESTS = ("g1", "g2")

keys = st.sampled_from(KEYS)
workers = st.sampled_from(WORKERS)
guests = st.sampled_from(GUESTS)
#: What a client sends: a default takes no room.
headers = st.fixed_dictionaries(
    {},
    optional={
        "p": st.sampled_from(["-32768", "-1", "7", "32767"]),
        "r": st.sampled_from(["0", "2", "3"]),
        "t": st.sampled_from(["-1", "0", "60", "0.5", "2592000"]),
        "T": st.sampled_from(["0", "5", "2.5"]),
        "s": st.sampled_from([FAR, "4000000001", PAST]),
    },
)
changes = st.fixed_dictionaries(
    {}, optional={"t": st.sampled_from(["0", "300"]), "r": st.just("5"), "T": st.just("60")}
)
texts = st.sampled_from([b"", b"why", b"no;S\nyes\0" * 3])
patches = st.dictionaries(st.sampled_from([b"meta", b"progress"]), st.sampled_from([b"0.5", b'{"a":1}']))
outcomes = st.sampled_from([b"", b"1", b'"' + b"x" * 300 + b'"'])
picks = st.integers(0, 1_000_000)
functions = st.sampled_from([b"f", b"g"])


@dataclass
class Action:
    """What may happen next: how often, when it can, with what, and how."""

    name: str
    weight: int
    when: Callable[[World], Any]
    strategies: dict[str, st.SearchStrategy[Any]]
    do: Callable[..., None]


ACTIONS: list[Action] = []
Do = TypeVar("Do", bound=Callable[..., None])


def action(
    weight: int, when: Callable[[World], Any] = lambda world: True, **strategies: st.SearchStrategy[Any]
) -> Callable[[Do], Do]:
    """An action of the machine. Rules of Hypothesis have no weights: few of them would ever settle a job."""

    def add(do: Do) -> Do:
        ACTIONS.append(Action(do.__name__, weight, when, strategies, do))
        return do

    return add


class Transitions(RuleBasedStateMachine):
    """Everything that clients, workers, networks and time may do to a queue."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()

    @initialize(items=st.lists(st.tuples(keys, headers), max_size=4), want=st.integers(0, 2))
    def begin(self, items: list[tuple[bytes, dict[str, str]]], want: int) -> None:
        if items:
            self.world.enqueue("g1", items)
            self.world.step("w1", want)

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        possible = [action for action in ACTIONS if action.when(self.world)]
        names = [action.name for action in possible for _ in range(action.weight)]
        name = data.draw(st.sampled_from(names))
        chosen = next(action for action in possible if action.name == name)
        drawn = {label: data.draw(strategy, label) for label, strategy in chosen.strategies.items()}
        chosen.do(self, data, **drawn)

    # -- clients -----------------------------------------------------------------------------------------

    @action(6, client=guests, key=keys, header=headers, wait=st.booleans())
    def enqueue(
        self, data: st.DataObject, client: str, key: bytes, header: dict[str, str], wait: bool
    ) -> None:
        self.world.enqueue(client, [(key, header)], [wait])

    @action(1, client=guests, items=st.lists(st.tuples(keys, headers), min_size=2, max_size=6))
    def enqueue_many(
        self, data: st.DataObject, client: str, items: list[tuple[bytes, dict[str, str]]]
    ) -> None:
        self.world.enqueue(client, items)

    @action(1, client=guests, some=st.lists(keys, min_size=1, max_size=3, unique=True), wait=st.booleans())
    def read(self, data: st.DataObject, client: str, some: list[bytes], wait: bool) -> None:
        self.world.read(client if wait else "", some)

    @action(1, client=guests, some=st.lists(keys, min_size=1, max_size=3, unique=True), on=st.booleans())
    def watch(self, data: st.DataObject, client: str, some: list[bytes], on: bool) -> None:
        self.world.watch(client, some, on)

    @action(
        1,
        client=guests,
        key=keys,
        status=st.sampled_from(["complete", "failed", "aborted"]),
        outcome=outcomes,
        error=st.none() | texts,
    )
    def guest_finish(
        self, data: st.DataObject, client: str, key: bytes, status: str, outcome: bytes, error: bytes | None
    ) -> None:
        self.world.guest_finish(client, key, status, outcome, error)

    @action(3, client=guests, key=keys, why=texts)
    def abort(self, data: st.DataObject, client: str, key: bytes, why: bytes) -> None:
        self.world.abort(client, key, why)

    @action(1, client=guests, key=keys)
    def delete(self, data: st.DataObject, client: str, key: bytes) -> None:
        self.world.delete(client, key)

    @action(2, client=guests, key=keys, now=st.booleans())
    def revive(self, data: st.DataObject, client: str, key: bytes, now: bool) -> None:
        self.world.revive(client, key, now)

    @action(1, client=guests, key=keys, header=changes, patch=patches)
    def update(
        self, data: st.DataObject, client: str, key: bytes, header: dict[str, str], patch: dict[bytes, bytes]
    ) -> None:
        self.world.update(client, key, b"", header, patch)

    @action(1, on=st.booleans())
    def pause(self, data: st.DataObject, on: bool) -> None:
        self.world.pause(on)

    # -- workers -----------------------------------------------------------------------------------------

    @action(10, worker=workers, want=st.integers(1, 4), suspect_allowed=st.booleans())
    def claim(self, data: st.DataObject, worker: str, want: int, suspect_allowed: bool) -> None:
        self.world.step(worker, want, suspect_allowed=suspect_allowed)

    @action(1, worker=workers)
    def wake(self, data: st.DataObject, worker: str) -> None:
        self.world.take_marker(worker)

    def _settlement(self, data: st.DataObject, member: bytes) -> Settlement:
        known = self.world.claims[member]
        kind = data.draw(st.sampled_from("CCFARRGGUN"))
        if kind == "U":
            delay = data.draw(st.sampled_from([50, 3_000_000]))
            return known._replace(kind=kind, text=data.draw(functions), delay=delay)
        if kind == "N":
            return known._replace(kind=kind)
        if kind in "RG":
            return known._replace(
                kind=kind, text=data.draw(texts), delay=data.draw(st.sampled_from([0, 0, 3_000_000]))
            )
        return known._replace(
            kind=kind,
            outcome=data.draw(outcomes),
            text=data.draw(st.none() | texts),
            patch=tuple(data.draw(patches).items()),
        )

    @action(
        14,
        when=lambda world: world.claims,
        want=st.sampled_from([0, 0, 1, 3]),
        max_lost=st.integers(1, 3),
        message=texts,
    )
    def settle(self, data: st.DataObject, want: int, max_lost: int, message: bytes) -> None:
        """Any claims that there ever were: by now they may be another's, or of another life."""
        claims = self.world.claims
        held = [member for member in claims if self.world.model.holder(member)]
        of = st.sampled_from(held) | st.sampled_from(list(claims)) if held else st.sampled_from(list(claims))
        members = data.draw(st.lists(of, min_size=1, max_size=3, unique=True))
        done = [self._settlement(data, member) for member in members]
        worker = data.draw(workers) if data.draw(st.booleans()) else claims[members[0]].worker
        self.world.step(worker, want, done, max_lost=max_lost, message=message)
        for job in self.world.model.at("scheduled"):
            if job.due[0] < self.world.model.now[1] + 1000 and job.due[0] > 1000:
                self.world.come_due(job.key, int(FAR) * 1000 + 7)  # it would be due at any time now

    def _members(self, data: st.DataObject) -> list[bytes]:
        return data.draw(
            st.lists(st.sampled_from(list(self.world.claims)), min_size=1, max_size=4, unique=True)
        )

    @action(3, when=lambda world: world.claims)
    def renew(self, data: st.DataObject) -> None:
        self.world.renew(self._members(data))

    @action(2, when=lambda world: world.claims)
    def overtime(self, data: st.DataObject) -> None:
        self.world.overtime(self._members(data))

    @action(2, when=lambda world: world.claims, client=guests, header=changes, patch=patches)
    def update_by_owner(
        self, data: st.DataObject, client: str, header: dict[str, str], patch: dict[bytes, bytes]
    ) -> None:
        member = self._members(data)[0]
        self.world.update(client, member.partition(b":")[2], member, header, patch)

    @action(
        3,
        what=st.sampled_from(["leases", "due", "all"]),
        max_lost=st.integers(1, 3),
        message=st.sampled_from([b"", b"swept"]),
    )
    def sweep(self, data: st.DataObject, what: str, max_lost: int, message: bytes) -> None:
        self.world.sweep(what, max_lost, message)

    @action(1, worker=workers, known=st.lists(functions, unique=True), on=st.booleans())
    def register(self, data: st.DataObject, worker: str, known: list[bytes], on: bool) -> None:
        self.world.register(worker, known, on)

    @action(
        1,
        worker=workers,
        entry=st.sampled_from([b"e1", b"e2"]),
        tick=st.sampled_from([60_000, 120_000, 180_000, int(FAR) * 1000]),
        key=keys,
        header=headers,
    )
    def tick(
        self, data: st.DataObject, worker: str, entry: bytes, tick: int, key: bytes, header: dict[str, str]
    ) -> None:
        self.world.tick(worker, entry, tick, key, header)

    # -- networks and servers ------------------------------------------------------------------------------

    @action(4, when=lambda world: world.requests, pick=picks, late=st.booleans())
    def replay(self, data: st.DataObject, pick: int, late: bool) -> None:
        """Mostly the latest call of a client, as its client does; any other, as a network may."""
        requests = self.world.requests if late else list(self.world.latest.values()) or self.world.requests
        self.world.replay(requests[pick % len(requests)])

    @action(1)
    def forget_scripts(self, data: st.DataObject) -> None:
        self.world.forget_scripts()

    # -- time ----------------------------------------------------------------------------------------------

    @action(4, when=lambda world: world.model.at("active"))
    def leases_end(self, data: st.DataObject) -> None:
        active = self.world.model.at("active")
        picked = data.draw(st.sets(st.sampled_from(range(len(active))), min_size=1))
        self.world.end_leases([active[i] for i in picked])

    @action(1)
    def outage(self, data: st.DataObject) -> None:
        self.world.outage()

    @action(1)
    def calm_passes(self, data: st.DataObject) -> None:
        self.world.calm_passes()

    @action(3, when=lambda world: world.model.at("scheduled"), pick=picks, at=st.integers(1, 3))
    def come_due(self, data: st.DataObject, pick: int, at: int) -> None:
        scheduled = self.world.model.at("scheduled")
        self.world.come_due(scheduled[pick % len(scheduled)].key, at)

    @action(1, when=lambda world: world.model.functions, seconds=st.sampled_from([1, 3600]))
    def outlive_functions(self, data: st.DataObject, seconds: int) -> None:
        self.world.outlive_functions(seconds)

    @action(2, when=lambda world: world.model.records, pick=picks, days=st.sampled_from([0, 7, 7, 30, 40]))
    def outlive_record(self, data: st.DataObject, pick: int, days: int) -> None:
        records = list(self.world.model.records)
        self.world.outlive_record(records[pick % len(records)], days)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Server(SERVER_KIND) as server:
        yield World(server)


def test_every_sequence_of_transitions_does_what_the_model_does(world: World) -> None:
    machine: Any = type("Machine", (Transitions,), {"world": world})
    run_state_machine_as_test(machine, settings=SETTINGS)
    print(f"{world.steps} calls compared")
