"""Whether anything was lost.

Owns the invariants: each is a check with a name, which says what does not fit. What a fault may lead to is
said here as well, and as little as possible: only what takes a job from its worker explains a second run.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from saq.job import Status
from saq.queue.redis.keys import EXPLAINED
from tests.chaos.evidence import EMPTY as EMPTY
from tests.chaos.evidence import Attempt, Evidence, function_of
from tests.chaos.functions import CRASH, KINDS, LEASE, MAX_LOST, TOO_LATE
from tests.chaos.process import Life
from tests.chaos.timeline import THE_END, UNREACHABLE, Event
from tests.chaos.worker import VARIANTS

#: A fault may take its time to show: its lease has to end, and somebody to look.
SHOWS_WITHIN = 4 * LEASE
#: Between an acknowledgement and the line in a journal.
SLACK = 0.5
#: Seconds that a worker has to end after SIGTERM: grace, hard deadlines, delivery, leaving.
STOPS_WITHIN = 15.0

Check = Callable[[Evidence], Iterator[str]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Makes a function a check of that name."""

    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


def judge(evidence: Evidence) -> dict[str, list[str]]:
    """What does not fit, by the name of the check; an empty list is a good one."""
    return {name: list(function(evidence)) for name, function in CHECKS.items()}


def lost_with_power(evidence: Evidence) -> list[tuple[str, str]]:
    """Acknowledged jobs that the server itself lost, as `appendfsync everysec` allows it to."""
    return [
        job
        for job, at in evidence.acknowledged().items()
        if _is_gone(evidence, job) and _rolled_back(evidence, job, at)
    ]


# Jobs and their outcomes ----------------------------------------------------------------------------------


@check("every acknowledged job has ended")
def _nothing_lost(evidence: Evidence) -> Iterator[str]:
    excused = _replaced_failures(evidence)
    for job, at in evidence.acknowledged().items():
        if _is_gone(evidence, job) and not _rolled_back(evidence, job, at) and job not in excused:
            where = evidence.incomplete.get(job[0])
            yield f"{job[0]} was acknowledged, and {f'is still {where}' if where else 'is nowhere'}"


def _is_gone(evidence: Evidence, job: tuple[str, str]) -> bool:
    key, life = job
    if function_of(key) == "unique":  # the record is that of its key's latest life
        return not any(attempt.life == life and attempt.returned for attempt in evidence.attempts[key])
    return key not in evidence.records


def _replaced_failures(evidence: Evidence) -> set[tuple[str, str]]:
    """Lives of unique keys that have failed because their workers died, and whose record that of a later life
    has replaced: nothing is left of them but that they were counted, and the counters must say that."""
    acknowledged = evidence.acknowledged()
    gone = {job for job in acknowledged if function_of(job[0]) == "unique" and _is_gone(evidence, job)}
    failed = evidence.stats.get("failed", 0) - _kept(evidence, Status.FAILED)
    complete = _kept(evidence, Status.COMPLETE) + _extra_lives(evidence) - evidence.stats.get("complete", 0)
    return gone if (failed, complete) == (len(gone), _tried(evidence, gone)) else set()


def _tried(evidence: Evidence, jobs: set[tuple[str, str]]) -> int:
    """How many of these have been started."""
    return sum(any(attempt.life == life for attempt in evidence.attempts[key]) for key, life in jobs)


def _kept(evidence: Evidence, status: Status) -> int:
    return sum(record.status is status for record in evidence.records.values())


def _rolled_back(evidence: Evidence, job: tuple[str, str], at: float) -> bool:
    """Whether a server that lost its power may have forgotten what was said of a job at that time.

    The server may have said it earlier: an answer lies in a connection that passes nothing for a while."""
    asked = min(at, evidence.said["intent"].get(job, (at, {}))[0])
    return any(event.at - SLACK <= at and asked <= event.until + SLACK for event in evidence.power_losses)


@check("it has one accepted outcome")
def _one_outcome(evidence: Evidence) -> Iterator[str]:
    stats = evidence.stats
    ended = sum(stats.get(status, 0) for status in ("complete", "failed", "aborted"))
    if ended != stats.get("enqueued", 0):
        yield f"{stats.get('enqueued', 0)} jobs were taken in, and {ended} outcomes accepted"
    if evidence.lossy:
        return
    for (key, life), times in evidence.accepted.items():
        if times > 1:
            yield f"{key} {life}: {times} outcomes were accepted"


