"""The command line: what is asked for, and who does it.

Owns the arguments and the life of a run: its server, its result file, and that nothing is left behind however
it ends. Measuring is `measures.py`, the order `plan.py`, what is shown `report.py`, the gates `gate/`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import machine, measures, page, plan, registry, report
from benchmarks.environments import Environment, Unavailable, environment
from benchmarks.figures import SCHEMA, Figures
from benchmarks.progress import Progress
from benchmarks.server import Target
from benchmarks.workloads import CONCURRENCY, SEED, WORKLOADS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / ".benchmarks"
#: What --quick does: about a minute for the default contenders.
QUICK = {
    "samples": 3,
    "scale": 0.25,
    "measures": ["drain", "enqueue", "latency"],
    "concurrency": [10],
}

DESCRIPTION = """\
Compares this project with other job queues on a private server: how fast jobs are enqueued and drained,
how long one takes, and what it costs Redis. Ends with a table, and a file that holds every sample.

  python -m benchmarks --quick                 a first impression, in about a minute
  python -m benchmarks                         this project, arq and RQ, everything: a quarter of an hour
  python -m benchmarks --compare all           all contenders: what docs/benchmarks.md shows, 40 minutes
  python -m benchmarks --compare all --plan    what that would be, and how long it takes
  python -m benchmarks --compare bullmq --measures drain --workloads async_noop --concurrency 10,100
  python -m benchmarks report FILE             the tables of a run again
  python -m benchmarks report FILE --docs docs writes docs/benchmarks.md with its charts
  python -m benchmarks contenders              who can be had here
  python -m benchmarks gate --help             what no change may make worse

