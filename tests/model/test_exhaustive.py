"""Every sequence of transitions of two jobs and two workers, up to a length.

States that differ in nothing but times, tokens and counters are gone on from once. SAQ_MODEL_DEEPER looks
further by so many transitions.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import SERVER_KIND
from tests.model.reference import Model, Settlement
from tests.model.world import World
from tests.servers import Server

DEEPER = int(os.environ.get("SAQ_MODEL_DEEPER", "0"))
KEYS = (b"a", b"b")
WORKERS = ("w1", "w2")
HEADER = {"r": "2"}

Do = Callable[[World], None]


def actions(world: World) -> Iterator[tuple[str, Do]]:
    """What may be done next, by name."""
    model = world.model
    for key in KEYS:
        yield f"enqueue {key!r}", partial(World.enqueue, client="g", items=[(key, HEADER)])
        if key in model.jobs:
            yield f"abort {key!r}", partial(World.abort, client="g", key=key, why=b"why")
            yield f"delete {key!r}", partial(World.delete, client="g", key=key)
        if key in model.records:
            yield f"retry {key!r}", partial(World.revive, client="g", key=key, now=False)
        if model.place(key) == "scheduled":
            yield f"{key!r} is due", partial(World.come_due, key=key, at=1)
        if model.place(key) == "active" and not model.jobs[key].expired:
            yield f"the lease of {key!r} ends", partial(_end_lease, key=key)
    if model.jobs:
        for worker in WORKERS:
            yield f"{worker} claims", partial(World.step, worker=worker, want=1)
    if model.at("active"):
        yield "outage", World.outage
        yield "sweep", partial(World.sweep, what="leases", max_lost=2)
    for n, (member, known) in enumerate(world.claims.items()):
        yield f"renew {n}", partial(World.renew, members=[member])
        for kind, delay in (("C", 0), ("R", 0), ("G", 3_000_000), ("N", 0)):
            done = known._replace(kind=kind, delay=delay, text=b"error")
            name = f"{kind} of {n}"
            yield name, partial(World.step, worker=done.worker, want=0, done=[done], max_lost=2)


def _end_lease(world: World, key: bytes) -> None:
    world.end_leases([world.model.jobs[key]])


def state(world: World) -> Hashable:
    """What is the same in states from which the same follows."""
    model = world.model
    tokens = sorted({job.run.token for job in model.jobs.values() if job.run})
    places = [job.order for job in model.jobs.values()]
    orders = sorted({*places, *(job.run.order for job in model.jobs.values() if job.run)})
    jobs = []
    for key, job in sorted(model.jobs.items()):
        run = job.run
        history = run and (
            tokens.index(run.token), orders.index(run.order), run.worker,
            run.attempts, run.charged, run.lost, run.abort, run.error,
        )  # fmt: skip
        due = job.due[0] if job.due[0] <= 1 else 2
        jobs.append((key, job.place, orders.index(job.order), due, job.expired, history))
    records = tuple((key, record.status, record.error) for key, record in sorted(model.records.items()))
    stale = [known for member, known in world.claims.items() if not model.holder(member)]
    claims = sorted((known.member.partition(b":")[2], known.worker) for known in stale)
    return tuple(jobs), records, tuple(claims), model.away, model.calm, model.blocked


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Server(SERVER_KIND) as server:
        yield World(server)


@pytest.mark.parametrize(
    ("keys", "depth"), [((), 5), (KEYS, 5)], ids=["from an empty queue", "from two queued jobs"]
)
def test_every_short_sequence_does_what_the_model_does(
    keys: tuple[bytes, ...], depth: int, world: World
) -> None:
    world.reset()
    for key in keys:
        world.enqueue("g", [(key, HEADER)])
    seen = {state(world)}
    level: list[tuple[tuple[str, ...], Any, bytes]] = [((), world.save(), _packed(world))]
    for left in reversed(range(depth + DEEPER)):
        following = []
        for path, saved, packed in level:
            _back(world, saved, packed)
            for name, do in list(actions(world)):
                _back(world, saved, packed)
                try:
                    do(world)
                except AssertionError as error:
                    error.add_note(" -> ".join((*path, name)))
                    raise
                found = state(world)
                if found not in seen:
                    seen.add(found)
                    if left:
                        following.append(((*path, name), world.save(), _packed(world)))
        level = following
    print(f"{len(seen)} states, {world.steps} calls")
    assert len(seen) > 400, "the search ended early"


def _packed(world: World) -> bytes:
    return pickle.dumps((world.model, world.claims))


def _back(world: World, saved: Any, packed: bytes) -> None:
    model: Model
    claims: dict[bytes, Settlement]
    model, claims = pickle.loads(packed)
    world.restore(saved, model)
    world.claims = claims
