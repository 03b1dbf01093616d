"""The tables of a result, and what they are on the terminal.

Owns which tables there are, what each of them means, and who is better where. All of it comes from the result
alone. Must not measure; the page for the documentation is `page.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.figures import Figures
from benchmarks.registry import OURS
from benchmarks.stats import Summary, duration, number, size
from benchmarks.targets import TARGETS
from benchmarks.workloads import WORKLOADS

MISSING = "–"
TARGETS_TITLE = "The numbers to reach"
#: What the drains of a workload say.
DRAINS = {
    "async_noop": "A queue full of jobs that do nothing, and one worker process: what the library itself "
    "costs. From the end of the warm-up to the last job that is finished in Redis. RQ's concurrency is its "
    "number of processes, and where a library knows no async functions it is not in the table.",
    "sync_noop": "The same with functions that are not async: those go to a thread, or a process, each.",
    "async_sleep": "Jobs that wait, as most do: for a database, for another service. No library can be "
    "faster than the sleeps allow, and the good ones differ little.",
    "sync_sleep": "The same in threads or processes.",
    "cpu": "Half a millisecond of Python, or of JavaScript, which computes this faster. One process computes "
    "on one core, whatever its concurrency: here a library only shows by how little it is in the way.",
}
#: Nobody is better by less than this.
ALIKE = 1.03
Row = list[str]


class Table:
    """Rows under a head; the first column is text, the others are numbers."""

    def __init__(self, title: str, head: Sequence[str], note: str = "") -> None:
        self.title = title
        self.head = list(head)
        self.note = note
        self.rows: list[Row] = []

    def add(self, first: str, *cells: str | None) -> None:
        """A row, unless it is empty."""
        if any(cell not in (None, MISSING) for cell in cells):
            self.rows.append([first, *(cell or MISSING for cell in cells)])

    def markdown(self) -> list[str]:
        lines = [f"## {self.title}", ""] if self.title else []
        lines += [self.note, ""] if self.note else []
        lines.append("| " + " | ".join(self.head) + " |")
        lines.append("|---|" + "---:|" * (len(self.head) - 1))
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return [*lines, ""]

    def text(self) -> list[str]:
        rows = [self.head, *self.rows]
        widths = [max(len(row[k]) for row in rows) for k in range(len(self.head))]
        lines = [f"\n{self.title}"]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
        return lines


def tables(figures: Figures) -> list[Table]:
    """All tables with numbers in them; those without any are left out."""
    found = [_targets(figures)]
    found += [_drains(figures, name) for name in WORKLOADS]
    found += [_ideals(figures), _enqueues(figures), _latencies(figures), _cost(figures)]
    found += [_footprint(figures), _network(figures), _backlog(figures)]
    return [table for table in found if table.rows]


def terminal(figures: Figures) -> str:
    """What is printed after a run."""
    lines: list[str] = []
    for table in tables(figures):
        lines += table.text()
    missing = figures.result["unavailable"]
    lines += ["", *(f"{name} is not there: {reason}" for name, reason in missing.items())] if missing else []
    for sample in figures.failures():
        lines.append(f"failed: {where(sample)}: {sample['failed'].splitlines()[0]}")
    lines += [f"note: {note}" for note in notes(figures)]
    return "\n".join(lines) + "\n"


# Tables -----------------------------------------------------------------------------------------------------


def _of(found: Summary | None, text: Callable[[float], str] = number) -> str:
    """A figure as its median and half of its range."""
    if found is None:
        return MISSING
    return f"{text(found.median)} ±{found.spread:.0%}" if found.samples > 1 else text(found.median)


def _times(mine: float | None, theirs: float | None, more_is_better: bool = True) -> str:
    """How many times as good ours is."""
    if not mine or not theirs:
        return MISSING
    return f"{number(mine / theirs if more_is_better else theirs / mine)} ×"


def _targets(figures: Figures) -> Table:
    head = ["", "wanted", "measured", "between", "ours", "theirs", "reached"]
    note = (
        "What this project set out to reach, all of it measured in this run. A ratio is that of two medians; "
        "it lay *between* the next two numbers when each round is taken for itself. Behind a rate stands how "
        "many jobs a sample had, the warm-up not counted: what is slow takes fewer."
    )
    table = Table(TARGETS_TITLE, head, note)
    for target in TARGETS:
        reading = target.read(figures)
        if reading is not None:
            figure = reading.figure
            limit = f"{'≥' if target.at_least else '≤'} {target.limit:g}"
            spread = f"{number(figure.low)} … {number(figure.high)}" if figure.samples > 1 else MISSING
            verdict = "yes" if target.reached(figure.median) else "NO"
            table.add(
                target.title, limit, number(figure.median), spread, reading.ours, reading.theirs, verdict
            )
    return table


def concurrencies(figures: Figures) -> list[int]:
    """At which the jobs of this result ran."""
    return sorted({sample["concurrency"] for sample in figures.samples if "workload" in sample})


def _drains(figures: Figures, workload: str) -> Table:
    levels = concurrencies(figures)
    head = ["jobs a second"]
    for level in levels:
        head += [f"at {level}", "ours is"]
    table = Table(f"Drain: {WORKLOADS[workload].title}", head, DRAINS.get(workload, ""))
    for arm in figures.arms:
        cells: list[str] = []
        for level in levels:
            found = figures.figure("drain", "per_second", arm, workload=workload, concurrency=level)
            mine = figures.median("drain", "per_second", figures.ours, workload=workload, concurrency=level)
            cells += [
                _of(found),
                _times(mine, found.median if found else None) if arm != figures.ours else MISSING,
            ]
        table.add(figures.title(arm), *cells)
    return table


def _ideals(figures: Figures) -> Table:
    levels = concurrencies(figures)
    head = ["time ÷ ideal", *(f"{kind} at {level}" for kind in ("async", "sync") for level in levels)]
    note = (
        "The ideal is the sum of the sleeps ÷ concurrency: what the jobs take if nothing else takes any time."
    )
    table = Table("Sleeping jobs against their ideal", head, note)
    for arm in figures.arms:
        table.add(
            figures.title(arm),
            *(
                _of(figures.figure("drain", "over_ideal", arm, workload=f"{kind}_sleep", concurrency=level))
                for kind in ("async", "sync")
                for level in levels
            ),
        )
    return table


def _enqueues(figures: Figures) -> Table:
    head = ["jobs a second", "one by one", "ours is", "concurrently", "ours is", "in bulk", "ours is"]
    note = (
        "One client, no worker. One by one: each waits for the one before it. Concurrently: 100 tasks at "
        "once, or 10 threads where the library blocks. In bulk: 1,000 jobs to a call. An enqueue has ended "
        "when the server has said so."
    )
    table = Table("Enqueue", head, note)
    for arm in figures.arms:
        cells: list[str] = []
        for mode in ("one", "concurrent", "bulk"):
            found = figures.figure("enqueue", mode, arm)
            mine = figures.median("enqueue", mode, figures.ours)
            cells += [
                _of(found),
                _times(mine, found.median if found else None) if arm != figures.ours else MISSING,
            ]
        table.add(figures.title(arm), *cells)
    return table


def _latencies(figures: Figures) -> Table:
    head = ["", "start p50", "p95", "p99", "result p50", "p95", "p99", "map of 1,000"]
    rate = figures.result["settings"].get("rate", 0)
    note = (
        f"{rate:g} jobs a second arrive, evenly, at a worker that has nothing else to do. Start: from the "
        "call of enqueue to the first line of the function. Result: to the moment at which the client holds "
        "what it returned. Percentiles are those of all samples together. Map: 1,000 no-ops enqueued, run "
        "and their results brought back, where the library has a call for that."
    )
    table = Table("Latency of an idle worker", head, note)
    for arm in figures.arms:
        cells: list[str] = []
        for value in ("start", "result"):
            found = figures.percentiles(value, arm)
            cells += [duration(found[p].median) if found else MISSING for p in (50, 95, 99)]
        table.add(figures.title(arm), *cells, _of(figures.figure("latency", "map", arm), duration))
    return table


def _columns(
    figures: Figures,
    title: str,
    measure: str,
    note: str,
    columns: dict[str, tuple[str, Callable[[float], str]]],
) -> Table:
    table = Table(title, ["", *columns], note)
    for arm in figures.arms:
        cells = [_of(figures.figure(measure, value, arm), text) for value, text in columns.values()]
        table.add(figures.title(arm), *cells)
    return table


def _cost(figures: Figures) -> Table:
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "CPU µs": ("cpu_us", number),
        "requests": ("requests", number),
        "operations": ("operations", number),
        "bytes in": ("bytes_in", number),
        "bytes out": ("bytes_out", number),
        "memory queued": ("memory_queued", size),
        "memory finished": ("memory_finished", size),
    }
    note = (
        "Per job, from enqueue to result. CPU is that of the server's main thread. Requests are commands of "
        "clients; operations are those and what scripts do inside."
    )
    return _columns(figures, "What a job costs Redis", "cost", note, columns)


def _footprint(figures: Figures) -> Table:
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "concurrency": ("concurrency", number),
        "connections": ("connections", number),
        "memory": ("worker_memory", size),
        "idle requests/s": ("idle_requests_per_second", number),
        "idle operations/s": ("idle_operations_per_second", number),
    }
    note = "One worker at the largest concurrency it was measured with: at work, then idle."
    return _columns(figures, "What a worker occupies", "footprint", note, columns)


def _network(figures: Figures) -> Table:
    delays = {sample.get("network_ms", 0) for sample in figures.samples} - {0}
    levels = [level for level in concurrencies(figures) if level > 1]
    head = ["jobs a second", *(f"no-op at {level}" for level in levels), "enqueue: one", "concurrent", "bulk"]
    rtt = figures.result["environment"].get("round_trip_ms", {})
    note = "Each round trip takes one millisecond more." + (
        f" Measured with PING: {number(rtt['plain'])} ms without, {number(rtt['delayed'])} ms with it."
        if rtt
        else ""
    )
    table = Table("A slower network", head, note)
    for delay in delays:
        for arm in figures.arms:
            drains = [_of(figures.noop(arm, level, delay)) for level in levels]
            modes = ("one", "concurrent", "bulk")
            enqueues = [_of(figures.figure("enqueue", mode, arm, network_ms=delay)) for mode in modes]
            table.add(figures.title(arm), *drains, *enqueues)
    return table


def _backlog(figures: Figures) -> Table:
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "jobs": ("large_jobs", number),
        "memory per job": ("large_memory", size),
        "jobs/s": ("large_per_second", number),
        "CPU µs": ("large_cpu_us", number),
        "jobs/s, small": ("small_per_second", number),
        "CPU µs, small": ("small_cpu_us", number),
        "CPU ratio": ("cpu_ratio", number),
    }
    note = "The first jobs of a large backlog, beside those of one of 10,000."
    return _columns(figures, "A large backlog", "backlog", note, columns)


# Prose ------------------------------------------------------------------------------------------------------


def where(sample: dict[str, Any]) -> str:
    """What was measured, in a few words."""
    words = [sample["arm"], sample["measure"]]
    if "workload" in sample:
        words.append(f"{sample['workload']} at {sample['concurrency']}")
    return " ".join(words)


def notes(figures: Figures) -> Iterable[str]:
    """What a reader has to know before believing the figures."""
    environment = figures.result["environment"]
    settings = figures.result["settings"]
    if settings["samples"] < 5:
        yield f"only {settings['samples']} samples of each figure were taken; five are the least for a claim"
    if settings["scale"] < 1:
        yield f"samples were shortened to {settings['scale']:g} of their length: start-up may count"
    load = environment["load_before"][0]
    if load > 0.5 * (environment["cpus"] or 1):
        yield f"the machine was busy with something else as the run began (load {load})"
    if environment["dirty"]:
        yield "the checkout held changes that were not committed"


def losses(figures: Figures) -> list[str]:
    """Where somebody is better than this project: what, who, and how many times as good."""
    found: list[str] = []

    def look(what: str, value: Callable[[str], float | None], more: bool = True) -> None:
        mine = value(figures.ours)
        if mine is None:
            return
        better: list[tuple[float, str]] = []
        for arm in figures.arms:
            theirs = value(arm) if arm.partition("/")[0] not in OURS else None
            # What is closer than the samples of one arm to each other is no difference.
            if theirs is not None and (theirs > mine * ALIKE if more else theirs * ALIKE < mine):
                # Nothing can be divided by what costs nothing.
                times = (theirs / mine if more else mine / theirs) if mine > 0 and theirs > 0 else math.inf
                better.append((times, figures.title(arm)))
        if better:
            said = [f"{name} {number(times)} ×" if times < math.inf else name for times, name in better]
            order = sorted(range(len(said)), key=lambda k: -better[k][0])
            found.append(f"{what}: {', '.join(said[k] for k in order)}")

    for workload in WORKLOADS.values():
        for level in concurrencies(figures):
            params = {"workload": workload.name, "concurrency": level}
            look(
                f"{workload.title} at {level}",
                lambda arm, params=params: figures.median("drain", "per_second", arm, **params),  # type: ignore[misc]
            )
    for mode, title in (("one", "one by one"), ("concurrent", "concurrently"), ("bulk", "in bulk")):
        look(f"enqueue {title}", lambda arm, mode=mode: figures.median("enqueue", mode, arm))  # type: ignore[misc]
    for value in ("start", "result"):
        for p in (50, 95, 99):
            look(
                f"enqueue to {value}, p{p}",
                lambda arm, value=value, p=p: (  # type: ignore[misc]
                    (figures.percentiles(value, arm) or {}).get(p, Summary(0, 0, 0, 0)).median or None
                ),
                more=False,
            )
    for measure, value, title in (
        ("cost", "cpu_us", "Redis CPU per job"),
        ("cost", "requests", "requests per job"),
        ("cost", "operations", "operations per job"),
        ("cost", "bytes_in", "bytes received per job"),
        ("cost", "bytes_out", "bytes sent per job"),
        ("cost", "memory_queued", "memory per queued job"),
        ("cost", "memory_finished", "memory per finished job"),
        ("footprint", "connections", "connections"),
        ("footprint", "worker_memory", "memory of a worker"),
        ("footprint", "idle_requests_per_second", "requests of an idle worker"),
    ):
        look(
            title,
            lambda arm, measure=measure, value=value: figures.median(measure, value, arm),  # type: ignore[misc]
            more=False,
        )
    return found
