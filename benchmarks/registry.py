"""Who competes: the folders below `contenders/`.

Owns reading `contender.toml`, and picking contenders by name. Must not start anything.

A folder holds an adapter and `contender.toml`: its title, the kind of its environment, which workloads it can
do, the Redis commands whose numbers add up to the jobs that are not finished, what its words mean, and its
variants: the settings as installed (`default`) and the best ones that are known.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workloads import CONCURRENCY, WORKLOADS

FOLDER = Path(__file__).parent / "contenders"
#: Those that are compared when nobody says otherwise, beside this project.
DEFAULT = ("arq", "rq")
#: This project: always there.
OURS = ("saq", "saq-uncompiled")
#: In this order in tables and charts.
ORDER = (
    *OURS,
    "saq-upstream",
    "arq",
    "rq",
    "streaq",
    "taskiq",
    "dramatiq",
    "celery",
    "huey",
    "bullmq",
    "sidekiq",
)


@dataclass(frozen=True)
class Arm:
    """A contender with one of its settings: what is measured.

    Args:
        contender: whose.
        variant: the name of the settings.
        settings: they, in words.
        best: whether they are the best known ones, with which it goes through everything.
        options: for the adapter.
        env: environment variables for its processes.
        rate: jobs a second by concurrency, a first guess: samples correct it.
        jobs: by concurrency, a number of no-ops that must be kept.
        seconds: by workload, that a drain takes where many jobs are wanted: all above a concurrency of 1.
        concurrency: those that it can do.
        enqueue: jobs that its fastest way enqueues a second, a first guess.
    """

    contender: Contender
    variant: str
    settings: str
    best: bool
    options: dict[str, Any]
    env: dict[str, str]
    rate: dict[int, float]
    jobs: dict[int, int]
    seconds: dict[str, float]
    concurrency: tuple[int, ...]
    enqueue: float

    @property
    def name(self) -> str:
        return f"{self.contender.name}/{self.variant}"


@dataclass(frozen=True)
class Contender:
    """A job queue, as its folder describes it. See the top of this module.

    Args:
        native: async or sync: the functions it is made for.
        pending: Redis commands; their numbers add up to the jobs that are not finished.
        fill: its fastest way to enqueue.
        usual: the concurrency of its worker where that is not the subject.
        why_not: by concurrency, why it is not measured there.
        leaves_out: measures in which it takes no part.
        beyond: why not in these, and in other workloads than its own; else it has no such functions.
    """

    name: str
    title: str
    kind: str
    adapter: Path
    native: str
    workloads: tuple[str, ...]
    pending: tuple[str, ...]
    fill: str
    usual: int
    semantics: dict[str, str]
    why_not: dict[int, str]
    leaves_out: tuple[str, ...] = ()
    beyond: str = ""
    arms: list[Arm] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def best(self) -> Arm:
        return next(arm for arm in self.arms if arm.best)


def names() -> list[str]:
    """All contenders."""
    found = sorted(path.parent.name for path in FOLDER.glob("*/contender.toml"))
    return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def load(name: str) -> Contender:
    """The contender of that name."""
    folder = FOLDER / name
    said = tomllib.loads((folder / "contender.toml").read_text())
    semantics = said.get("semantics", {})
    if "same_as" in semantics:
        semantics = load(semantics["same_as"]).semantics
    contender = Contender(
        name=name,
        title=said["title"],
        kind=said["kind"],
        adapter=(folder / said.get("adapter", "adapter.py")).resolve(),
        native=said["native"],
        workloads=tuple(said.get("workloads", WORKLOADS)),
        pending=tuple(said["pending"]),
        fill=said["fill"],
        usual=said.get("usual", 10),
        semantics=semantics,
        why_not=_by_concurrency(said.get("why_not", {})),
        leaves_out=tuple(said.get("leaves_out", ())),
        beyond=said.get("beyond", ""),
    )
    for variant, settings in said["variants"].items():
        contender.arms.append(
            Arm(
                contender=contender,
                variant=variant,
                settings=settings["settings"],
                best=settings.get("best", False),
                options=settings.get("options", {}),
                env={**said.get("env", {}), **settings.get("env", {})},
                rate=_by_concurrency(settings["rate"]),
                jobs=_by_concurrency(settings.get("jobs", {})),
                seconds=settings.get("seconds", {}),
                concurrency=tuple(settings.get("concurrency", said.get("concurrency", CONCURRENCY))),
                enqueue=settings["enqueue"],
            )
        )
    return contender


def pick(compare: str) -> list[Contender]:
    """This project, and those that are named: a list with commas, `all`, or `none`.

    Raises:
        ValueError: there is no contender of a name.
    """
    known = names()
    wanted = [name.strip() for name in compare.split(",") if name.strip()]
    if wanted == ["all"]:
        wanted = known
    elif wanted == ["none"]:
        wanted = []
    for name in wanted:
        if name not in known:
            raise ValueError(f"there is no contender {name!r}: choose from {', '.join(known)}")
    return [load(name) for name in known if name in wanted or name in OURS]


def _by_concurrency(table: dict[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in table.items()}