@check("nothing comes from nowhere")
def _from_nowhere(evidence: Evidence) -> Iterator[str]:
    known = {key for key, _ in evidence.said["intent"]}
    for key in evidence.attempts.keys() | evidence.records.keys():
        if key not in known and function_of(key) != "ticking":
            yield f"{key} is there, and nobody has enqueued it"
    for key, _ in evidence.said["duplicate"]:
        if function_of(key) != "unique":
            yield f"{key} is new, and was called a duplicate"


@check("each outcome is the right one")
def _right_outcome(evidence: Evidence) -> Iterator[str]:
    for key, record in evidence.records.items():
        kind = KINDS[function_of(key)]
        if record.error == TOO_LATE and function_of(key) == "ticking":
            continue
        if record.status is Status.FAILED and record.error.startswith("lost: ") and _was_lost(evidence, key):
            continue  # its workers were killed again and again: as far as anybody can tell, by this job
        if record.status is not kind.status:
            yield f"{key} is {record.status.value}, not {kind.status.value}: {record.error[-200:]}"
        elif kind.error not in record.error:
            yield f"{key} says {record.error[-200:]!r} and not {kind.error!r}"


def _was_lost(evidence: Evidence, key: str) -> bool:
    """Whether as many faults as it takes may have hit the workers of this job."""
    attempts = evidence.attempts[key]
    hit = sum(_explained(evidence, attempt, attempt.began + 60) for attempt in attempts)
    return evidence.records[key].attempts >= MAX_LOST and hit >= len(attempts) - 1


@check("its result is that of the accepted attempt")
def _right_result(evidence: Evidence) -> Iterator[str]:
    for key, record in evidence.records.items():
        function = function_of(key)
        if record.status is not Status.COMPLETE or function == "ticking":
            continue
        if not isinstance(record.result, list) or len(record.result) != 3:
            yield f"{key} has the result {record.result!r}"
            continue
        doubled, number, pid = record.result
        if doubled != record.number * 2:
            yield f"{key} has the result {doubled}"
        if number != record.attempts:
            yield f"{key} ended in attempt {record.attempts}, and its result is that of attempt {number}"
        if not any(a.pid == pid and a.number == number and a.returned for a in evidence.attempts[key]):
            yield f"{key} is complete, and the attempt that it names never returned"


# Runs -----------------------------------------------------------------------------------------------------


@check("extra runs are explained by faults")
def _extra_runs(evidence: Evidence) -> Iterator[str]:
    for attempts, following, allowed in _lives(evidence):
        unexplained = [
            attempt
            for attempt, after in zip(attempts, following, strict=False)
            if not _explained(evidence, attempt, after.began)
        ]
        if len(unexplained) >= max(1, allowed):
            first = unexplained[0]
            yield (
                f"{first.key} ran {len(attempts)} times; nothing took attempt {first.number} of "
                f"{first.began:.3f} from worker {first.worker} (process {first.pid})"
            )


def _lives(evidence: Evidence) -> Iterator[tuple[list[Attempt], list[Attempt], int]]:
    """For each job its attempts, those that followed another, and how many it needs by itself."""
    for key, attempts in evidence.attempts.items():
        by_life: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            by_life[attempt.life].append(attempt)
        for life in by_life.values():
            yield life, life[1:], KINDS[function_of(key)].attempts


def _explained(evidence: Evidence, attempt: Attempt, again: float) -> bool:
    """Whether something took this attempt's job away from it before it was run again."""
    return any(
        event.at - SLACK <= again and event.until + SHOWS_WITHIN >= attempt.began and _hit(event, attempt)
        for event in evidence.takers
    )


def _hit(event: Event, attempt: Attempt) -> bool:
    if event.pids:
        return attempt.pid in event.pids
    return not event.workers or attempt.worker in event.workers


def explanations(evidence: Evidence) -> Counter[str]:
    """How often which fault explains an extra run."""
    found: Counter[str] = Counter()
    for attempts, following, _ in _lives(evidence):
        for attempt, after in zip(attempts, following, strict=False):
            names = {
                event.fault
                for event in evidence.takers
                if event.at - SLACK <= after.began
                and event.until + SHOWS_WITHIN >= attempt.began
                and _hit(event, attempt)
            }
            found[min(names, default="(the job itself)")] += 1
    return found


