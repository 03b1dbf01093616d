"""One run: start everything, break it, heal it, let it drain, stop it, judge.

Owns the order of a run and its processes. What is broken is the nemesis's, what is right the verdict's.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from saq import Queue, Status
from saq.queue.redis.keys import prefix
from tests.chaos.census import Census
from tests.chaos.evidence import Evidence, function_of
from tests.chaos.faults_network import NetworkFaults
from tests.chaos.faults_server import ServerFaults
from tests.chaos.faults_workers import WorkerFaults
from tests.chaos.functions import KINDS, LEASE, TOO_LATE
from tests.chaos.journal import read
from tests.chaos.nemesis import Fault, Nemesis
from tests.chaos.process import Process, left_over
from tests.chaos.timeline import CRASHES, THE_END, Timeline
from tests.chaos.worker import PROXY_URL, URL, VARIANT, VARIANTS
from tests.servers import Server, server_version

PRODUCERS = 2
#: Jobs per second of all producers together, and in all: the evidence of a run has to fit into memory.
RATE, JOBS = 400.0, 200_000
#: Seconds that everything has to end once nothing is broken any more.
DRAIN = 90.0
#: Seconds that a process has to end when it is told to.
END = 20.0
#: Seconds between two looks at all jobs.
LOOK_EVERY = 1.0
#: Connections of a worker, whatever its concurrency; a producer needs no more, and has two queues.
CONNECTIONS = ("saq", "saq-marker", "saq-inbox", "saq-leases")

Progress = Callable[[str], None]


class Plan(NamedTuple):
    """What a run shall be like."""

    seed: int
    seconds: float = 60.0
    every: float = 0.6
    fsync: str = "always"
    server: str = "embedded"


class Run:
    """A run in a folder of its own, on a server that runs."""

    def __init__(self, plan: Plan, server: Server, folder: Path, progress: Progress) -> None:
        self.plan = plan
        self.lossy = plan.fsync != "always"
        self.server_version = server_version(server.binary)
        self.timeline = Timeline()
        self._server = server
        self._folder = folder
        self._progress = progress
        self._proxied = tuple(str(i) for i, variant in enumerate(VARIANTS) if variant.proxied)
        self._network = NetworkFaults(server.port, self.timeline, plan.seed, self._proxied)
        urls = {URL: server.url(), PROXY_URL: self._network.url}
        self._workers = [self._worker(number, urls) for number in range(len(VARIANTS))]
        self._producers = [self._producer(number, list(urls.values())) for number in range(PRODUCERS)]
        self._worker_faults = WorkerFaults(self._workers, self.timeline, plan.seed)
        self._server_faults = ServerFaults(server, self.timeline, plan.seed, self.lossy)
        self.census = Census(self._server_faults.ask, prefix("default"))
        self._next_look = self._next_line = 0.0
        self._incomplete = 0
        self._notes: list[str] = []

    def _worker(self, number: int, urls: dict[str, str]) -> Process:
        variant = VARIANTS[number]
        environment = {**urls, VARIANT: str(number), "SAQ_NO_SPEEDUPS": "" if variant.speedups else "1"}
        if not variant.speedups:
            environment["SAQ_REQUIRE_SPEEDUPS"] = ""  # whoever requires them means the tests beside this run
        command = ["tests.chaos.worker", str(number)]
        if variant.processes:
            command = ["saq", "tests.chaos.worker.settings", "--workers", str(variant.processes)]
        return Process(self._folder, f"worker-{number}", command, environment, variant.processes)

    def _producer(self, number: int, urls: list[str]) -> Process:
        """The first is connected directly, the second through the proxy, and so on."""
        rate = min(RATE, JOBS / max(1.0, self.plan.seconds)) / PRODUCERS
        words = [urls[number % len(urls)], f"p{number}", f"{self.plan.seed}-{number}", str(rate)]
        return Process(self._folder, f"producer-{number}", ["tests.chaos.producer", *words])

    @property
    def _all(self) -> list[Process]:
        return [*self._producers, *self._workers]

    def faults(self) -> list[Fault]:
        """All that this run may break."""
        return [
            *self._worker_faults.faults(),
            *self._server_faults.faults(),
            *self._network.faults(),
        ]

    def missing_faults(self, evidence: Evidence) -> list[str]:
        """What of the schedule did not happen, in a run that was long enough for all of it."""
        happened = evidence.faults()
        deck = sum(fault.weight for fault in self.faults())
        if not self.plan.every or self.plan.seconds < 1.7 * deck * self.plan.every:
            return []
        wanted = [fault.name for fault in self.faults()]
        wanted += [CRASHES, *(kind.fault for kind in KINDS.values() if kind.fault)]
        missing = [f"{fault} never happened" for fault in wanted if not happened[fault]]
        workers = {attempt.worker for attempts in evidence.attempts.values() for attempt in attempts}
        missing += [f"worker {i} never worked" for i in range(len(VARIANTS)) if str(i) not in workers]
        missing += sorted({f"there was no {v.kind}" for v in VARIANTS if not evidence.kinds[v.kind]})
        return missing

    def go(self) -> Evidence:
        """From start to end. Returns what is left of it."""
        plan = self.plan
        try:
            for process in self._all:
                process.start()
            faults = self.faults() if plan.every else []
            self.nemesis = Nemesis(faults, self.timeline, plan.seed, self._watch)
            self.nemesis.run(plan.seconds, plan.every)
            self._progress("healing")
            self.timeline.mend_all()
            self._drain()
            self._count_connections()
            self._stop()
        finally:
            for process in self._all:
                process.send(signal.SIGKILL)
                process.wait(END)
            self._network.close()
        self.timeline.save(self._folder / "faults.jsonl")
        return self._evidence()

    def _watch(self, passed: float) -> None:
        self._worker_faults.mend()
        self._network.look()
        self._server_faults.look()
        now = monotonic()
        if now >= self._next_look and self._server_faults.answers:
            self._next_look = now + LOOK_EVERY
            self._incomplete = self.census.take()
        if now >= self._next_line:
            self._next_line = now + 1.0
            broken = self.timeline.counts.total()
            self._progress(
                f"{passed:.0f}/{self.plan.seconds:g} s; {broken} faults, {self._incomplete} jobs incomplete"
            )

    def _drain(self) -> None:
        """Waits until nothing is incomplete and all waiters are told."""
        for producer in self._producers:
            self._end_is_near(producer)
            producer.send(signal.SIGTERM)
        deadline = monotonic() + DRAIN
        while monotonic() < deadline:
            self._worker_faults.mend()  # some jobs kill them
            self._network.look()
            incomplete = self.census.take()
            waiting = [producer.name for producer in self._producers if producer.running]
            self._progress(f"draining: {incomplete} jobs incomplete; {', '.join(waiting) or 'nobody'} waits")
            if not waiting:
                if not incomplete:
                    return
                self._abort_orphans()
            sleep(0.1)
        self._notes.append(f"{incomplete} jobs are incomplete {DRAIN:g} s after everything was healed")

    def _abort_orphans(self) -> None:
        """Jobs that end by an abort alone, and whose producer could not know that they were taken in, or was
        answered by a server that has forgotten it since."""
        answered = {
            entry.key
            for entry in read(self._folder, "produce")
            if entry.what == "aborted" and entry.more["answer"]
        }
        waiting = [Status.QUEUED, Status.ACTIVE]
        for key in asyncio.run(_abort(self._server.url(), ("endless", "distant"), waiting, "no more")):
            if key in answered and not self.lossy:
                self._notes.append(f"{key} was to be aborted, which was accepted, and it went on")

    def _count_connections(self) -> None:
        """Of the workers, now that all of them are well and idle."""
        ready = monotonic() + END
        limit = sum(variant.processes or 1 for variant in VARIANTS)
        while monotonic() < ready:
            names = self._connections()
            if max(names.values(), default=0) <= limit:
                break
            sleep(0.2)  # one that has just been cut may not be gone yet
        for name, count in names.items():
            if count > limit:
                self._notes.append(f"{count} connections called {name}, of {limit} worker processes")
            if name not in CONNECTIONS:
                self._notes.append(f"a connection called {name!r}")

    def _connections(self) -> Counter[str]:
        """Of everybody but us, by name."""
        lines = self._server_faults.ask("CLIENT", "LIST").decode().splitlines()
        clients = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
        return Counter(client["name"] for client in clients if not client["cmd"].startswith("client"))

    def _stop(self) -> None:
        for worker in self._workers:
            # One that has just been started would be told before it can listen.
            while worker.running and worker.age < LEASE:
                sleep(0.1)
            self._end_is_near(worker)
            worker.send(signal.SIGTERM)
        for process in self._all:
            self._progress(f"stopping {process.name}")
            if not process.wait(END):
                self._notes.append(f"{process.name} did not end within {END:g} s of SIGTERM and was killed")
        deadline = monotonic() + END
        while (left := left_over(self._folder)) and monotonic() < deadline:
            sleep(0.1)
        self._notes += [f"process {process}" for process in left]
        if left_connections := self._connections():
            self._notes.append(f"connections: {dict(left_connections)}")

    def _end_is_near(self, process: Process) -> None:
        self.timeline.note(THE_END, pids=(process.pid,))

    def _evidence(self) -> Evidence:
        # The clock has gone on while the last worker let its jobs end.
        asyncio.run(_abort(self._server.url(), ("ticking",), [Status.QUEUED], TOO_LATE))
        self._progress("reading what is left")
        lives = [life for process in self._all for life in process.lives]
        evidence = Evidence(self._folder, self.timeline.events, lives, self.plan.seconds, self.lossy)
        evidence.read_queue(self._server.url())
        evidence.read_logs(self._all)
        evidence.census, evidence.censuses = self.census.wrong, self.census.taken
        evidence.notes = self._notes
        return evidence


async def _abort(url: str, functions: tuple[str, ...], statuses: list[Status], reason: str) -> list[str]:
    """Aborts the jobs of these functions that are there; their keys."""
    queue = Queue.from_url(url)
    keys = []
    async for job in queue.iter_jobs(statuses):
        if function_of(job.key) in functions:
            await job.abort(reason)
            keys.append(job.key)
    await queue.disconnect()
    return keys
