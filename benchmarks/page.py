"""What is published of a result: the page for the documentation, its charts, and the part of the README.

Owns the prose around the tables, which charts there are, and where all of it is written. It is made from the
result alone. Must not measure; the tables are those of `report.py`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import charts, report
from benchmarks.figures import Figures
from benchmarks.report import MISSING
from benchmarks.stats import Summary, duration, number, size
from benchmarks.targets import TARGETS

#: What stands between these in the README is ours; the rest is not touched.
PART = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)
#: Installed in every environment, and in no job's way.
TOOLS = ("pip", "setuptools", "tzdata")
#: Those in the table of the README, as far as they took part.
SHOWN = ("saq", "saq-uncompiled", "saq-upstream", "arq", "rq", "streaq", "celery", "bullmq")
#: What its figures would otherwise hide.
RQ = " RQ runs one job per process: its concurrency is a number of processes, and one for all but the drains."


def publish(path: Path, docs: Path, readme: Path | None = None) -> list[Path]:
    """Writes the page, its charts and the result itself into a folder, and a part of the README if it has a
    place for it. Returns what was written."""
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
    written = [page, *sorted(folder.iterdir())]
    readme = readme or docs.parent / "README.md"
    if readme.is_file():
        before = readme.read_text()
        part = readme_part(figures, pictures, os.path.relpath(docs, readme.parent))
        after = PART.sub(lambda match: f"{match[1]}{part}\n{match[2]}", before)
        if PART.search(before):
            readme.write_text(after)
            written.append(readme)
    return written


# The page ---------------------------------------------------------------------------------------------------


def markdown(figures: Figures, pictures: Sequence[tuple[str, str]], folder: str) -> str:
    """The page for the documentation."""
    lines = [
        "# Benchmarks",
        "",
        "<!-- Made by `python -m benchmarks report RESULT.json --docs docs`: do not change it by hand. -->",
        "",
        *_made(figures, folder),
        *_method(figures),
    ]
    lines += [f"> **Note:** {note}.\n" for note in report.notes(figures)]
    for name, title in pictures:
        lines += [f"![{title}]({folder}/{name}.svg)", ""]
    for table in report.tables(figures):
        lines += table.markdown()
        if table.title == report.TARGETS_TITLE:
            lines += _bounds(figures)
            lines += _losses(figures)
    lines += _setup(figures)
    lines += _semantics(figures)
    lines += _missing(figures)
    return "\n".join(lines).rstrip() + "\n"


def command(figures: Figures) -> str:
    """What makes such a result."""
    return f"python -m benchmarks {' '.join(figures.result['argv'])}".rstrip()


def _made(figures: Figures, folder: str) -> list[str]:
    result = figures.result
    environment, server = result["environment"], result["server"]
    changed = " with changes" if environment["dirty"] else ""
    return [
        "One command makes such a run, on any machine with Python; it sets up all that it needs:",
        "",
        "```",
        command(figures),
        "```",
        "",
        f"This one: {environment['date'][:10]}, commit {(environment['git'] or 'unknown')[:12]}{changed}, "
        f"{environment['cpu']}, {environment['cpus']} processors, {environment['memory_gb']} GB, "
        f"{environment['kernel']}, {environment['python']}, {server['version']}; load "
        f"{environment['load_before'][0]} before and {environment['load_after'][0]} after the run, which "
        f"took {result['seconds'] / 60:.0f} minutes. Every sample, and all that is known of where they were "
        f"taken, is in [{folder}/result.json]({folder}/result.json); this page, its charts and the part of "
        "the README are made from that file alone. Other machines give other numbers; believe the ratios.",
        "",
    ]


def _method(figures: Figures) -> list[str]:
    samples = figures.result["settings"]["samples"]
    return [
        "## How it is measured",
        "",
        "Benchmarks are easily unfair, and their author is seldom the one who suffers from it. So:",
        "",
        "- A private server without persistence, emptied between samples; one worker process for everybody, "
        "in an environment of its own with its own versions of everything.",
        f"- {samples} samples of each figure, a fresh process for each, the contenders taking turns and each "
        "of them being the first of a round in its turn. A tenth of the jobs is warm-up and not counted.",
        "- A drain ends with the last job that is *finished in Redis*: the last job's own word that it has "
        "run, and from then on the server is asked without a pause until nothing is left. No figure holds a "
        "poll of ours.",
        "- Jobs are counted, each has to run exactly once, and what they return is looked at; a sample in "
        "which that is not so counts as failed, and is named below.",
        "- Everybody appears with the settings it comes with *and* with the best ones we know. If you know "
        "better ones, tell us.",
        "- A figure is the median of its samples, ± half of their range. “Ours is” says how many times as "
        "good this project is; below 1 the other one is better.",
        "",
    ]


def _bounds(figures: Figures) -> list[str]:
    """What was not reached, and why; what was not measured."""
    missed, unknown = [], []
    for target in TARGETS:
        reading = target.read(figures)
        if reading is None:
            unknown.append(target.title)
        elif not target.reached(reading.figure.median):
            missed.append(
                f"- {target.title}: {number(reading.figure.median)} instead of {target.limit:g}. "
                f"{target.bound}."
            )
    lines = ["Not reached, and what is in the way:", "", *missed, ""] if missed else []
    if unknown:
        lines += [f"Not measured in this run: {'; '.join(unknown)}.", ""]
    return lines


def _losses(figures: Figures) -> list[str]:
    lost = report.losses(figures)
    if not lost:
        return []
    return [
        "## Where we lose",
        "",
        "Every figure of this run in which somebody else is better by more than 3 %, who, and how "
        "many times as good:",
        "",
        *(f"- {line}" for line in lost),
        "",
    ]


def _setup(figures: Figures) -> list[str]:
    lines = ["## Settings and versions", "", "| | settings |", "|---|---|"]
    for arm, facts in figures.arms.items():
        best = "**best known:** " if facts["best"] else ""
        lines.append(f"| {figures.title(arm)} | {best}{facts['settings']} |")
    lines.append("")
    for contender, versions in figures.result["versions"].items():
        said = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in TOOLS)
        lines.append(f"- {contender}: {said}")
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
        f"- {report.where(sample)}: failed: {sample['failed'].splitlines()[0]}"
        for sample in figures.failures()
    ]
    return ["## What is not there", "", *lines, ""] if lines else []


# The README -------------------------------------------------------------------------------------------------


def readme_part(figures: Figures, pictures: dict[str, tuple[str, str]], docs: str) -> str:
    """A chart, a table of the figures that matter most, and where to find the rest."""
    arms = [arm for name in SHOWN for arm in figures.arms if arm.partition("/")[0] == name]
    arms = [arm for arm in arms if figures.arms[arm]["best"] and (arm == figures.ours or not _is_ours(arm))]
    result = figures.result
    environment = result["environment"]
    lines = [
        f"Measured on {environment['date'][:10]}, all in the same run and on the same server: "
        f"{environment['cpu']}, {environment['cpus']} processors, {environment['python']}, "
        f"{result['server']['version']}; one worker process each, everybody with the best settings we know; "
        f"medians of {result['settings']['samples']} samples."
        f"{RQ if any(arm.startswith('rq/') for arm in arms) else ''}",
        "",
    ]
    for name in ("drain-10", "drain-100"):
        if name in pictures:
            lines += [f"![{pictures[name][0]}]({docs}/benchmarks/{name}.svg)", ""]
            break
    versions = [_name_and_version(figures, arm) for arm in arms]
    lines += ["| | " + " | ".join(versions) + " |", "|---|" + "---:|" * len(arms)]
    for title, value, text in _essentials():
        cells = [value(figures, arm) for arm in arms]
        if cells and cells[0] is not None:
            said = [MISSING if cell is None else text(cell) for cell in cells]
            lines.append(f"| {title} | **{said[0]}** | {' | '.join(said[1:])} |")
    reached = [t.reached(r.figure.median) for t in TARGETS if (r := t.read(figures)) is not None]
    lines += [
        "",
        f"[The whole report]({docs}/benchmarks.md) has all contenders, with their defaults too, the spread "
        "of each figure, where somebody else is better, and how many of the numbers we "
        f"set out to reach are reached: {sum(reached)} of {len(reached)}. Make it yourself:",
        "",
        f"    {command(figures)}",
    ]
    return "\n".join(lines)


Essential = tuple[str, Callable[[Figures, str], float | None], Callable[[float], str]]


def _essentials() -> Iterator[Essential]:
    for level in (10, 100):
        yield (
            f"no-op jobs a second, concurrency {level}",
            lambda figures, arm, level=level: _median(figures.noop(arm, level)),  # type: ignore[misc]
            number,
        )
    yield (
        "jobs enqueued a second, concurrently",
        lambda figures, arm: figures.median("enqueue", "concurrent", arm),
        number,
    )
    for p in (50, 99):
        yield (
            f"enqueue to result, idle worker, p{p}",
            lambda figures, arm, p=p: _median((figures.percentiles("result", arm) or {}).get(p)),  # type: ignore[misc]
            duration,
        )
    yield (
        "Redis CPU per job",
        lambda figures, arm: figures.median("cost", "cpu_us", arm),
        lambda value: f"{number(value)} µs",
    )
    yield (
        "memory per queued job",
        lambda figures, arm: figures.median("cost", "memory_queued", arm),
        size,
    )


def _median(found: Summary | None) -> float | None:
    return found.median if found else None


def _name_and_version(figures: Figures, arm: str) -> str:
    """A contender as the README calls it."""
    return "here" if arm == figures.ours else str(figures.arms[arm].get("title", arm.partition("/")[0]))


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
        up: bool = True,
    ) -> None:
        rows = []
        for arm in figures.arms:
            one = value(arm)
            if one is not None:
                pale = not figures.arms[arm]["best"]
                rows.append(
                    charts.Bar(figures.title(arm), one.median, one.low, one.high, _is_ours(arm), pale)
                )
        if len(rows) > 1:
            rows.sort(key=lambda row: -row.value if up else row.value)
            found[name] = title, charts.bars(title, note, rows, text)

    per_second = (
        "jobs a second, one worker process; more is better. Line: lowest to highest sample. "
        "Pale: not its best settings"
    )
    for level in report.concurrencies(figures):
        add(
            f"drain-{level}",
            f"No-op jobs, concurrency {level}",
            per_second,
            lambda arm, level=level: figures.noop(arm, level),  # type: ignore[misc]
            number,
        )
    add(
        "enqueue",
        "Enqueue concurrently",
        "jobs a second, one process, 100 tasks or 10 threads; more is better",
        lambda arm: figures.figure("enqueue", "concurrent", arm),
        number,
    )
    rows = [
        charts.Dots(figures.title(arm), [ps[p].median for p in (50, 95, 99)], _is_ours(arm))
        for arm in figures.arms
        if (ps := figures.percentiles("result", arm))
    ]
    if len(rows) > 1:
        rows.sort(key=lambda row: row.values[0])
        title = "From enqueue to result, idle worker"
        note = f"at {figures.result['settings']['rate']:g} jobs a second; less is better; logarithmic scale"
        found["latency"] = title, charts.dots(title, note, ("p50", "p95", "p99"), rows, duration)
    add(
        "redis-cpu",
        "What a job costs Redis",
        "µs of the server's main thread from enqueue to result; less is better",
        lambda arm: figures.figure("cost", "cpu_us", arm),
        number,
        up=False,
    )
    return found


def _is_ours(arm: str) -> bool:
    return arm.partition("/")[0] in ("saq", "saq-uncompiled")
