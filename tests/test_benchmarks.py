"""The benchmarks work: a tiny run of this project, its report, and that a run leaves nothing behind.

Contenders from outside are not run here: they have environments of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from redis import Redis

from benchmarks import charts, environments, plan, registry, report, stats, workloads
from benchmarks.__main__ import main
from benchmarks.figures import TARGETS, Figures
from benchmarks.server import Target
from tests.conftest import SERVER_KIND

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
TINY = ["--compare", "none", "--server", SERVER_KIND, "--samples", "1", "--scale", "0.01"]


def load_agent() -> Any:
    """The module that runs in the contenders' environments, which is in no package."""
    spec = importlib.util.spec_from_file_location("bench_agent", environments.AGENT / "bench_agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of everything but the large backlog, as small as can be."""
    path = tmp_path_factory.mktemp("benchmarks") / "result.json"
    everything = "drain,enqueue,latency,cost,footprint,network,backlog"
    code = main(
        [
            *[*TINY, "--measures", everything, "--workloads", "async_noop,async_sleep,cpu"],
            *["--concurrency", "10", "--backlog", "2000", "--output", str(path)],
        ]
    )
    result = json.loads(path.read_text())
    assert code == 0, [sample for sample in result["samples"] if "failed" in sample]
    return path


@pytest.fixture(scope="module")
def figures(result_file: Path) -> Figures:
    return Figures.read(result_file)


def test_a_run_measures_everything(figures: Figures) -> None:
    ours = figures.ours
    for workload in ("async_noop", "async_sleep", "cpu"):
        [values] = figures.taken("drain", ours, workload=workload, concurrency=10)
        assert values["per_second"] == pytest.approx(values["jobs"] / values["seconds"])
        assert values["results_checked"] > 0
    [enqueue] = figures.taken("enqueue", ours)
    assert all(enqueue[mode] > 0 for mode in ("one", "concurrent", "bulk"))
    [latency] = figures.taken("latency", ours)
    assert 0 < latency["start_p50"] <= latency["result_p50"] <= latency["result_p99"]
    assert latency["map"] > 0
    [cost] = figures.taken("cost", ours)
    assert cost["cpu_us"] > 0
    assert 0 < cost["requests"] <= cost["operations"]
    assert cost["memory_queued"] > 50
    [footprint] = figures.taken("footprint", ours)
    assert 1 <= footprint["connections"] <= 4
    [backlog] = figures.taken("backlog", ours)
    assert backlog["large_jobs"] == 2000
    assert figures.noop(ours, 10, plan.NETWORK_MS) is not None


def test_a_result_says_how_it_was_made(figures: Figures) -> None:
    result = figures.result
    assert result["argv"][: len(TINY)] == TINY
    assert {"cpu", "kernel", "python", "load_before", "load_after", "git"} <= result["environment"].keys()
    assert result["environment"]["round_trip_ms"]["delayed"] > plan.NETWORK_MS
    versions = result["versions"][figures.ours.partition("/")[0]]
    assert {"saq", "kernels", "redis"} <= versions.keys()


def test_the_report_is_made_from_the_file_alone(
    result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result_file), "--docs", str(tmp_path)]) == 0
    page = (tmp_path / "benchmarks.md").read_text()
    for heading in ("Drain: async no-op", "Enqueue", "What a job costs Redis", "What is not the same"):
        assert f"## {heading}" in page
    assert "python -m benchmarks --compare none" in page
    assert str(ROOT) not in page
    for picture in (tmp_path / "benchmarks").glob("*.svg"):
        ElementTree.fromstring(picture.read_text())
        assert f"benchmarks/{picture.name}" in page
    published = tmp_path / "benchmarks" / "result.json"
    assert published.read_bytes() == result_file.read_bytes()
    # A second time, from what was published.
    assert main(["report", str(published), "--docs", str(tmp_path)]) == 0
    assert (tmp_path / "benchmarks.md").read_text() == page
    capsys.readouterr()
    assert main(["report", str(published)]) == 0
    assert "Drain: async no-op" in capsys.readouterr().out


def test_what_is_no_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    assert main(["report", str(path)]) == 1
    assert "schema" in capsys.readouterr().err