@check("crashes are counted apart from failures")
def _crashes_apart(evidence: Evidence) -> Iterator[str]:
    for key, attempts in evidence.attempts.items():
        if function_of(key) == "deadly" and len(attempts) > MAX_LOST and not evidence.lossy:
            yield f"{key} ended {len(attempts)} workers, and should have ended {MAX_LOST}"
    for key, record in evidence.records.items():
        # One attempt is all they have: a crash that counted as a failure would have failed them.
        # A claim that its worker never heard of, or did not live to start, is a start as well.
        died = record.error.startswith("lost: ") and record.attempts >= MAX_LOST
        failed = KINDS[function_of(key)].status is Status.COMPLETE and record.status is Status.FAILED
        if failed and not died:
            yield f"{key} failed after {record.attempts} starts: {record.error[-200:]}"


@check("unique keys are held")
def _unique(evidence: Evidence) -> Iterator[str]:
    """No two lives of a key run at once. Of a worker that was cut off, a late end says nothing."""
    for key, attempts in evidence.attempts.items():
        if function_of(key) not in ("unique", "ticking"):
            continue
        whole = [a for a in attempts if a.ended is not None and not _explained(evidence, a, a.ended)]
        for one, other in itertools.pairwise(whole):
            assert one.ended is not None
            if one.life != other.life and other.began < one.ended - 0.001:
                yield f"{key}: {one.life} ran until {one.ended:.3f}, {other.life} from {other.began:.3f}"


@check("limits are held")
def _limits(evidence: Evidence) -> Iterator[str]:
    by_process: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for attempts in evidence.attempts.values():
        for attempt in attempts:
            if attempt.ended is not None:
                changes = by_process[attempt.worker, attempt.pid]
                changes += [(attempt.began, 1), (attempt.ended, -1)]
    for (worker, pid), changes in by_process.items():
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        limit = VARIANTS[int(worker)].concurrency
        if most > limit:
            yield f"worker {worker} (process {pid}) ran {most} jobs at once, and may run {limit}"


@check("each cron tick came at most once")
def _cron(evidence: Evidence) -> Iterator[str]:
    ticks = [key for key in evidence.records if function_of(key) == "ticking"]
    if evidence.seconds >= 20 and len(ticks) < evidence.seconds / 4:
        yield f"{len(ticks)} ticks in {evidence.seconds:g} seconds"
    if not evidence.lossy:
        # A tick that was enqueued twice would have been counted twice, and has but one record.
        jobs = len(evidence.records) + _extra_lives(evidence)
        if jobs != evidence.stats.get("enqueued", 0):
            yield f"{jobs} jobs and ticks are known, and {evidence.stats.get('enqueued', 0)} were taken in"


def _extra_lives(evidence: Evidence) -> int:
    """Lives of unique keys beyond the one that the record of the key is of."""
    lives = {(key, a.life) for key, found in evidence.attempts.items() for a in found}
    unique = {life for life in lives if function_of(life[0]) == "unique"}
    return len(unique) - len({key for key, _ in unique})


# Those who wait -------------------------------------------------------------------------------------------


@check("every waiter was answered")
def _waiters(evidence: Evidence) -> Iterator[str]:
    told = evidence.said["told"]
    for job in evidence.said["waits"]:
        if job not in told and job not in evidence.said["refused"] and job not in evidence.said["unknown"]:
            yield f"{job[0]} was waited for, and nobody was told"
    for job, (at, more) in told.items():
        record = evidence.records.get(job[0])
        if record is None or _rolled_back(evidence, job, at):
            continue
        if more["status"] != record.status.value or more.get("result") != record.result:
            if evidence.lossy and len(evidence.attempts[job[0]]) > 1:
                continue  # the outcome that was told is one that the server has lost since
            yield f"{job[0]}: told {more['status']} {more.get('result')}, and it is {record}"


@check("an abort that was accepted is one")
def _aborts(evidence: Evidence) -> Iterator[str]:
    for job, (at, more) in evidence.said["aborted"].items():
        record = evidence.records.get(job[0])
        if not more["answer"] or _rolled_back(evidence, job, at):
            continue
        if record is None or record.status is not Status.ABORTED:
            yield f"{job[0]}: its abort was accepted, and it is {record or evidence.incomplete.get(job[0])}"


@check("what was refused is nowhere")
def _refused(evidence: Evidence) -> Iterator[str]:
    codes = Counter(more["error"] for _, more in evidence.said["refused"].values())
    for key, life in evidence.said["refused"]:
        if key in evidence.records and function_of(key) != "unique":
            yield f"{key} was refused, and is {evidence.records[key].status.value}"
        if any(attempt.life == life for attempt in evidence.attempts.get(key, ())):
            yield f"{key} {life} was refused, and ran"
    squeezed = [event for event in evidence.events if event.fault == "out of memory"]
    if len(squeezed) >= 3:
        if not codes["OOM"]:
            yield f"out of memory {len(squeezed)} times, and no enqueue said so: {dict(codes)}"
        if not sum(event.figures.get("settled", 0) for event in squeezed):
            yield f"out of memory {len(squeezed)} times, and nothing was settled meanwhile"


