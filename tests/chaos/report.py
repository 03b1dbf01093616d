"""What is said of runs: a summary for people, a file for machines, a part of the documentation.

Owns the words and figures. Must not judge.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tests.chaos.evidence import Evidence
from tests.chaos.run import Run
from tests.chaos.verdict import explanations, lost_with_power

#: What the documentation has between these is written by `report`.
PART = re.compile(r"(<!-- measured: chaos -->\n).*?(<!-- end -->)", re.DOTALL)
#: Of a check that did not pass, so many findings are kept.
EXAMPLES = 20


def summarize(run: Run, evidence: Evidence, checks: dict[str, list[str]], took: float) -> dict[str, Any]:
    """Everything worth keeping of a run, as plain values."""
    plan = run.plan
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seed": plan.seed,
        "seconds": plan.seconds,
        "every": plan.every,
        "fsync": plan.fsync,
        "server": run.server_version,
        "python": platform.python_version(),
        "took": round(took),
        "passed": not any(checks.values()),
        "faults": dict(evidence.faults().most_common()),
        "workers": dict(evidence.kinds.most_common()),
        "raised": dict(evidence.raised.most_common()),
        "figures": _figures(evidence),
        "extra runs, by what explains them": dict(explanations(evidence).most_common()),
        "checks": {
            name: {"findings": len(found), "examples": found[:EXAMPLES]} for name, found in checks.items()
        },
    }


def _figures(evidence: Evidence) -> dict[str, int]:
    said = evidence.said
    figures = {
        "jobs acknowledged": len(evidence.acknowledged()),
        "jobs whose acknowledgement was lost": len(said["unknown"]),
        "jobs refused": len(said["refused"]),
        "results waited for": len(said["waits"]),
        "aborts accepted": sum(bool(more["answer"]) for _, more in said["aborted"].values()),
        "runs": sum(map(len, evidence.attempts.values())),
        "leases lost": evidence.stats.get("lost", 0),
        "processes started": len(evidence.lives),
        "cron ticks": sum(key.startswith("cron:") for key in evidence.records),
        "looks at all jobs at one moment": evidence.censuses,
    }
    for code, count in Counter(more["error"] for _, more in said["refused"].values()).items():
        figures[f"of them with {code}"] = count
    if evidence.lossy:
        figures["acknowledged jobs that the server lost"] = len(lost_with_power(evidence))
        figures["bytes of its log that it lost"] = int(
            sum(event.figures.get("bytes", 0) for event in evidence.power_losses)
        )
    return figures


def dump(summary: dict[str, Any]) -> bytes:
    """The summary for machines."""
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2)


def text_of(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        f"chaos: seed {summary['seed']}, {summary['seconds']:g} s of faults, {summary['took']} s in all, "
        f"{summary['server']}, appendfsync {summary['fsync']}, Python {summary['python']}",
        "",
        "faults",
        *_counts(summary["faults"]),
        "",
        "workers started",
        *_counts(summary["workers"]),
        "",
        "functions that raised",
        *_counts(summary["raised"]),
        "",
        "figures",
        *_counts(summary["figures"]),
        "",
        "extra runs, by what explains them",
        *_counts(summary["extra runs, by what explains them"]),
        "",
        "checks",
    ]
    for name, result in summary["checks"].items():
        count = result["findings"]
        lines.append(f"  {'ok  ' if not count else 'WRONG'} {name}{f': {count}' if count else ''}")
        lines += [f"         {example}" for example in result["examples"]]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> list[str]:
    return [f"  {count:>8,}  {name}" for name, count in counts.items()]


def markdown_of(summary: dict[str, Any]) -> str:
    """The summary for the documentation."""
    always = summary["fsync"] == "always"
    kept = "nothing acknowledged may be lost" if always else "the server may lose its last second"
    repeat = f"--seed {summary['seed']} --seconds {summary['seconds']:g} --fsync {summary['fsync']}"
    lines = [
        f"### {summary['seconds'] / 60:g} minutes, `appendfsync {summary['fsync']}`",
        "",
        f"{summary['when']}, {summary['server']}, Python {summary['python']}; {kept}. "
        f"Seed {summary['seed']}: repeat it with `python -m tests.chaos {repeat}`.",
        "",
        *_table("fault", "times", summary["faults"]),
        "",
        *_table("started", "times", summary["workers"]),
        "",
        *_table("a function raised", "times", summary["raised"]),
        "",
        *_table("figure", "", summary["figures"]),
        "",
        *_table("a job ran again because of", "times", summary["extra runs, by what explains them"]),
        "",
        "| invariant | |",
        "|---|---|",
        *(f"| {name} | {result['findings'] or 'held'} |" for name, result in summary["checks"].items()),
    ]
    return "\n".join(lines)


def _table(what: str, count: str, counts: dict[str, int]) -> list[str]:
    return [f"| {what} | {count} |", "|---|---:|", *(f"| {name} | {n:,} |" for name, n in counts.items())]


def write(page: Path, files: list[Path]) -> None:
    """Puts the summaries of these files into the documentation."""
    summaries = [orjson.loads(path.read_bytes()) for path in files]
    part = "\n\n".join(markdown_of(summary) for summary in summaries)
    before = page.read_text("utf-8")
    if not PART.search(before):
        raise SystemExit(f"{page} has no part between <!-- measured: chaos --> and <!-- end -->")
    page.write_text(PART.sub(lambda match: f"{match[1]}{part}\n{match[2]}", before), "utf-8")
