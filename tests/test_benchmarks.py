"""The benchmarks work: a tiny run of this project, its report, its gates, and nothing is left behind.

Contenders from outside are not run here: they have environments of their own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
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
from benchmarks.figures import Figures
from benchmarks.gate import calls, contenders, exact, kernels, pipeline, planted, revisions, trial
from benchmarks.gate.imports import imports
from benchmarks.gate.revisions import probe
from benchmarks.gate.scenarios import SCENARIOS
from benchmarks.micro.inputs import CASES
from benchmarks.progress import Progress
from benchmarks.server import Target
from benchmarks.targets import TARGETS
from saq import _speedups
from tests.conftest import SERVER_KIND
from tests.servers import Server

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


def test_the_readme_gets_its_part_and_keeps_the_rest(result_file: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nafter\n")
    docs = tmp_path / "docs"
    assert main(["report", str(result_file), "--docs", str(docs)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- benchmarks -->\n")
    assert text.endswith("\n<!-- end of benchmarks -->\nafter\n")
    assert "old" not in text
    assert "no-op jobs a second, concurrency 10" in text
    assert "python -m benchmarks --compare none" in text
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / target).is_file()
    # Once more: nothing changes. Where there is no place for it, nothing does either.
    assert main(["report", str(result_file), "--docs", str(docs)]) == 0
    assert readme.read_text() == text
    readme.write_text("nothing\n")
    assert main(["report", str(result_file), "--docs", str(docs)]) == 0
    assert readme.read_text() == "nothing\n"


def test_a_plan_is_told_and_nothing_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("an environment was made")

    monkeypatch.setattr("benchmarks.__main__.environment", refuse)
    assert main(["--compare", "all", "--plan"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:2]] == ["drain", "drain"]
    assert re.fullmatch(r"in all +\d+ samples, about \d+ minutes", said[-1])


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
            "round": round,
            "values": {"per_second": rate * k, "jobs": 900},
        }
        for arm, rate in {"saq/default": 1000.0, **medians}.items()
        for round, k in enumerate((0.9, 1.0, 1.2))
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
    assert report.losses(figures) == ["async no-op at 10: fast 4.00 ×"]  # noqa: RUF001


def test_targets_are_ratios_of_medians_with_the_spread_of_their_rounds() -> None:
    figures = made_up(**{"saq-upstream/tuned": 50.0, "bullmq/default": 900.0})
    found = {target.title: target for target in TARGETS}
    target = found["no-op drain at 10, against SAQ 0.26.4"]
    reading = target.read(figures)
    assert reading is not None
    assert reading.figure.median == 20.0
    assert (reading.ours, reading.theirs) == ("1,000/s (900 jobs)", "50.0/s (900 jobs)")
    assert target.reached(20.0)
    assert not target.reached(9.999)
    reading = found["no-op drain at 10, against BullMQ"].read(figures)
    assert reading is not None
    assert reading.figure.median == pytest.approx(1000 / 900)
    assert found["connections of a worker at 100"].read(figures) is None
    # Rounds that went apart show in the spread, and not in the number.
    for sample in figures.samples:
        if sample["arm"] == "bullmq/default":
            sample["round"] = 2 - sample["round"]
    reading = found["no-op drain at 10, against BullMQ"].read(figures)
    assert reading is not None
    assert reading.figure.median == pytest.approx(1000 / 900)
    assert (reading.figure.low, reading.figure.high) == pytest.approx((1000 / 1200, 1200 / 810))


def test_charts_are_well_formed() -> None:
    rows = [charts.Bar("a & b <c>", 12.5, 10, 14, True), charts.Bar("d", 3, 3, 3)]
    bars = ElementTree.fromstring(charts.bars("Title & more", "note", rows, stats.number))
    assert len([rect for rect in bars.iter(f"{SVG}rect") if "bar" in rect.attrib["class"]]) == 2
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
    assert workloads.ideal_seconds(100, [3, 99], 10) == pytest.approx(
        sum(durations[i] for i in range(100) if i not in (3, 99)) / 1000 / 10
    )
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
    told = tally.report()
    assert (told["count"], told["sum"], told["distinct"]) == (1000, 499500, 1000)
    assert len(set(told["first"])) == 100


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
        ours = any(arm.contender.name in registry.OURS for arm in cell.arms)
        assert cell.rounds == (5 if ours else plan.AT_MOST.get(cell.measure, 5))
    drains = [cell for cell in made.cells if cell.measure == "drain" and not cell.params.get("network_ms")]
    assert len(drains) == len(workloads.WORKLOADS) * len(workloads.CONCURRENCY)
    for cell in drains:
        there = {arm.contender.name for arm in cell.arms}
        missing = {
            entry["arm"].partition("/")[0]
            for entry in made.absent
            if (entry.get("workload"), entry.get("concurrency"))
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


# The gates --------------------------------------------------------------------------------------------------


def test_the_record_covers_every_scenario_and_reads_well() -> None:
    text = exact.RECORD.read_text()
    recorded = json.loads(text)
    assert list(recorded["scenarios"]) == list(SCENARIOS)
    for counted in recorded["python calls"].values():
        assert counted.keys() == SCENARIOS.keys()
    assert exact.as_text(recorded) == text
    assert not list(exact.differences(recorded, recorded))


def changed(**row: Any) -> set[str]:
    """What is named when a scenario has changed so."""
    recorded = {
        "calls": {"EVALSHA": 1.0},
        "trips": 1.0,
        "inside": {"hset": 2.0},
        "bytes in": 200.0,
        "memory": 196,
        "left": ["jobs"],
    }
    return {difference.text for difference in exact.row_differences("a", recorded, recorded | row)}


def test_a_counter_that_is_not_as_recorded_is_named_for_better_or_worse() -> None:
    assert changed() == set()
    assert changed(calls={"EVALSHA": 1.0, "PING": 1.0}) == {"calls PING 0 → 1 per operation"}
    assert changed(calls={}) == {"calls EVALSHA 1 → 0 per operation"}
    assert changed(trips=2.0) == {"trips 1 → 2 per operation"}
    assert changed(inside={"hset": 2.005}) == {"inside HSET 2 → 2.005 per operation"}
    assert changed(left=["jobs", "meta"]) == {"left ['jobs'] → ['jobs', 'meta']"}
    assert changed(**{"bytes in": 201.0, "memory": 200}) == set()
    assert changed(**{"bytes in": 198.0, "memory": 180}) == {
        "bytes in 200 → 198 per operation",
        "memory 196 → 180 per operation",
    }


def test_imports_and_calls_that_are_not_as_recorded_are_named() -> None:
    recorded = json.loads(exact.RECORD.read_text())
    version = next(iter(recorded["python calls"]))
    name = next(iter(SCENARIOS))
    found = json.loads(exact.RECORD.read_text())
    found["imports"]["own"].append("saq.web.app")
    found["imports"]["others"].remove("asyncio")
    found["python calls"] = {version: found["python calls"][version], "2.7": {}}
    found["python calls"][version][name] += 1
    del found["scenarios"][name]
    texts = [difference.text for difference in exact.differences(recorded, found)]
    assert texts[:2] == ["imports its module saq.web.app", "no longer imports the module asyncio"]
    assert texts[2] == "is on record and was not measured"
    assert texts[3].startswith("python calls ")
    assert len(texts) == 4


def test_imports_are_those_of_saq() -> None:
    found = imports()
    assert {"saq.job", "saq.queue.base", "saq.worker.worker"} <= set(found.own)
    assert {"asyncio", "orjson"} <= set(found.others)
    # What nobody pays for who does not use it.
    assert not {"redis", "aiohttp", "saq.web", "saq.cli"} & {*found.own, *found.others}
    assert found.all > len(found.own) + len(found.others)


def test_commands_and_round_trips_are_counted_apart() -> None:
    with Server() as server:
        alone = exact.measure_one(server, SCENARIOS["read a job"])
        together = exact.measure_one(server, SCENARIOS["read ten jobs at once"])
        planted_in = exact.measure_one(server, planted.with_command)
    assert alone["calls"] == together["calls"] == {"EVALSHA": 1.0}
    assert (alone["trips"], together["trips"]) == (1.0, 0.1)
    assert planted_in["calls"] == {"EVALSHA": 1.0, "PING": 1.0}
    assert planted_in["trips"] == 2.0
    # What the client sends is not counted again among what the scripts do.
    assert "ping" not in planted_in["inside"]
    assert 100 < planted_in["memory"] < 500


def test_one_python_call_more_is_counted_as_one() -> None:
    with Server() as server:
        counted = calls.count(server, planted.__name__)
    assert counted["planted"] == counted["plain"] + 1


def test_every_other_round_of_a_trial_is_the_mirror_image_of_the_one_before() -> None:
    rounds = [trial.order(round) for round in range(6)]
    assert len(set(rounds)) == 6
    assert all(rounds[k] == rounds[k + 1][::-1] for k in (0, 2, 4))


def made_up_trial(head: float, copy: float = 1.0, noise: float = 0.0, seconds: bool = True) -> trial.Trial:
    """Nine rounds in which head and copy take so many times as long as the base."""
    shifts = [1 + noise * k / 4 for k in range(-4, 5)]
    values = [(1.0, head * shift, copy * shift) for shift in shifts]
    if not seconds:
        values = [(1 / base, 1 / slow, 1 / other) for base, slow, other in values]
    return trial.Trial("made up", seconds, values)


@pytest.mark.parametrize("seconds", [True, False])
def test_slower_is_what_is_beyond_the_limit_and_beyond_the_control(seconds: bool) -> None:
    slow = made_up_trial(1.3, seconds=seconds)
    assert slow.slower.median == pytest.approx(1.3)
    assert slow.is_slower(0.25)
    assert not slow.is_slower(0.35)
    assert not made_up_trial(0.7, seconds=seconds).is_slower(0.25)
    # Where the base differs from itself by as much, nothing is said.
    assert not made_up_trial(1.3, noise=0.8, seconds=seconds).is_slower(0.25)
    assert made_up_trial(2.5, noise=0.8, seconds=seconds).is_slower(0.25)
    # The head is compared with both copies of the base: what shifts one alone does not shift the verdict.
    assert made_up_trial(1.2, copy=1.2, seconds=seconds).slower.median == pytest.approx(1.2**0.5)


def test_an_interval_grows_narrower_with_the_number_of_samples() -> None:
    few, many = (trial.Ratio.of([1 + k / n for k in range(n)]) for n in (5, 101))
    assert (few.low, few.high) == (1.0, 1.8)
    assert 0 < many.high - many.low < 0.2


def test_a_table_says_who_was_slower_and_what_was_not_compared() -> None:
    lines = list(
        trial.table(
            [
                made_up_trial(1.3),
                made_up_trial(1.3, noise=0.8),
                trial.Trial("lacking", False, absent="AttributeError: enqueue_many"),
                trial.Trial("broken", False, failures=["Wrong: 3 jobs were lost"]),
            ],
            0.25,
        )
    )
    assert "+30.0 %" in lines[1]
    assert lines[1].endswith("✗ slower")
    assert lines[2].endswith("? so is the control: take more --samples")
    assert "enqueue_many" in lines[3]
    assert "✗" in lines[4]
    assert "3 jobs were lost" in lines[4]


ENQUEUE = trial.PROBES[2]


def test_a_trial_measures_every_side_and_names_what_a_base_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SCALE", 0.01)
    whole = probe("this checkout", ROOT).environment
    (tmp_path / "sitecustomize.py").write_text("from saq.queue.base import Queue\ndel Queue.enqueue_many\n")
    path = os.pathsep.join([str(tmp_path), whole.env["PYTHONPATH"]])
    older = dataclasses.replace(whole, env=whole.env | {"PYTHONPATH": path})

    def run(base: Any, head: Any) -> list[trial.Trial]:
        return trial.run({"base": base, "head": head, "copy": base}, 1, Progress(), [ENQUEUE])

    for one in run(whole, whole):
        assert len(one.rounds) == 1
        assert not one.absent
        assert not one.failures
        assert one.slower.median > 0
    for one in run(older, whole):
        assert "enqueue_many" in one.absent
        assert not one.failures
        assert not one.rounds
    for one in run(whole, older):
        assert "enqueue_many" in one.failures[0]
        assert not one.rounds


@pytest.fixture
def small_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, and changes since."""
    root = tmp_path / "checkout"
    package = root / "saq"
    package.mkdir(parents=True)
    monkeypatch.setattr(revisions, "ROOT", root)

    def git(*words: str) -> None:
        settings = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(root), *settings, *words], check=True, capture_output=True)

    (package / "__init__.py").write_text("NUMBER = 1\n")
    (package / "gone.py").write_text("")
    (root / ".gitignore").write_text("*.so\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (package / "__init__.py").write_text("NUMBER = 2\n")
    (package / "new.py").write_text("")
    (package / "old.so").write_text("")
    (package / "gone.py").unlink()
    return root


def test_a_revision_and_the_working_tree_are_copied_as_they_are(
    small_repository: Path, tmp_path: Path
) -> None:
    made = revisions.copies("HEAD", tmp_path / "copies")
    assert made[1].title == "the working tree"
    assert made[0].title.startswith("HEAD (")
    contents = []
    for name in ("base", "head", "copy"):
        package = tmp_path / "copies" / name / "saq"
        files = {path.name for path in package.iterdir() if path.is_file()}
        contents.append(((package / "__init__.py").read_text(), files))
    base = ("NUMBER = 1\n", {"__init__.py", "gone.py"})
    assert contents == [base, ("NUMBER = 2\n", {"__init__.py", "new.py"}), base]
    assert not any(copy.compiled for copy in made)


def test_what_cannot_be_compared_says_why(
    small_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", "--against", "nonsense"]) == 2
    assert "there is no revision 'nonsense'" in capsys.readouterr().out
    (small_repository / "saq" / "__init__.py").write_text("import something_that_is_not_installed\n")
    assert main(["gate", "--against", "HEAD"]) == 2
    said = capsys.readouterr().out
    assert "the working tree cannot be imported" in said
    assert "something_that_is_not_installed" in said


def test_floors_and_ceilings_can_be_missed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "ROUNDS", 1)
    for limit, held in ((0.0, True), (1e6, False)):
        monkeypatch.setattr(pipeline, "FLOOR", limit)
        assert pipeline.check(Progress(), jobs=500) is held
    floor = contenders.FLOORS[0]
    ours, theirs = (registry.load(name).best for name in ("saq", floor.contender))

    def samples(rate: float) -> list[dict[str, Any]]:
        where = {"workload": floor.workload, "concurrency": floor.concurrency}
        mine = {"arm": ours.name, **where, "values": {"per_second": rate}}
        return [mine, {"arm": theirs.name, **where, "values": {"per_second": 1.0}}]

    assert contenders.judge(floor, ours, theirs, samples(floor.times * 1.1)) is True
    assert contenders.judge(floor, ours, theirs, samples(floor.times * 0.9)) is False
    assert contenders.judge(floor, ours, theirs, samples(1.0)[:1]) is None
    assert contenders.judge(floor, ours, theirs, samples(1.0)[1:]) is False
    assert f"floor {floor.times:g}" in capsys.readouterr().out


@pytest.mark.skipif(not _speedups.COMPILED, reason="compares compiled kernels")
def test_a_kernel_above_its_ceiling_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "CASES", CASES[:2])
    monkeypatch.setattr(kernels, "ROUNDS", 2)
    first, second = (name for name, *_ in CASES[:2])
    monkeypatch.setattr(kernels, "CEILINGS", {first: 0.001, second: 100.0})
    assert not kernels.check(Progress(), strict=False)
    said = capsys.readouterr().out
    assert f"✗ {first}" in said
    assert "1 of 2" in said


def test_what_is_missing_fails_only_if_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_else(contender: registry.Contender, say: Any) -> environments.Environment:
        if contender.kind != "checkout":
            raise environments.Unavailable("the package index does not answer")
        return environments.environment(contender, say)

    monkeypatch.setattr(contenders, "environment", nobody_else)
    monkeypatch.setattr(_speedups, "COMPILED", False)
    for strict in (False, True):
        assert contenders.check(Progress(), strict) is not strict
        said = capsys.readouterr().out
        assert "arq is not there: the package index does not answer" in said
        assert kernels.check(Progress(), strict) is not strict
        assert "not compiled" in capsys.readouterr().out


def test_wrong_arguments_of_the_gate_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, word in (
        (["fast"], "fast"),
        (["--samples", "0", "--against", "HEAD"], "--samples"),
        (["exact", "--update"], "--update"),
    ):
        with pytest.raises(SystemExit):
            main(["gate", *argv])
        assert word in capsys.readouterr().err


# Runs that are ended ----------------------------------------------------------------------------------------


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