Contenders run in environments of their own, which are made on first use (benchmarks/.environments)."""


def main(argv: list[str]) -> int:
    """Runs a subcommand; without one, a comparison."""
    if argv[:1] == ["report"]:
        return _report(argv[1:])
    if argv[:1] == ["contenders"]:
        return _contenders()
    if argv[:1] == ["gate"]:
        gate = importlib.import_module("benchmarks.gate.__main__")
        return int(gate.main(argv[1:]) or 0)
    return _compare(argv)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--compare",
        default=",".join(registry.DEFAULT),
        metavar="NAMES",
        help="contenders beside this project, with commas, or all, or none [%(default)s]: "
        + ", ".join(name for name in registry.names() if name not in registry.OURS),
    )
    parser.add_argument("--quick", action="store_true", help="few short samples of the most important")
    parser.add_argument(
        "--measures",
        type=_words(plan.MEASURES),
        metavar="NAMES",
        help=f"only these of {', '.join(plan.MEASURES)}",
    )
    parser.add_argument(
        "--workloads", type=_words(WORKLOADS), metavar="NAMES", help=f"only these of {', '.join(WORKLOADS)}"
    )
    parser.add_argument(
        "--concurrency", type=_numbers, metavar="NUMBERS", help="only these [1,10,100]; with commas"
    )
    parser.add_argument("--samples", type=_positive(int), help="of each figure [5]")
    parser.add_argument(
        "--scale", type=_positive(float), help="length of the samples, 1 being about two seconds [1]"
    )
    parser.add_argument("--no-defaults", action="store_true", help="contenders only with their best settings")
    parser.add_argument(
        "--backlog", type=_positive(int), default=1_000_000, help="jobs of the large backlog [%(default)s]"
    )
    parser.add_argument(
        "--server", default="embedded", help="embedded, redis62, path, or the path of a server [%(default)s]"
    )
    parser.add_argument("--plan", action="store_true", help="only say what would be done, and for how long")
    parser.add_argument("--output", type=Path, help="the result file [.benchmarks/DATE.json]")
    arguments = parser.parse_args(argv)
    usual = {"samples": 5, "scale": 1.0, "measures": list(plan.MEASURES), "concurrency": list(CONCURRENCY)}
    for name, value in (usual | (QUICK if arguments.quick else {})).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.workloads is None:
        noops = ["async_noop", "sync_noop"]
        arguments.workloads = noops if arguments.quick else list(WORKLOADS)
    try:
        arguments.contenders = registry.pick(arguments.compare)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _compare(argv: list[str]) -> int:
    arguments = _arguments(argv)
    if arguments.plan:
        return _plan(arguments)
    progress = Progress()
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        result = _run(arguments, argv, progress)
    except KeyboardInterrupt:
        progress.say("interrupted: everything was stopped, and no result is kept")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    path: Path = arguments.output or RESULTS / f"{datetime.now():%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(report.terminal(Figures(result)))
    print(f"{result['seconds']:.0f} s; every sample is in {os.path.relpath(path)}")
    return 1 if Figures(result).failures() else 0


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace, argv: list[str], progress: Progress) -> dict[str, Any]:
    begin = time.monotonic()
    facts = machine.facts()
    environments: dict[str, Environment] = {}
    unavailable: dict[str, str] = {}
    for contender in arguments.contenders:
        try:
            environments[contender.name] = environment(contender, progress.say)
        except Unavailable as reason:
            unavailable[contender.name] = str(reason)
            progress.say(f"{contender.name} is not there: {reason}")
    there = [contender for contender in arguments.contenders if contender.name in environments]
    wanted = _wanted(arguments)
    cells = plan.make(there, wanted)
    with Target(arguments.server) as target:
        progress.say(f"{cells.samples} samples on {target.version}, {_about(cells, arguments)}")
        facts["round_trip_ms"] = _round_trips(target)
        bench = measures.Bench(target, environments, arguments.scale, arguments.backlog)
        samples = plan.run(cells, bench, progress)
        server = target.facts()
    return {
        "schema": SCHEMA,
        "argv": _public(argv),
        "environment": facts | machine.closing(),
        "server": server,
        "settings": {
            "samples": arguments.samples,
            "scale": arguments.scale,
            "seed": SEED,
            "rate": measures.RATE,
            "enqueued_at_once": measures.WIDTH,
        },
        "seconds": round(time.monotonic() - begin, 1),
        "arms": {
            arm.name: {
                "title": contender.title,
                "native": contender.native,
                "settings": arm.settings,
                "best": arm.best,
            }
            for contender in there
            for arm in contender.arms
            if arm.best or wanted.defaults
        },
        "versions": {name: found.versions for name, found in environments.items()},
        "semantics": {contender.name: contender.semantics for contender in there},
        "unavailable": unavailable,
        "absent": cells.absent,
        "samples": samples,
    }


def _about(cells: plan.Plan, arguments: argparse.Namespace) -> str:
    seconds = cells.seconds(arguments.scale, arguments.backlog)
    return f"about {seconds / 60:.0f} minutes" if seconds > 90 else f"about {seconds:.0f} seconds"


def _plan(arguments: argparse.Namespace) -> int:
    """Says what would be measured, and about how long it would take. Nothing is installed for it."""
    cells = plan.make(arguments.contenders, _wanted(arguments))
    sums: dict[str, tuple[int, float]] = {}
    for cell in cells.cells:
        name = " ".join([cell.measure, str(cell.params.get("workload", ""))]).rstrip()
        name += f", +{cell.params['network_ms']:g} ms" if "network_ms" in cell.params else ""
        seconds = sum(
            cell.rounds * cell.seconds(arm, arguments.scale, arguments.backlog) for arm in cell.arms
        )
        count, before = sums.get(name, (0, 0.0))
        sums[name] = count + cell.rounds * len(cell.arms), before + seconds
    for name, (count, seconds) in sums.items():
        print(f"{name:30}{count:6} samples{seconds / 60:8.1f} minutes")
    print(f"{'in all':30}{cells.samples:6} samples, {_about(cells, arguments)}")
    return 0


def _wanted(arguments: argparse.Namespace) -> plan.Wanted:
    return plan.Wanted(
        measures=arguments.measures,
        workloads=arguments.workloads,
        concurrency=arguments.concurrency,
        samples=arguments.samples,
        defaults=not arguments.no_defaults,
    )


def _public(argv: list[str]) -> list[str]:
    """The arguments without what is only true on this machine: where the result goes, and paths."""
    said = [word for k, word in enumerate(argv) if "--output" not in (word, argv[k - 1] if k else "")]
    return [Path(word).name if word.startswith("/") else word for word in said if "--output=" not in word]


def _round_trips(target: Target) -> dict[str, float]:
    """Milliseconds of a PING, plain and through the slower network."""
    from redis import Redis

    def measure(url: str) -> float:
        took = []
        with Redis.from_url(url) as client:
            for _ in range(50):
                begin = time.perf_counter()
                client.ping()
                took.append((time.perf_counter() - begin) * 1e3)
        return round(statistics.median(took), 3)

    with target.delayed(plan.NETWORK_MS / 1e3) as url:
        return {"plain": measure(target.url), "delayed": measure(url)}


def _report(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report", description="The tables of a run again."
    )
    parser.add_argument("result", type=Path, help="the file that a run has written")
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="write benchmarks.md, its charts and the result there"
    )
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="with --docs: whose part between its marks is written too [the README.md beside that folder]",
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.docs:
            for path in page.publish(arguments.result, arguments.docs, arguments.readme):
                print(path)
        else:
            print(report.terminal(Figures.read(arguments.result)), end="")
    except (OSError, ValueError, KeyError) as error:
        print(f"{arguments.result} cannot be shown: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _contenders() -> int:
    for name in registry.names():
        contender = registry.load(name)
        try:
            environment(contender, lambda text: print(text, file=sys.stderr))
            state = "ready"
        except Unavailable as reason:
            state = f"not there: {reason}"
        print(f"{name:15} {contender.title}: {state}")
        for arm in contender.arms:
            print(f"{'':15}   {arm.variant}: {arm.settings}")
    return 0


def _words(known: Any) -> Any:
    def read(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return words

    return read


def _numbers(text: str) -> list[int]:
    return [_positive(int)(word) for word in text.split(",")]


def _positive(kind: Any) -> Any:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
        return value

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
