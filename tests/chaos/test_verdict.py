"""The checks of the chaos run can fail: each goes red on what it is there to find."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from saq.job import Status
from tests.chaos import report
from tests.chaos.census import Census
from tests.chaos.evidence import Attempt, Evidence, function_of
from tests.chaos.functions import TOO_LATE
from tests.chaos.process import Life
from tests.chaos.run import Plan, Run
from tests.chaos.timeline import POWER_LOSS, Event
from tests.chaos.verdict import CHECKS, judge
from tests.conftest import SERVER_KIND
from tests.servers import Server


class Finished(NamedTuple):
    """A run with nothing broken by the nemesis, and its server."""

    run: Run
    evidence: Evidence
    server: Server


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with Server(SERVER_KIND, appendonly="yes", appendfsync="always", save="") as server:
        plan = Plan(seed=1, seconds=3.0, every=0.0, server=SERVER_KIND)
        run = Run(plan, server, tmp_path_factory.mktemp("chaos"), lambda text: None)
        yield Finished(run, run.go(), server)


@pytest.fixture
def evidence(finished: Finished) -> Evidence:
    return copy.deepcopy(finished.evidence)


@pytest.mark.timeout(90)
def test_a_run_with_nothing_broken_has_nothing_wrong(finished: Finished):
    assert {name: found for name, found in judge(finished.evidence).items() if found} == {}
    assert len(finished.evidence.acknowledged()) > 100


def red(evidence: Evidence) -> set[str]:
    return {name for name, found in judge(evidence).items() if found}


def complete(evidence: Evidence, function: str = "quick") -> str:
    """The key of a job that is complete and ran once."""
    for key, record in evidence.records.items():
        once = len(evidence.attempts[key]) == 1
        if record.status is Status.COMPLETE and function_of(key) == function and once:
            return key
    raise AssertionError("no such job")


def again(attempt: Attempt, after: float = 0.1) -> Attempt:
    """The same run once more."""
    ended = attempt.ended or attempt.began
    return attempt._replace(number=attempt.number + 1, began=ended + after, ended=ended + 2 * after)


# What is planted, and the checks that have to find it ------------------------------------------------------


def a_loss(evidence: Evidence) -> None:
    del evidence.records[complete(evidence)]


def a_second_run(evidence: Evidence) -> None:
    attempts = evidence.attempts[complete(evidence)]
    attempts.append(again(attempts[0]))


def a_second_outcome(evidence: Evidence) -> None:
    evidence.stats["complete"] += 1


def a_second_acceptance(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.accepted[key, evidence.attempts[key][0].life] = 2


def a_job_from_nowhere(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.attempts["p9-1-quick"] = [evidence.attempts[key][0]._replace(key="p9-1-quick")]


def a_false_duplicate(evidence: Evidence) -> None:
    evidence.said["duplicate"]["p0-1-quick", "p01"] = (0.0, {})


def a_failed_job(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.records[key] = evidence.records[key]._replace(status=Status.FAILED, error="swept")


def a_result_of_another_attempt(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.records[key] = evidence.records[key]._replace(attempts=7)


def a_job_that_kills_on(evidence: Evidence) -> None:
    first = evidence.attempts[complete(evidence)][0]
    evidence.attempts["p0-9-deadly"] = [first._replace(key="p0-9-deadly", number=n) for n in range(4)]


def two_lives_of_a_key_at_once(evidence: Evidence) -> None:
    first = evidence.attempts[complete(evidence)][0]
    key, began = "u-9-unique", time.time()
    evidence.attempts[key] = [
        first._replace(key=key, life="a", began=began, ended=began + 1),
        first._replace(key=key, life="b", began=began + 0.5, ended=began + 2),
    ]


def too_many_at_once(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.attempts[key] *= 30


def a_tick_that_came_twice(evidence: Evidence) -> None:
    evidence.stats["enqueued"] += 1
    evidence.stats["complete"] += 1


def a_waiter_without_an_answer(evidence: Evidence) -> None:
    evidence.said["told"].popitem()


def a_waiter_with_a_wrong_answer(evidence: Evidence) -> None:
    job = next(job for job, (_, more) in evidence.said["told"].items() if more["status"] == "complete")
    evidence.records[job[0]] = evidence.records[job[0]]._replace(result=[0, 0, 0])


def an_abort_that_was_lost(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.said["aborted"][key, ""] = (0.0, {"answer": True})


def a_refusal_that_was_none(evidence: Evidence) -> None:
    key = complete(evidence)
    evidence.said["refused"][key, evidence.attempts[key][0].life] = (0.0, {"error": "OOM"})


def an_outage_of_memory_without_effect(evidence: Evidence) -> None:
    evidence.events += [Event("out of memory", 0.0, 1.0)] * 3


def a_job_in_two_places(evidence: Evidence) -> None:
    evidence.census.append("k is queued and active")


def a_list_that_is_not_empty(evidence: Evidence) -> None:
    evidence.lengths["runs"] = 1


def a_key_that_nobody_knows(evidence: Evidence) -> None:
    evidence.names["surprise"] = False


def an_answer_that_is_kept_for_ever(evidence: Evidence) -> None:
    evidence.names["last:abc"] = False


def a_task(evidence: Evidence) -> None:
    evidence.left.append((1, ["saq-fetcher-0"]))


def a_process(evidence: Evidence) -> None:
    evidence.notes.append("process 1: python")


def a_crash(evidence: Evidence) -> None:
    evidence.lives.append(Life("worker-0", 999_999_999, 0.0, 1.0, -11))


def a_complaint(evidence: Evidence) -> None:
    evidence.logs.append("worker-0: Task was destroyed but it is pending!")


PLANTED: dict[Callable[[Evidence], None], str] = {
    a_loss: "every acknowledged job has ended",
    a_second_run: "extra runs are explained by faults",
    a_second_outcome: "it has one accepted outcome",
    a_second_acceptance: "it has one accepted outcome",
    a_job_from_nowhere: "nothing comes from nowhere",
    a_false_duplicate: "nothing comes from nowhere",
    a_failed_job: "each outcome is the right one",
    a_result_of_another_attempt: "its result is that of the accepted attempt",
    a_job_that_kills_on: "crashes are counted apart from failures",
    two_lives_of_a_key_at_once: "unique keys are held",
    too_many_at_once: "limits are held",
    a_tick_that_came_twice: "each cron tick came at most once",
    a_waiter_without_an_answer: "every waiter was answered",
    a_waiter_with_a_wrong_answer: "every waiter was answered",
    an_abort_that_was_lost: "an abort that was accepted is one",
    a_refusal_that_was_none: "what was refused is nowhere",
    an_outage_of_memory_without_effect: "what was refused is nowhere",
    a_job_in_two_places: "every key is in one place, at any time",
    a_list_that_is_not_empty: "no key is left over",
    a_key_that_nobody_knows: "no key is left over",
    an_answer_that_is_kept_for_ever: "no key is left over",
    a_task: "no task, thread, process or connection is left over",
    a_process: "no task, thread, process or connection is left over",
    a_crash: "every process ended as it should",
    a_complaint: "nobody complained",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(evidence: Evidence, plant: Callable[[Evidence], None]):
    plant(evidence)
    assert PLANTED[plant] in red(evidence)


def test_every_check_but_the_recount_has_something_planted_for_it():
    assert CHECKS.keys() - set(PLANTED.values()) == {"the counters equal a recount"}


def test_a_miscount_is_found(evidence: Evidence):
    evidence.stats["failed"] += 1
    evidence.stats["complete"] -= 1
    assert red(evidence) == {"the counters equal a recount"}


# What explains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "explains"),
    [("kill a worker", True), ("freeze a worker past its lease", True), ("flush scripts", False)],
)
def test_a_fault_explains_a_second_run_if_it_took_the_job_from_that_worker(
    evidence: Evidence, fault: str, explains: bool
):
    attempts = evidence.attempts[complete(evidence)]
    attempts.append(again(attempts[0]))
    at = attempts[0].began
    check = "extra runs are explained by faults"
    assert check in red(with_event(evidence, Event(fault, at, at, (1,))))
    assert (check not in red(with_event(evidence, Event(fault, at, at, (attempts[0].pid,))))) is explains


def with_event(evidence: Evidence, event: Event) -> Evidence:
    changed = copy.deepcopy(evidence)
    later = Evidence(evidence.folder, [event], [], evidence.seconds, lossy=event.fault == POWER_LOSS)
    changed.takers, changed.power_losses, changed.lossy = later.takers, later.power_losses, later.lossy
    return changed


def test_a_server_may_lose_what_it_acknowledged_in_its_last_second_and_nothing_else(evidence: Evidence):
    key = complete(evidence)
    del evidence.records[key]
    (at,) = (at for (name, _), at in evidence.acknowledged().items() if name == key)
    check = "every acknowledged job has ended"
    assert check not in red(with_event(evidence, Event(POWER_LOSS, at - 0.2, at + 0.2)))
    assert check in red(with_event(evidence, Event(POWER_LOSS, at + 2, at + 3)))
    # Its answer lay in a connection that passed nothing for a while: the server gave it before.
    loss = Event(POWER_LOSS, at - 3, at - 2)
    assert check in red(with_event(evidence, loss))
    job = next(job for job in evidence.said["intent"] if job[0] == key)
    evidence.said["intent"][job] = at - 4, {}
    assert check not in red(with_event(evidence, loss))


def test_a_tick_that_came_while_the_last_worker_stopped_is_aborted(evidence: Evidence):
    tick = next(key for key in evidence.records if function_of(key) == "ticking")
    record = evidence.records[tick]._replace(status=Status.ABORTED, error=TOO_LATE)
    evidence.records[tick] = record
    assert "each outcome is the right one" not in red(evidence)
    evidence.records[tick] = record._replace(error="for no reason")
    assert "each outcome is the right one" in red(evidence)


# The census -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "undo", "found"),
    [
        ("ZADD queued 1 ghost", "ZREM queued ghost", "ghost is queued and no job"),
        ("ZADD active 1 12:ghost", "ZREM active 12:ghost", "ghost is active and no job"),
        ("HSET runs ghost x", "HDEL runs ghost", "ghost is in runs and no job"),
        ("HSET jobs ghost x", "HDEL jobs ghost", "ghost is incomplete and in no list"),
        ("HINCRBY stats complete 1", "HINCRBY stats complete -1", "counted as incomplete: -1, and 0 are"),
    ],
)
def test_the_census_finds_what_is_in_the_wrong_place(finished: Finished, plant: str, undo: str, found: str):
    client, prefix = finished.server.client(), "saq:{default}:"

    def do(command: str) -> None:
        verb, name, *rest = command.split()
        client.execute_command(verb, f"{prefix}{name}", *rest)

    census = Census(client.execute_command, prefix)
    assert census.take() == 0
    assert census.wrong == []
    do(plant)
    try:
        census.take()
    finally:
        do(undo)
    assert any(found in line for line in census.wrong), census.wrong


# The report -----------------------------------------------------------------------------------------------


def test_a_page_gets_the_summary_of_a_run_between_its_marks(finished: Finished, tmp_path: Path):
    summary = report.summarize(finished.run, finished.evidence, judge(finished.evidence), 1.0)
    assert summary["passed"]
    (tmp_path / "run.json").write_bytes(report.dump(summary))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: chaos -->\nold\n<!-- end -->\nafter\n")
    report.write(page, [tmp_path / "run.json"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| every acknowledged job has ended | held |" in text
    assert "--seed 1 --seconds 3" in text
