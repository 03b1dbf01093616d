"""The report: tables on the terminal, and Markdown with charts, from a result file alone.

Owns which tables there are and what is said about them. Must not measure, and must not know where a result
came from beyond what it says itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.figures import TARGETS, Figures
from benchmarks.stats import Summary, duration, number, size
from benchmarks.workloads import WORKLOADS

MISSING = "–"
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
        lines.append(f"failed: {_where(sample)}: {sample['failed'].splitlines()[0]}")
    lines += [f"note: {note}" for note in _notes(figures)]
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
    table = Table("The numbers to reach", ["", "wanted", "measured", ""])
    for target in TARGETS:
        value = target.value(figures)
        if value is not None:
            limit = f"{'≥' if target.at_least else '≤'} {number(target.limit)}"
            table.add(target.title, limit, number(value), "yes" if target.reached(value) else "NO")
    return table


def _concurrencies(figures: Figures) -> list[int]:
    return sorted({sample["concurrency"] for sample in figures.samples if "workload" in sample})


def _drains(figures: Figures, workload: str) -> Table:
    levels = _concurrencies(figures)
    head = ["jobs a second"]
    for level in levels:
        head += [f"at {level}", "ours is"]
    table = Table(f"Drain: {WORKLOADS[workload].title}", head)
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
    levels = _concurrencies(figures)
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
    table = Table("Enqueue", head)
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
    table = Table("Latency of an idle worker", head)
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
    levels = [level for level in _concurrencies(figures) if level > 1]
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


def _where(sample: dict[str, Any]) -> str:
    words = [sample["arm"], sample["measure"]]
    if "workload" in sample:
        words.append(f"{sample['workload']} at {sample['concurrency']}")
    return " ".join(words)


def _notes(figures: Figures) -> Iterable[str]:
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
    """Where somebody is better than this project."""
    found: list[str] = []

    def look(what: str, value: Callable[[str], float | None], more: bool = True) -> None:
        mine = value(figures.ours)
        if mine is None:
            return
        for arm in figures.arms:
            theirs = value(arm) if arm.partition("/")[0] not in ("saq", "saq-uncompiled") else None
            # What is closer than the samples of one arm to each other is no difference.
            if theirs is not None and (theirs > mine * ALIKE if more else theirs * ALIKE < mine):
                # 0 commands of an idle worker cannot be divided by.
                times = number(theirs / mine if more else mine / theirs) if mine and theirs else "much"
                found.append(f"{what}: {figures.title(arm)} is {times} × as good")

    for workload in WORKLOADS.values():
        for level in _concurrencies(figures):
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


def markdown(figures: Figures, pictures: Sequence[tuple[str, str]], folder: str) -> str:
    """The page for the documentation."""
    result, environment = figures.result, figures.result["environment"]
    settings, server = result["settings"], result["server"]
    lines = [
        "# Benchmarks",
        "",
        "<!-- Made by `python -m benchmarks report RESULT.json --docs docs` from benchmarks/result.json. -->",
        "",
        "Made with one command, which anybody can repeat:",
        "",
        "```",
        f"python -m benchmarks {' '.join(result['argv'])}".rstrip(),
        "```",
        "",
        f"{environment['date'][:10]}, commit {(environment['git'] or 'unknown')[:12]}"
        f"{' with changes' if environment['dirty'] else ''}, {environment['cpu']}, {environment['cpus']} "
        f"processors, {environment['memory_gb']} GB, {environment['kernel']}, {environment['python']}, "
        f"{server['version']}; load {environment['load_before'][0]} before and "
        f"{environment['load_after'][0]} after the run, which took {result['seconds'] / 60:.0f} minutes. "
        f"The raw samples are in [{folder}/result.json]({folder}/result.json).",
        "",
        "Benchmarks are easily unfair, and their author is seldom the one who suffers from it. So: one "
        "worker process for everybody, on a private server without persistence that is emptied between "
        f"samples; a fresh process for each of {settings['samples']} samples, the contenders taking turns; a "
        "warm-up that is not counted; and the end of a drain is the last job that is finished in Redis: the "
        "last job's own word, and from then on Redis is asked without a pause until nothing is left. Jobs "
        "are counted, and results looked at. Contenders appear with their defaults and with the best "
        "settings we know; if you know better ones, tell us. A figure is the median of its samples, ± half "
        "of their range. “Ours is” says how many times as good this project is.",
        "",
    ]
    lines += [f"**Note:** {note}.\n" for note in _notes(figures)]
    lines += [f"![{title}]({folder}/{name}.svg)\n" for name, title in pictures]
    for table in tables(figures):
        lines += table.markdown()
    lost = losses(figures)
    lines += ["## Where we lose", "", *(f"- {line}" for line in lost), ""] if lost else []
    lines += _setup(figures)
    lines += _semantics(figures)
    lines += _missing(figures)
    return "\n".join(lines).rstrip() + "\n"


def _setup(figures: Figures) -> list[str]:
    lines = ["## Settings and versions", "", "| | settings | versions |", "|---|---|---|"]
    for arm, facts in figures.arms.items():
        versions = figures.result["versions"].get(arm.partition("/")[0], {})
        said = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(f"| {figures.title(arm)} | {facts['settings']} | {said} |")
    return [*lines, ""]


def _semantics(figures: Figures) -> list[str]:
    lines = ["## What is not the same", "", "What a figure is worth depends on what a job gets for it.", ""]
    semantics: dict[str, dict[str, str]] = figures.result["semantics"]
    kinds = ("acknowledgement", "results", "retries", "durability", "sync", "end")
    head = ("acknowledged", "results", "retries", "end of a job in Redis", "sync functions", "end of a drain")
    lines += ["| | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for contender, said in semantics.items():
        lines.append(f"| {contender} | " + " | ".join(said.get(kind, MISSING) for kind in kinds) + " |")
    return [*lines, ""]


def _missing(figures: Figures) -> list[str]:
    result = figures.result
    lines = [f"- {name}: {reason}" for name, reason in result["unavailable"].items()]
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in result["absent"]:
        what = f"{entry['workload']} at {entry['concurrency']}" if "workload" in entry else entry["measure"]
        grouped.setdefault((entry["arm"], entry["reason"]), []).append(what)
    lines += [f"- {arm}: {reason} ({', '.join(what)})" for (arm, reason), what in grouped.items()]
    lines += [
        f"- {_where(sample)}: failed: {sample['failed'].splitlines()[0]}" for sample in figures.failures()
    ]
    return ["## What is not there", "", *lines, ""] if lines else []


# Charts -----------------------------------------------------------------------------------------------------


def draw(figures: Figures) -> dict[str, tuple[str, str]]:
    """The charts for which there are figures: name → title and SVG."""
    found: dict[str, tuple[str, str]] = {}

    def add(
        name: str,
        title: str,
        note: str,
        value: Callable[[str], Summary | None],
        text: Callable[[float], str],
        up: bool,
    ) -> None:
        rows = []
        for arm in figures.arms:
            one = value(arm)
            if one is not None:
                rows.append(charts.Bar(figures.title(arm), one.median, one.low, one.high, _is_ours(arm)))
        if len(rows) > 1:
            rows.sort(key=lambda row: -row.value if up else row.value)
            found[name] = title, charts.bars(title, note, rows, text)

    per_second = (
        "jobs a second, one worker process, more is better; the line is from lowest to highest sample"
    )
    for level in _concurrencies(figures):
        add(
            f"drain-{level}",
            f"No-op jobs, concurrency {level}",
            per_second,
            lambda arm, level=level: figures.noop(arm, level),  # type: ignore[misc]
            number,
            True,
        )
    add(
        "enqueue",
        "Enqueue concurrently",
        "jobs a second, one process, 100 tasks or 10 threads; more is better",
        lambda arm: figures.figure("enqueue", "concurrent", arm),
        number,
        True,
    )
    add(
        "redis-cpu",
        "What a job costs Redis",
        "µs of the server's main thread from enqueue to result; less is better",
        lambda arm: figures.figure("cost", "cpu_us", arm),
        number,
        False,
    )
    rows = [
        charts.Dots(figures.title(arm), [ps[p].median for p in (50, 95, 99)], _is_ours(arm))
        for arm in figures.arms
        if (ps := figures.percentiles("result", arm))
    ]
    if len(rows) > 1:
        rows.sort(key=lambda row: row.values[0])
        title = "From enqueue to result, idle worker"
        note = f"at {figures.result['settings']['rate']:g} jobs a second; less is better"
        found["latency"] = title, charts.dots(title, note, ("p50", "p95", "p99"), rows, duration)
    return found


def _is_ours(arm: str) -> bool:
    return arm.partition("/")[0] in ("saq", "saq-uncompiled")


def publish(path: Path, docs: Path) -> Path:
    """Writes the page, its charts and the result itself into a folder; returns the page."""
    figures = Figures.read(path)
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    pictures = draw(figures)
    for name, (_, svg) in pictures.items():
        (folder / f"{name}.svg").write_text(svg)
    if path.resolve() != (folder / "result.json").resolve():
        shutil.copy(path, folder / "result.json")
    page = docs / "benchmarks.md"
    page.write_text(markdown(figures, [(name, title) for name, (title, _) in pictures.items()], "benchmarks"))
    return page