def made_up(**medians: float) -> Figures:
    """A result with drains of some arms, and a failure."""
    samples = [
        {
            "measure": "drain",
            "arm": arm,
            "workload": "async_noop",
            "concurrency": 10,
            "values": {"per_second": rate * k},
        }
        for arm, rate in {"saq/default": 1000.0, **medians}.items()
        for k in (0.9, 1.0, 1.2)
    ]
    samples.append({"measure": "cost", "arm": "saq/default", "failed": "Wrong: 3 jobs were lost"})
    return Figures(
        {
            "schema": 1,
            "samples": samples,
            "arms": {
                arm: {"native": "async", "settings": "some", "best": True}
                for arm in ("saq/default", *medians)
            },
            "environment": {"load_before": [0.0], "cpus": 2, "dirty": False},
            "settings": {"samples": 3, "scale": 1.0},
            "unavailable": {"sidekiq": "ruby is not on PATH"},
        }
    )


def test_tables_say_who_is_better() -> None:
    figures = made_up(**{"slow/default": 100.0, "fast/best": 4000.0})
    said = report.terminal(figures)
    assert "10.0 ×" in said  # noqa: RUF001
    assert "0.250 ×" in said  # noqa: RUF001
    assert "sidekiq is not there: ruby is not on PATH" in said
    assert "3 jobs were lost" in said
    assert "only 3 samples" in said
    assert report.losses(figures) == ["async no-op at 10: fast is 4.00 × as good"]  # noqa: RUF001


def test_targets_are_ratios_of_medians() -> None:
    figures = made_up(**{"saq-upstream/tuned": 50.0, "bullmq/default": 900.0})
    found = {target.title: (target, target.value(figures)) for target in TARGETS}
    target, value = found["no-op drain at 10, against SAQ 0.26.4"]
    assert value == 20.0
    assert target.reached(20.0)
    _, value = found["no-op drain at 10, against BullMQ"]
    assert value == pytest.approx(1000 / 900)


def test_charts_are_well_formed() -> None:
    rows = [charts.Bar("a & b <c>", 12.5, 10, 14, True), charts.Bar("d", 3, 3, 3)]
    bars = ElementTree.fromstring(charts.bars("Title & more", "note", rows, stats.number))
    assert len(bars.findall(f"{SVG}rect")) == 2
    assert "a & b <c>" in [text.text for text in bars.iter(f"{SVG}text")]
    points = [charts.Dots("a", [0.001, 0.01, 0.2], True), charts.Dots("b", [0.5, 0.5, 0.6])]
    dots = ElementTree.fromstring(charts.dots("T", "n", ("p50", "p95", "p99"), points, stats.duration))
    assert len(dots.findall(f"{SVG}circle")) == 2 * 3 + 3
    width = float(bars.attrib["width"])
    assert all(
        float(rect.attrib["x"]) + float(rect.attrib["width"]) < width for rect in bars.iter(f"{SVG}rect")
    )
    ElementTree.fromstring(charts.bars("empty", "", [], stats.number))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (123.4, "123"), (54321, "54,300"), (1234567, "1,230,000")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert stats.number(value) == text


def test_percentiles() -> None:
    values = list(range(1, 101))
    assert [stats.percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert stats.percentile([7.0], 99) == 7.0


def test_agent_and_harness_agree_on_the_jobs() -> None:
    agent = load_agent()
    durations = [workloads.duration_ms(i) for i in range(5000)]
    assert durations == [agent.argument("async_sleep", i, workloads.SEED, 1) for i in range(5000)]
    assert (min(durations), max(durations)) == (0, 50)
    assert sum(durations) / len(durations) / 1000 == pytest.approx(workloads.MEAN_SLEEP, rel=0.01)
    assert agent.argument("sync_cpu", 3, workloads.SEED, 10) == 10
    assert agent.churn(1, 2) == ((1103515245 + 12345) * 1103515245 + 12345) & 0x7FFFFFFF


def test_a_tally_tells_each_mark_once_from_any_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    agent = load_agent()
    said: list[dict[str, Any]] = []
    tally = agent.Tally(lambda **what: said.append(what), [1000, 100])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tally.hit, range(1000)))
    assert [what["n"] for what in said] == [100, 1000]
    assert tally.report() | {"stamps": []} == {"count": 1000, "sum": 499500, "distinct": 1000, "stamps": []}