# What is left ---------------------------------------------------------------------------------------------


@check("every key is in one place, at any time")
def _one_place(evidence: Evidence) -> Iterator[str]:
    yield from evidence.census
    if evidence.seconds >= 20 and evidence.censuses < evidence.seconds / 10:
        yield f"nobody looked: {evidence.censuses} looks in {evidence.seconds:g} s"


@check("the counters equal a recount")
def _counters(evidence: Evidence) -> Iterator[str]:
    replaced = _replaced_failures(evidence)
    for status in (Status.COMPLETE, Status.FAILED, Status.ABORTED):
        kept = _kept(evidence, status)
        if status is Status.FAILED:
            kept += len(replaced)
        if status is Status.COMPLETE:
            if evidence.lossy:
                continue  # the lives of unique keys are not all known
            kept += _extra_lives(evidence) - _tried(evidence, replaced)
        counted = evidence.stats.get(status.value, 0)
        if kept != counted:
            yield f"{counted} jobs were counted as {status.value}, and {kept} are"


@check("no key is left over")
def _keys(evidence: Evidence) -> Iterator[str]:
    for name in EMPTY:
        if evidence.lengths.get(name):
            yield f"{name} holds {evidence.lengths[name]}"
    patterns = {name.partition("<")[0]: kind for name, (kind, _) in EXPLAINED.items() if "<" in name}
    for name, dies in evidence.names.items():
        kind = next((kind for start, kind in patterns.items() if name.startswith(start)), None)
        if name not in EXPLAINED and kind is None:
            yield f"nobody knows the key {name}"
        elif kind is not None and not dies:
            yield f"the key {name} stays for ever"


@check("no task, thread, process or connection is left over")
def _left_over(evidence: Evidence) -> Iterator[str]:
    for pid, what in evidence.left:
        if what:
            yield f"process {pid}, when it had stopped, still had {what}"
    yield from evidence.notes


@check("every process ended as it should")
def _exits(evidence: Evidence) -> Iterator[str]:
    for life in evidence.lives:
        hits = [event for event in evidence.events if life.pid in event.pids and event.at >= life.began - 1]
        told = [event for event in hits if event.fault.startswith("SIGTERM") or event.fault == THE_END]
        killed = any(event.fault.startswith("kill") for event in hits)
        fine = (
            (life.code == 0 and told)
            or (life.code == -9 and killed)
            or (life.code == CRASH and any("os._exit" in event.fault for event in hits))
            or (life.code == -15 and told and _had_no_handler(evidence, life, told))
            or (life.code == 1 and _could_not_start(evidence, life))
            # A parent says by its exit code that a child of its own crashed.
            or (life.code == 1 and life.name in PARENTS and told)
        )
        if not fine:
            faults = ", ".join(event.fault for event in hits) or "nothing"
            yield f"{life.name} (process {life.pid}) ended with {life.code}; what hit it: {faults}"
        elif told and not killed and life.ended - told[0].at > STOPS_WITHIN:
            took = life.ended - told[0].at
            if not any(event.fault.startswith("freeze a worker") for event in hits):
                yield f"{life.name} (process {life.pid}) took {took:.1f} s to end"


def _had_no_handler(evidence: Evidence, life: Life, told: list[Event]) -> bool:
    """A process that starts has no handler for a signal yet; one that has done its work has none any more."""
    frozen = sum(
        min(event.until, told[0].at) - event.at
        for event in evidence.events
        if event.fault.startswith("freeze") and life.pid in event.pids and life.began < event.at < told[0].at
    )
    if told[0].at - life.began - frozen < 2.0:
        return True
    done = life.name in PARENTS or any(pid == life.pid for pid, _ in evidence.left)
    return done and any(event.fault.startswith("SIGTERM twice") for event in told)


def _could_not_start(evidence: Evidence, life: Life) -> bool:
    """A worker that does not reach the server when it starts says so and ends: others decide what then."""
    return any(
        event.fault in UNREACHABLE and event.at <= life.ended and event.until >= life.began
        for event in evidence.events
    )


#: Workers that are several processes under one parent.
PARENTS = {f"worker-{number}" for number, variant in enumerate(VARIANTS) if variant.processes}


@check("nobody complained")
def _logs(evidence: Evidence) -> Iterator[str]:
    yield from evidence.logs
