"""One sample of each measure.

Owns what a sample does: which processes it starts on an emptied server, what it times, and what it checks
before it believes a figure. Must not know how often or in which order samples are taken (`plan.py`), nor what
is made of them (`report.py`).

Every sample starts fresh processes. A drain is timed from the moment the warm-up has run to the last job that
is finished in Redis: the worker tells when its last job has run, and from then on Redis is asked without a
pause.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import workloads
from benchmarks.child import Child
from benchmarks.environments import Environment
from benchmarks.registry import Arm
from benchmarks.server import Target
from benchmarks.stats import percentile

#: Enqueued at once by the clients of async libraries.
WIDTH = 100
#: Arrivals a second when latency is measured: few enough for the slowest to keep up.
RATE = 50.0
#: Seconds that enqueueing takes in each of its ways.
ENQUEUING = 0.3
#: Jobs that arrive when latency is measured.
ARRIVALS = 80
#: Seconds that a process may take to start.
START = 60.0
#: Seconds that filling a backlog may take.
FILL_AT_MOST = 60.0
#: Jobs of a small backlog.
SMALL_BACKLOG = 10_000

Values = dict[str, Any]


class Wrong(Exception):
    """A sample whose figures must not be believed: jobs were lost, or returned something else."""


class NotMeasured(Exception):
    """This contender cannot do that. The message says why."""


@dataclass
class Bench:
    """What a sample needs.

    Args:
        target: the server.
        environments: of each contender.
        scale: factor for the length of samples.
        backlog: jobs of a large backlog.
    """

    target: Target
    environments: dict[str, Environment]
    scale: float = 1.0
    backlog: int = 1_000_000
    _rates: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def child(self, role: str, arm: Arm, url: str, **config: Any) -> Child:
        """Starts a client or a worker."""
        config = {"concurrency": arm.contender.usual, "marks": [], "kind": "drain"} | config
        return Child(role, arm, self.environments[arm.contender.name], url, **config)

    @contextlib.contextmanager
    def both(self, arm: Arm, url: str, **config: Any) -> Iterator[tuple[Child, Child]]:
        """A client and a worker that wait for a word: they start side by side."""
        with (
            self.child("client", arm, url, **config) as client,
            self.child("worker", arm, url, **config) as worker,
        ):
            client.expect("ready", START)
            worker.expect("ready", START)
            yield client, worker

    @contextlib.contextmanager
    def network(self, delay_ms: float) -> Iterator[str]:
        """The URL of the server, behind a slower network if there is a delay."""
        if not delay_ms:
            yield self.target.url
            return
        with self.target.delayed(delay_ms / 1000) as url:
            yield url

    def rate(self, arm: Arm, key: tuple[Any, ...], guess: float) -> float:
        """What this arm did last, or a guess."""
        return self._rates.get((arm.name, *key), guess)

    def learn(self, arm: Arm, key: tuple[Any, ...], rate: float) -> None:
        """Remembers a rate, for the size of the next sample."""
        self._rates[arm.name, *key] = rate


def _guess(arm: Arm, workload: str, concurrency: int) -> float:
    nearest = min(arm.rate, key=lambda known: abs(known - concurrency))
    return min(arm.rate[nearest], 0.95 * workloads.ceiling(workload, concurrency))


def drain_rate(arm: Arm, workload: str, concurrency: int, network_ms: float = 0) -> float:
    """Jobs a second of a drain, until it is known better."""
    return _guess(arm, workload, concurrency) * (0.5 if network_ms else 1)


def drain_jobs(
    arm: Arm, workload: str, concurrency: int, network_ms: float, rate: float, scale: float
) -> int:
    """How many jobs a drain at this rate has, its warm-up included."""
    seconds, least = workloads.WORKLOADS[workload].seconds, 0.0
    if concurrency == 1 or network_ms:
        seconds *= workloads.SHORT
    else:
        seconds = arm.seconds.get(workload, seconds)
        least = workloads.MANY * min(1.0, scale) if rate > workloads.FAST else 0.0
    n = workloads.size(rate, seconds * scale, least)
    return arm.jobs.get(concurrency, n) if workload.endswith("noop") and not network_ms else n


def _check(worker: Child, n: int) -> list[int]:
    """Each job has run, and run once. Returns those of the warm-up, if the worker tells them."""
    said = worker.ask_report(START)
    if said["distinct"] != n:
        raise Wrong(f"{n} jobs were enqueued, and {said['distinct']} have run")
    if said["count"] != n or said["sum"] != n * (n - 1) // 2:
        raise Wrong(f"{said['count'] - n} jobs ran twice")
    return list(said.get("first", ()))


def _results(client: Child) -> int:
    """Whether the jobs returned what they should; how many were looked at."""
    said = client.ask(START, "results", timeout=START)
    if said.get("unsupported"):
        return 0
    if said["wrong"]:
        raise Wrong("; ".join(said["wrong"][:3]))
    return int(said["checked"])


def _pending(bench: Bench, arm: Arm, n: int) -> None:
    found = bench.target.pending(arm.contender)
    if found != n:
        raise Wrong(f"{n} jobs were enqueued, and {found} are there")


def drain(bench: Bench, arm: Arm, workload: str, concurrency: int, network_ms: float = 0) -> Values:
    """A queue full of jobs, and one worker."""
    key = ("drain", workload, concurrency, network_ms)
    rate = bench.rate(arm, key, drain_rate(arm, workload, concurrency, network_ms))
    n = drain_jobs(arm, workload, concurrency, network_ms, rate, bench.scale)
    warm = max(n // workloads.WARM, 1)
    job = workloads.job_name(workload, arm.contender.native)
    timeout = 30 + 10 * n / rate
    bench.target.flush()
    with (
        bench.network(network_ms) as url,
        bench.both(arm, url, concurrency=concurrency, marks=[warm, n]) as (client, worker),
    ):
        mode = arm.contender.fill
        client.ask(timeout, "enqueue", mode=mode, job=job, first=0, n=n, width=WIDTH)
        _pending(bench, arm, n)
        worker.send(do="go")
        begin = worker.expect("mark", timeout)
        last = worker.expect("mark", timeout)
        end = bench.target.settle(arm.contender, START)
        first = _check(worker, n) or range(warm)
        checked = _results(client)
        memory = worker.memory()
    took = (end - begin["t"]) / 1e9
    bench.learn(arm, key, (n - warm) / took)
    values: Values = {
        "jobs": n - warm,
        "seconds": took,
        "per_second": (n - warm) / took,
        "settling": (end - last["t"]) / 1e9,
        "results_checked": checked,
        "worker_memory": memory,
    }
    if workload.endswith("sleep"):
        values["over_ideal"] = took / workloads.ideal_seconds(n, first, concurrency)
    return values


def enqueue(bench: Bench, arm: Arm, network_ms: float = 0) -> Values:
    """Enqueues no-ops, in each of the ways there are."""
    job = workloads.job_name("noop", arm.contender.native)
    values: Values = {}
    seconds = ENQUEUING * bench.scale * (workloads.SHORT if network_ms else 1)
    bench.target.flush()
    with bench.network(network_ms) as url, bench.child("client", arm, url) as client:
        client.expect("ready", START)
        for mode in ("one", "concurrent", "bulk"):
            key = ("enqueue", mode, network_ms)
            said = client.ask(START, "enqueue", mode=mode, job=job, first=0, n=200, width=WIDTH)
            if said.get("unsupported"):
                values[mode] = None
                continue
            warm_rate = 200 / said["seconds"]
            n = workloads.size(min(bench.rate(arm, key, warm_rate), 100_000), seconds)
            bench.target.flush(scripts=False)
            said = client.ask(START, "enqueue", mode=mode, job=job, first=0, n=n, width=WIDTH)
            _pending(bench, arm, n)
            values[mode] = n / said["seconds"]
            bench.learn(arm, key, values[mode])
    return values


def latency(bench: Bench, arm: Arm) -> Values:
    """Jobs that arrive at a steady rate at a worker that has nothing else to do; then a `map`."""
    native = arm.contender.native
    job = workloads.job_name("stamp", native)
    warm, n = 20, max(20, int(ARRIVALS * bench.scale))
    bench.target.flush()
    with bench.both(arm, bench.target.url, kind="latency") as (client, worker):
        worker.send(do="go")
        arrivals = {"job": job, "rate": RATE, "wait": True, "timeout": START}
        client.ask(START, "arrivals", first=0, n=warm, **arrivals)
        said = client.ask(START + n / RATE, "arrivals", first=warm, n=n, **arrivals)
        if said["wrong"]:
            raise Wrong("; ".join(said["wrong"][:3]))
        bench.target.settle(arm.contender, START)
        started = _started(worker, warm + n)
        values: Values = {
            "rate": RATE,
            "start": [_seconds(started[warm + k] - sent) for k, sent in enumerate(said["sent"])],
            "result": None,
        }
        if said["done"] is not None:
            values["result"] = [
                _seconds(done - sent) for done, sent in zip(said["done"], said["sent"], strict=True)
            ]
        for name in ("start", "result"):
            for p in (50, 95, 99):
                if values[name] is not None:
                    values[f"{name}_p{p}"] = percentile(values[name], p)
        job = workloads.job_name("noop", native)
        client.ask(START, "map", job=job, first=0, n=20, timeout=START)
        mapped = client.ask(START, "map", job=job, first=0, n=1000, timeout=START)
        values["map"] = None
        if not mapped.get("unsupported"):
            if mapped["wrong"]:
                raise Wrong("; ".join(mapped["wrong"][:3]))
            values["map"] = mapped["seconds"]
    return values


def _seconds(ns: int) -> float:
    """To the tenth of a microsecond: nobody needs more digits in a file."""
    return round(ns / 1e9, 7)


def _started(worker: Child, n: int) -> dict[int, int]:
    """When each of n jobs has started. Who acknowledges early is done in Redis before the last has run."""
    deadline = time.monotonic() + START
    while len(started := dict(worker.ask_report(START)["stamps"])) < n:
        if time.monotonic() > deadline:
            raise Wrong(f"{n} jobs arrived, and {len(started)} have run")
        time.sleep(0.01)
    return started


def cost(bench: Bench, arm: Arm) -> Values:
    """What a job costs the server: its main thread, bytes, memory; and commands, in a second pass."""
    target, contender = bench.target, arm.contender
    job = workloads.job_name("noop", contender.native)
    workload = f"{contender.native}_noop"
    concurrency = contender.usual
    rate = bench.rate(arm, ("drain", workload, concurrency, 0), _guess(arm, workload, concurrency))
    n = int(min(10_000, max(300, rate)) * min(1.0, max(0.1, bench.scale)))
    timeout = 30 + 10 * n / rate
    target.flush()
    empty = target.read()
    with bench.child("client", arm, target.url) as client:
        client.expect("ready", START)
        before = target.read()
        client.ask(timeout, "enqueue", mode="concurrent", job=job, first=0, n=n, width=WIDTH)
        after = target.read()
    _alone(target)
    _pending(bench, arm, n)
    queued = target.read()
    with bench.child("worker", arm, target.url, marks=[n]) as worker:
        worker.expect("ready", START)
        drained_from = target.read()
        worker.send(do="go")
        worker.expect("mark", timeout)
        target.settle(contender, START)
        drained = target.read()
        _check(worker, n)
    _alone(target)
    finished = target.read()
    enqueuing, draining = after.since(before), drained.since(drained_from)
    # Each reading is itself an answer of some kilobytes; of the second one this is seen.
    asking = finished.since(drained)["sent"]
    return {
        "jobs": n,
        "cpu_us": (enqueuing["cpu"] + draining["cpu"]) / n * 1e6,
        "cpu_us_enqueue": enqueuing["cpu"] / n * 1e6,
        "cpu_us_drain": draining["cpu"] / n * 1e6,
        "bytes_in": (enqueuing["received"] + draining["received"]) / n,
        "bytes_out": max(0.0, enqueuing["sent"] + draining["sent"] - 2 * asking) / n,
        "memory_queued": (queued.memory - empty.memory) / n,
        "memory_finished": (finished.memory - empty.memory) / n,
        **_commands(bench, arm, job),
    }


def _commands(bench: Bench, arm: Arm, job: str) -> Values:
    """Requests and operations of a job, as MONITOR sees them."""
    target = bench.target
    n, warm = 330, 30
    target.flush()
    with target.monitor() as monitor, bench.both(arm, target.url, marks=[warm, n]) as (client, worker):
        said = client.ask(START, "enqueue", mode="concurrent", job=job, first=0, n=n, width=WIDTH)
        worker.send(do="go")
        begin = worker.expect("mark", START)
        end = worker.expect("mark", START)
        offset = time.time() - time.monotonic_ns() / 1e9
        target.settle(arm.contender, START)
        enqueuing = monitor.count(*said["wall"])
        draining = monitor.count(begin["t"] / 1e9 + offset, end["t"] / 1e9 + offset)
    return {name: enqueuing[name] / n + draining[name] / (n - warm) for name in ("requests", "operations")}


def _alone(target: Target) -> None:
    """Waits until the server has noticed that everybody has gone."""
    deadline = time.monotonic() + 5
    while target.connections() > 0 and time.monotonic() < deadline:
        time.sleep(0.01)


def footprint(bench: Bench, arm: Arm) -> Values:
    """A worker at its largest: connections and memory, at work and then idle."""
    target, contender = bench.target, arm.contender
    concurrency = max(arm.concurrency)
    workload = f"{contender.native}_sleep"
    rate = _guess(arm, workload, concurrency)
    n = workloads.size(rate, 1.0 * bench.scale)
    job = workloads.job_name("sleep", contender.native)
    target.flush()
    with bench.child("client", arm, target.url) as client:
        client.expect("ready", START)
        client.ask(START, "enqueue", mode=contender.fill, job=job, first=0, n=n, width=WIDTH)
    _alone(target)
    most = 0
    with bench.child("worker", arm, target.url, concurrency=concurrency, marks=[n]) as worker:
        worker.expect("ready", START)
        worker.send(do="go")
        deadline = time.monotonic() + START
        while worker.poll(0.05) is None:
            most = max(most, target.connections())
            if time.monotonic() > deadline:
                raise TimeoutError("the worker does not come to an end")
        target.settle(contender, START)
        busy = worker.memory()
        time.sleep(2.0 * bench.scale)
        seconds = 10.0 * bench.scale
        with target.monitor() as monitor:
            begin = time.time()
            time.sleep(seconds)
            idle = monitor.count(begin, time.time())
        connections = target.connections()
    return {
        "concurrency": concurrency,
        "connections": most,
        "connections_idle": connections,
        "worker_memory": busy,
        "idle_requests_per_second": idle["requests"] / seconds,
        "idle_operations_per_second": idle["operations"] / seconds,
        "idle_by_name": idle["by_name"],
    }


def backlog(bench: Bench, arm: Arm) -> Values:
    """The first jobs of a large backlog, beside those of a small one."""
    mode = arm.contender.fill
    rate = bench.rate(arm, ("enqueue", mode, 0), arm.enqueue)
    if bench.backlog / rate > FILL_AT_MOST:
        seconds = f"{bench.backlog / rate:,.0f} s at {rate:,.0f} a second"
        raise NotMeasured(f"filling it with {bench.backlog:,} jobs would take {seconds}")
    values: Values = {}
    for name, n in (("small", min(SMALL_BACKLOG, bench.backlog)), ("large", bench.backlog)):
        values |= {f"{name}_{key}": value for key, value in _first_jobs(bench, arm, n, mode).items()}
    values["cpu_ratio"] = values["large_cpu_us"] / values["small_cpu_us"]
    return values


def _first_jobs(bench: Bench, arm: Arm, n: int, mode: str) -> Values:
    target = bench.target
    job = workloads.job_name("noop", arm.contender.native)
    rate = drain_rate(arm, f"{arm.contender.native}_noop", arm.contender.usual)
    warm = min(1000, n // 10, int(rate))
    last = warm + min(SMALL_BACKLOG - 2000, n - 2 * warm, int(2 * rate))
    target.flush()
    empty = target.read()
    with bench.child("client", arm, target.url) as client:
        client.expect("ready", START)
        said = client.ask(FILL_AT_MOST * 3, "enqueue", mode=mode, job=job, first=0, n=n, width=WIDTH)
    _alone(target)
    _pending(bench, arm, n)
    memory = target.read().memory - empty.memory
    with bench.child("worker", arm, target.url, marks=[warm, last]) as worker:
        worker.expect("ready", START)
        worker.send(do="go")
        begin = worker.expect("mark", START)
        before = target.read()
        end = worker.expect("mark", START)
        after = target.read()
    jobs = last - warm
    return {
        "jobs": n,
        "fill_per_second": n / said["seconds"],
        "memory": memory / n,
        "per_second": jobs / ((end["t"] - begin["t"]) / 1e9),
        "cpu_us": (after.cpu - before.cpu) / jobs * 1e6,
    }


MEASURES: dict[str, Callable[..., Values]] = {
    "drain": drain,
    "enqueue": enqueue,
    "latency": latency,
    "cost": cost,
    "footprint": footprint,
    "backlog": backlog,
}