def test_every_contender_is_described() -> None:
    assert set(registry.names()) == set(registry.ORDER)
    for contender in registry.pick("all"):
        assert contender.adapter.is_file()
        assert [arm.best for arm in contender.arms].count(True) == 1
        assert set(contender.workloads) <= set(workloads.WORKLOADS)
        assert contender.native in ("async", "sync")
        kinds = {"acknowledgement", "results", "retries", "durability", "sync", "end"}
        assert contender.semantics.keys() == kinds
        if contender.kind == "python":
            lines = (contender.folder / "requirements.txt").read_text().split()
            assert lines
            assert all("==" in line for line in lines)


def test_every_arm_begins_a_round_and_what_is_left_out_has_a_reason() -> None:
    wanted = plan.Wanted(samples=5)
    made = plan.make(registry.pick("all"), wanted)
    for cell in made.cells:
        first = [next(cell.order(round)) for round in range(len(cell.arms))]
        assert sorted(arm.name for arm in first) == sorted(arm.name for arm in cell.arms)
        assert cell.rounds == plan.AT_MOST.get(cell.measure, 5)
    drains = [cell for cell in made.cells if cell.measure == "drain" and not cell.params.get("network_ms")]
    assert len(drains) == len(workloads.WORKLOADS) * len(workloads.CONCURRENCY)
    for cell in drains:
        there = {arm.contender.name for arm in cell.arms}
        missing = {
            entry["arm"].partition("/")[0]
            for entry in made.absent
            if (entry["workload"], entry["concurrency"])
            == (cell.params["workload"], cell.params["concurrency"])
        }
        assert there | missing == set(registry.names())
        assert not there & missing
    assert all(entry["reason"] for entry in made.absent)


def test_a_contender_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    for name in ("bullmq", "sidekiq"):
        with pytest.raises(environments.Unavailable, match="PATH"):
            environments.environment(registry.load(name), print)


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, word in (
        (["--compare", "arc"], "arc"),
        (["--measures", "speed"], "speed"),
        (["--samples", "0"], "above 0"),
    ):
        with pytest.raises(SystemExit):
            main(argv)
        assert word in capsys.readouterr().err


def test_the_slower_network_delays_every_round_trip() -> None:
    with Target(SERVER_KIND) as target, target.delayed(0.02) as url, Redis.from_url(url) as client:
        begin = time.perf_counter()
        for _ in range(5):
            client.ping()
        assert time.perf_counter() - begin >= 5 * 0.02
        # What is sent together waits together.
        pipeline = client.pipeline(transaction=False)
        for _ in range(500):
            pipeline.ping()
        begin = time.perf_counter()
        assert pipeline.execute() == [True] * 500
        assert time.perf_counter() - begin < 500 * 0.02 / 2


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    mark = f"BENCH_TEST_MARK={os.getpid()}-{number}"
    name, _, value = mark.partition("=")
    output = tmp_path / "result.json"
    run = subprocess.Popen(
        [
            *[sys.executable, "-m", "benchmarks", *TINY, "--scale", "20", "--measures", "drain"],
            *["--workloads", "async_sleep", "--output", str(output)],
        ],
        cwd=ROOT,
        env=os.environ | {name: value, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with run:
        # The run, the guard of its server, the server, a client and a worker.
        _wait_until(lambda: len(_belonging(mark, tmp_path)) >= 5)
        run.send_signal(number)
        _, said = run.communicate(timeout=20)
    if number != signal.SIGKILL:
        assert run.returncode == 130
        assert b"interrupted" in said
    _wait_until(lambda: not _belonging(mark, tmp_path))
    assert list(tmp_path.iterdir()) == []


def _wait_until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def _belonging(mark: str, folder: Path) -> set[int]:
    """The processes with this in their environment, or at work in this folder."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # A server overwrites its environment with its title.
            at_work = Path(os.readlink(path / "cwd")).is_relative_to(folder)
            if at_work or mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                found.add(int(path.name))
        except OSError:
            continue
    return found
