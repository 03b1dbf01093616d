"""One queue twice: on a real server and in the reference model.

Owns doing a transition on both, and comparing every answer, every message and all that the server holds
after each one. The scripts are called as they are, without a client in between that could repair something.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from saq._speedups import join_netstrings, pack_end, split_netstrings, unpack_record
from saq.queue.redis import keys as names
from saq.queue.redis.scripts import load
from tests.model.reference import ENDS, TOUCHED, Job, Model, Order, Past, Patch, Record, Run, Settlement, Span
from tests.servers import Server

QUEUE = "model"
PREFIX = names.prefix(QUEUE)
P = PREFIX.encode()
#: So long that none ends by itself.
LEASE_MS = 600_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

#: Everything there is: name, type, time to live, content. Histories are unpacked.
DUMP = """
local all = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', name).ok
  local rows
  if kind == 'hash' then
    rows = redis.call('HGETALL', name)
    if string.sub(name, -5) == ':runs' then
      for i = 2, #rows, 2 do
        local fields = { cmsgpack.unpack(rows[i]) }
        for n = 1, 10 do
          local field = fields[n]
          if type(field) == 'number' then
            fields[n] = string.format('%.0f', field)
          elseif type(field) ~= 'string' then
            fields[n] = field and 1 or 0
          end
        end
        rows[i] = fields
      end
    end
  elseif kind == 'zset' then
    rows = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
  else
    rows = redis.call('GET', name)
  end
  all[#all + 1] = { name, kind, redis.call('PTTL', name), rows }
end
return all
"""
SAVE = """
local all = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1] = name
  all[#all + 1] = math.max(0, redis.call('PTTL', name))
  all[#all + 1] = redis.call('DUMP', name)
end
return all
"""
RESTORE = """
redis.call('FLUSHALL')
for i = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return 1
"""


class Look(dict[str, Any]):
    """What the server holds: plain name -> content, and the times to live beside it."""

    ttl: dict[str, int]

    def hash(self, name: str) -> dict[bytes, Any]:
        return cast("dict[bytes, Any]", self.get(name, {}))

    def scores(self, name: str) -> dict[bytes, float]:
        return cast("dict[bytes, float]", self.get(name, {}))


@dataclass
class Request:
    """A call that was sent, and may be sent again word for word."""

    name: str
    client: str
    number: int
    arguments: tuple[Any, ...]
    apply: Callable[[Any], bool]
    answer: Any = None
    #: Whether its answer is kept: what did nothing may as well be done anew.
    kept: bool = False


class World:
    """The server and the model, always at the same point."""

    def __init__(self, server: Server) -> None:
        self.raw: Redis = server.client(protocol=2)
        self._pubsub = server.client(protocol=2).pubsub()
        self._pubsub.psubscribe("*")
        self._sha = {text: self.raw.script_load(text) for text in (DUMP, SAVE, RESTORE)}
        self._payloads = itertools.count(1)
        self._numbers = itertools.count(1)
        self.steps = 0
        self.reset()

    def reset(self) -> None:
        """An empty queue."""
        self.raw.flushall()
        self._mail()
        self.model = Model()
        self.requests: list[Request] = []
        #: The latest request of each client whose answer is kept.
        self.latest: dict[str, Request] = {}
        #: Every claim ever issued: member -> what its worker knows of it.
        self.claims: dict[bytes, Settlement] = {}
        self.look = self._look(self._own(DUMP))

    # -- the server ------------------------------------------------------------------------------------

    def _own(self, text: str, *arguments: Any) -> Any:
        try:
            return self.raw.evalsha(self._sha[text], 0, *arguments)
        except NoScriptError:
            return self.raw.eval(text, 0, *arguments)

    def save(self) -> Any:
        return self._own(SAVE)

    def restore(self, saved: Any, model: Model) -> None:
        self._own(RESTORE, *saved)
        self.model = model

    def _call(self, name: str, *arguments: Any) -> Any:
        """Calls a script, looks at everything, and compares the two after `apply` was told."""
        script = load(name)
        self.steps += 1
        self.model.mail = []

        def send(*command: Any) -> tuple[Any, Any, Any, Any]:
            pipe = self.raw.pipeline(transaction=False)
            pipe.time()
            pipe.execute_command(*command, 1, PREFIX, *arguments)
            pipe.time()
            pipe.evalsha(self._sha[DUMP], 0)
            before, answer, after, dump = pipe.execute(raise_on_error=False)
            return before, answer, after, dump

        before, answer, after, dump = send("EVALSHA", script.sha)
        if isinstance(answer, NoScriptError):
            before, answer, after, dump = send("EVAL", script.source)
        if isinstance(dump, NoScriptError):
            dump = self._own(DUMP)
        self.model.now = (_ms(before), _ms(after))
        self.before, self.look = self.look, self._look(dump)
        return answer

    def _mail(self) -> list[tuple[bytes, bytes, bytes, bytes]]:
        """The messages since the last look."""
        self._pubsub.execute_command("PING", "now")
        found: list[tuple[bytes, bytes, bytes, bytes]] = []
        while True:
            message = cast("list[bytes]", self._pubsub.parse_response())
            if message[0] == b"pong":
                return found
            if message[0] != b"pmessage":
                continue
            channel = message[2].removeprefix(P)
            parts = split_netstrings(message[3])
            for kind, key, data in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
                if kind == b"done":
                    head = data.partition(b"\n")[0]
                    data = head.partition(b";S")[2].partition(b";")[0]
                if channel != b"control":  # news of due times and pauses are hints
                    found.append((channel, kind, key, data))

    @staticmethod
    def _look(dump: Any) -> Look:
        look = Look()
        look.ttl = {}
        for name, kind, ttl, rows in dump:
            assert name.startswith(P), f"{name} is not of this queue"
            plain = name.removeprefix(P).decode()
            look.ttl[plain] = ttl
            if kind == b"hash":
                look[plain] = dict(zip(rows[::2], rows[1::2], strict=True))
            elif kind == b"zset":
                look[plain] = {row: float(score) for row, score in zip(rows[::2], rows[1::2], strict=True)}
            else:
                look[plain] = rows
        return look

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, client: str, name: str, arguments: Sequence[Any], apply: Callable[[Any], bool]) -> Any:
        """A numbered call. `apply` does it in the model, compares the answer, and says whether it is kept."""
        request = Request(name, client, next(self._numbers), tuple(arguments), apply)
        self.requests.append(request)
        return self._send(request)

    def _send(self, request: Request) -> Any:
        answer = self._call(request.name, request.client, request.number, *request.arguments)
        request.answer = _strict(answer)
        request.kept = request.apply(answer)
        if request.kept:
            self.latest[request.client] = request
            self.model.clients.add(request.client)
        self.compare()
        return answer

    def replay(self, request: Request) -> None:
        """Sends it once more, as a client does whose connection broke, or a network that is late."""
        latest = self.latest.get(request.client)
        if latest is None or latest.number < request.number:
            self._send(request)
            return
        answer = self._call(request.name, request.client, request.number, *request.arguments)
        if latest.number > request.number:
            assert isinstance(answer, ResponseError), answer
            assert str(answer).startswith("STALECALL"), answer
        elif request.name == "step":
            before = request.answer
            members = [member for member in before[4::3] if self.model.holder(member)]
            assert answer[1:4] == before[1:4]
            self._compare_claims(answer, self.model.claims_of(members))
        else:
            assert _strict(answer) == request.answer
        assert self.look == self.before, "sent again, it changed something"
        self.compare()

    def unnumbered(self, name: str, arguments: Sequence[Any], apply: Callable[[Any], None]) -> None:
        """A call that may simply be done again."""
        answer = _strict(self._call(name, *arguments))
        apply(answer)
        self.compare()

    def tamper(self, *commands: Sequence[Any]) -> None:
        """Does to the server what only time does."""
        for command in commands:
            self.raw.execute_command(*command)
        self.look = self._look(self._own(DUMP))
        self.model.mail = []
        self.compare()

    # -- transitions -----------------------------------------------------------------------------------

    def payload(self) -> bytes:
        return b'{"function":"f","n":%d}' % next(self._payloads)

    def enqueue(
        self, client: str, items: Sequence[tuple[bytes, dict[str, str]]], waits: Sequence[bool] = ()
    ) -> None:
        waits = [*waits, *[False] * (len(items) - len(waits))]
        full = [(key, header, self.payload()) for key, header in items]
        channel = P + b"reply:" + client.encode()
        arguments: list[Any] = [channel, "".join("w" if wait else "-" for wait in waits)]
        for key, header, payload in full:
            arguments += [key, _header(header) + b"\n" + payload]

        def apply(answer: Any) -> bool:
            expected = self.model.enqueue(full, waits, b"reply:" + client.encode())
            assert answer[1].decode() == expected
            return True

        # In `waiting` stands the whole channel.
        self.send(client, "enqueue", arguments, apply)

    def step(
        self,
        worker: str,
        want: int,
        done: Sequence[Settlement] = (),
        *,
        suspect_allowed: bool = True,
        max_lost: int = 3,
        message: bytes = b"",
    ) -> None:
        arguments: list[Any] = [worker, want, LEASE_MS, max_lost, "1" if suspect_allowed else "", message]
        for settlement in done:
            arguments += [settlement.member, *_packed(settlement)]

        def apply(answer: Any) -> bool:
            assert not isinstance(answer, Exception), answer
            _, due, state, verdicts, *rest = answer
            members = rest[::3]
            token = int(members[0].partition(b":")[0]) if members else None
            expected = self.model.step(worker, want, max_lost, suspect_allowed, message, done, token)
            assert verdicts.decode() == expected.verdicts
            assert state.decode() == expected.state
            assert due == -1 if expected.due is None else expected.due[0] <= due <= expected.due[1]
            self._compare_claims(answer, expected.jobs)
            for job in expected.jobs:
                assert job.member not in self.claims, "a token is used once"
                attempts = job.run.attempts if job.run else 0
                self.claims[job.member] = Settlement(
                    job.member, "C", attempts=attempts, started=answer[0], worker=worker
                )
            return bool(expected.jobs or expected.verdicts or want)

        self.send(worker, "step", arguments, apply)

    def _compare_claims(self, answer: Any, jobs: Sequence[Job]) -> None:
        members, values, histories = answer[4::3], answer[5::3], answer[6::3]
        assert members == [job.member for job in jobs]
        for value, history, job in zip(values, histories, jobs, strict=True):
            self._compare_value(value, job)
            expected = job.history
            if history == 0 or expected == 0:
                # An answer that is given again may tell a history that is none.
                assert expected == 0
                assert history in (0, [1, 0, 0, None, None])
                continue
            assert isinstance(expected, list)
            assert history[:4] == expected[:4]
            if history[4] is None:
                assert expected[4] is None
            else:
                assert self._patch(history[4]) == _plain(job.patch)

    def guest_finish(
        self, client: str, key: bytes, status: str, outcome: bytes = b"", error: bytes | None = None
    ) -> None:
        suffix, body = pack_end(b"", b"", outcome, error, b"")

        def apply(answer: Any) -> bool:
            assert answer == [self.model.finish(key, status, outcome, error).encode()]
            return True

        self.send(client, "finish", [key, status, suffix, body], apply)

    def abort(self, client: str, key: bytes, why: bytes) -> None:
        def apply(answer: Any) -> bool:
            place, worker = self.model.abort(key, why)
            assert answer == [place.encode(), worker.encode()]
            return True

        self.send(client, "abort", [key, why], apply)

    def delete(self, client: str, key: bytes) -> None:
        def apply(answer: Any) -> bool:
            assert answer == [self.model.delete(key).encode()]
            return True

        self.send(client, "delete", [key], apply)

    def revive(self, client: str, key: bytes, now: bool) -> None:
        def apply(answer: Any) -> bool:
            assert answer == [self.model.revive(key, now).encode()]
            return True

        self.send(client, "revive", [key, "1" if now else ""], apply)

    def update(self, client: str, key: bytes, member: bytes, header: dict[str, str], patch: Patch) -> None:
        def apply(answer: Any) -> bool:
            place, reason = self.model.update(key, member, header, patch)
            assert answer == [place.encode(), reason]
            return True

        rows = [part for row in patch.items() for part in row]
        self.send(client, "update", [key, member, _header(header), *rows], apply)

    def tick(self, client: str, entry: bytes, tick: int, key: bytes, header: dict[str, str]) -> None:
        payload = self.payload()

        def apply(answer: Any) -> bool:
            verdict = self.model.tick(entry, tick, key, header, payload)
            assert answer[1].decode() == verdict
            return verdict != "done"

        self.send(client, "cron", [entry, tick, key, _header(header) + b"\n" + payload], apply)

    def sweep(self, what: str, max_lost: int = 3, message: bytes = b"") -> None:
        def apply(answer: Any) -> None:
            swept, promoted = self.model.sweep(max_lost, message, what)
            assert sorted(answer[0]) == sorted(swept)
            assert answer[1] == promoted

        self.unnumbered("sweep", [LEASE_MS, max_lost, message, what], apply)

    def renew(self, members: Sequence[bytes]) -> None:
        def apply(answer: Any) -> None:
            assert answer[1:] == list(self.model.renew(members))

        self.unnumbered("renew", [LEASE_MS, *members], apply)

    def overtime(self, members: Sequence[bytes]) -> None:
        self.unnumbered("overtime", members, lambda answer: self.model.overtime(members))

    def pause(self, on: bool) -> None:
        def apply(answer: Any) -> None:
            self.model.paused = on

        self.unnumbered("pause", ["on" if on else "off"], apply)

    def read(self, channel: str, keys: Sequence[bytes]) -> None:
        """Looks at jobs; with a channel, waits for their end in the same step."""

        def apply(answer: Any) -> None:
            for key, entry in zip(keys, answer, strict=True):
                place = self.model.place(key)
                if place == "missing":
                    assert entry == 0
                    continue
                assert entry[0].decode() == place
                if place == "finished":
                    self._compare_record(entry[1], self.model.records[key])
                    continue
                job = self.model.jobs[key]
                self._compare_value(entry[1], job)
                assert _plain(job.patch) == (self._patch(entry[2]) if entry[2] is not None else {})
                assert job.due[0] <= entry[3] <= job.due[1]
                run = job.run or Run((0, 0), 0, (0, 0), "", 0)
                assert entry[4:7] == [run.attempts, run.charged, run.lost]
                assert run.started[0] <= entry[7] <= run.started[1]
                assert entry[8:11] == [run.worker.encode(), run.abort, run.error]
                _compare_past(entry[11] if len(entry) > 11 else b"", run.past)
                if channel:
                    self.model.wait(key, b"reply:" + channel.encode())

        self.unnumbered("read", [f"{PREFIX}reply:{channel}" if channel else "", *keys], apply)

    def watch(self, channel: str, keys: Sequence[bytes], on: bool) -> None:
        def apply(answer: Any) -> None:
            name = b"watch:" + channel.encode()
            for key in keys:
                channels = self.model.watching.setdefault(key, [])
                if name in channels:
                    channels.remove(name)
                if on:
                    channels.append(name)
                if not channels:
                    del self.model.watching[key]

        self.unnumbered("watch", [f"{PREFIX}watch:{channel}", 3600 if on else 0, *keys], apply)

    def register(self, worker: str, functions: Sequence[bytes], on: bool) -> None:
        def apply(answer: Any) -> None:
            if on:
                self.model.workers.add(worker)
                self.model.functions |= dict.fromkeys(functions, "known")
            else:
                self.model.workers.discard(worker)

        self.unnumbered("register", [worker, LEASE_MS if on else 0, "{}", *functions], apply)

    # -- what only time does ---------------------------------------------------------------------------

    def end_leases(self, jobs: Sequence[Job], workers_live: bool = True) -> None:
        """These leases have ended, while others step and renew as ever."""
        for job in jobs:
            job.expired = True
        commands = [("ZADD", f"{PREFIX}active", "XX", 1, job.member) for job in jobs]
        if workers_live:
            self.model.away = self.model.calm = False
            now = _ms(self.raw.time())
            commands.append(("HSET", f"{PREFIX}meta", "stepped", now, "calm", 0))  # type: ignore[arg-type]
        self.tamper(*commands)

    def outage(self) -> None:
        """Nobody could reach the server for longer than a lease."""
        self.model.away, self.model.calm = True, False
        for job in self.model.at("active"):
            job.expired = True
        commands: list[Sequence[Any]] = [("HSET", f"{PREFIX}meta", "stepped", 1, "calm", 1)]
        commands += [("ZADD", f"{PREFIX}active", "XX", 1, job.member) for job in self.model.at("active")]
        self.tamper(*commands)

    def calm_passes(self) -> None:
        """A lease after the outage."""
        self.model.calm = False
        self.tamper(("HSET", f"{PREFIX}meta", "calm", 1))

    def come_due(self, key: bytes, at: int) -> None:
        job = self.model.jobs[key]
        assert job.place == "scheduled"
        job.due = (at, at)
        self.tamper(("ZADD", f"{PREFIX}scheduled", "XX", at, key))

    def outlive_functions(self, seconds: int) -> None:
        """No live worker has known any function for so long."""
        self.model.functions = dict.fromkeys(self.model.functions, "old" if seconds > 60 else "recent")
        until = _ms(self.raw.time()) - seconds * 1000
        functions = self.model.functions
        self.tamper(*[("ZADD", f"{PREFIX}functions", until, name) for name in functions])

    def outlive_record(self, key: bytes, days: int) -> None:
        """Some days and an hour pass over one record."""
        record = self.model.records[key]
        left = self.look.ttl[f"job:{key.decode()}"]
        passed = days * DAY_MS + HOUR_MS
        commands: list[Sequence[Any]] = []
        if left != -1:
            commands.append(("PEXPIRE", f"{PREFIX}job:{key.decode()}", left - passed))
        commands.append(
            ("ZINCRBY", f"{PREFIX}{'failed' if record.status == 'failed' else 'finished'}", -passed, key)
        )
        record.age += passed
        if record.keep and record.age > record.keep + (DAY_MS if record.status == "failed" else 0):
            del self.model.records[key]
            if record.status == "failed":
                self.model.unswept.add(key)
                self.model.estimated = True
        self.tamper(*commands)

    def take_marker(self, worker: str) -> None:
        """An idle worker, which blocks on the marker, finds it."""
        if self.raw.zpopmin(f"{PREFIX}wake"):
            self.model.awake.add(worker)
        self.tamper()

    def forget_scripts(self) -> None:
        self.raw.script_flush()

    # -- comparing -------------------------------------------------------------------------------------

    def compare(self) -> None:
        """The server holds what the model says, and nothing else."""
        model, look = self.model, self.look
        assert Counter(self._mail()) == Counter(model.mail)
        self._compare_names()
        places = {
            place: {job.key: job for job in model.at(place)} for place in ("queued", "scheduled", "active")
        }
        assert look.hash("jobs").keys() == model.jobs.keys(), "exactly the incomplete jobs"
        assert list(look.scores("queued")) == list(places["queued"]), "in order"
        scheduled = look.scores("scheduled")
        assert scheduled.keys() == places["scheduled"].keys()
        for key, job in places["scheduled"].items():
            assert job.due[0] <= scheduled[key] <= job.due[1]
        active = look.scores("active")
        assert active.keys() == {job.member for job in places["active"].values()}
        for job in places["active"].values():
            assert (active[job.member] == 1) == job.expired
        runs = look.hash("runs")
        assert runs.keys() == {key for key, job in model.jobs.items() if job.run is not None}
        order: list[tuple[float, Order]] = []
        for key, job in model.jobs.items():
            self._compare_value(look.hash("jobs")[key], job)
            if job.run is not None:
                self._compare_run(runs[key], job.run)
                order.append((float(runs[key][3]), job.run.order))
            if job.place == "queued":
                order.append((look.scores("queued")[key], job.order))
        order.sort()
        for (score, place), (next_score, next_place) in itertools.pairwise(order):
            assert place == next_place if score == next_score else place < next_place
        patches = {key: self._patch(patch) for key, patch in look.hash("patch").items()}
        assert patches == {key: _plain(job.patch) for key, job in model.jobs.items() if job.patch}
        waiting = {
            key: [P + channel for channel in job.waiting] for key, job in model.jobs.items() if job.waiting
        }
        assert {key: channels.split() for key, channels in look.hash("waiting").items()} == waiting
        watching = {key: [P + channel for channel in channels] for key, channels in model.watching.items()}
        assert {key: entry.split()[1:] for key, entry in look.hash("watching").items()} == watching
        assert look.scores("cron") == model.cron
        assert look.scores("functions").keys() == model.functions.keys()
        assert look.scores("workers").keys() == {worker.encode() for worker in model.workers}
        self._compare_records()
        self._compare_counters()
        if model.at("queued") and not model.paused:
            assert look.scores("wake") or model.awake or model.blocked, "there is work, and nobody will look"

    def _compare_names(self) -> None:
        explained = {name.partition(":")[0] for name in names.EXPLAINED}
        for name in self.look:
            assert name.partition(":")[0] in explained, f"{name} is explained nowhere"
        clients = {name.removeprefix("last:") for name in self.look if name.startswith("last:")}
        assert clients == self.model.clients
        for name, ttl in self.look.ttl.items():
            if name.startswith(("last:", "worker:")):
                assert 0 < ttl <= LEASE_MS
            elif name.startswith("hour:"):
                assert 72 * HOUR_MS <= ttl <= 73 * HOUR_MS
            elif not name.startswith("job:"):
                assert ttl == -1
        assert self.look.get("wake", {b"work": 0}) == {b"work": 0}

    def _compare_records(self) -> None:
        model, look = self.model, self.look
        records = {name.removeprefix("job:").encode() for name in look if name.startswith("job:")}
        assert records == model.records.keys()
        failed, finished = look.scores("failed"), look.scores("finished")
        assert failed.keys() - model.unswept == {
            key for key, record in model.records.items() if record.status == "failed"
        }
        # The other list may name records whose time is up.
        assert {key for key, record in model.records.items() if record.status != "failed"} <= finished.keys()
        assert not failed.keys() & finished.keys()
        length = 0
        for key, record in model.records.items():
            name = f"job:{key.decode()}"
            self._compare_record(look[name], record)
            ended = (failed if record.status == "failed" else finished)[key]
            assert record.completed[0] <= ended + record.age <= record.completed[1]
            if key in failed:
                length += len(look[name])
        if not failed:
            model.estimated = False
        if not model.estimated:
            assert int(look.hash("meta").get(b"failed_bytes", 0)) == length

    def _compare_counters(self) -> None:
        model, meta = self.model, self.look.hash("meta")
        stats = {name.decode(): int(count) for name, count in self.look.hash("stats").items()}
        assert stats == model.stats
        ended = sum(stats.get(status, 0) for status in ENDS.values())
        assert stats.get("enqueued", 0) == ended + model.deleted + len(model.jobs), (
            "nothing lost, nothing twice"
        )
        assert (b"paused" in meta) == model.paused
        assert int(meta.get(b"token", 0)) == model.token
        assert meta.keys() <= {
            b"paused", b"sequence", b"token", b"stepped", b"calm", b"sampled", b"failed_bytes",
            b"failed_cursor", b"watch_cursor",
        }  # fmt: skip

    @staticmethod
    def _compare_value(value: bytes, job: Job) -> None:
        head, _, payload = value.partition(b"\n")
        queued, *fields = head.decode().split(";")
        assert payload == job.payload
        assert job.queued[0] <= int(queued) <= job.queued[1]
        assert {text[0]: text[1:] for text in fields} == job.header

    @staticmethod
    def _compare_run(fields: list[bytes], run: Run) -> None:
        attempts, charged, lost, _, token, started, worker, abort, error, overtime, *past = fields
        assert [int(attempts), int(charged), int(lost), int(token)] == [
            run.attempts, run.charged, run.lost, run.token
        ]  # fmt: skip
        assert run.started[0] <= int(started) <= run.started[1]
        assert worker.decode() == run.worker
        assert abort == (0 if run.abort is None else run.abort)
        assert error == (0 if run.error is None else run.error)
        assert bool(overtime) == run.overtime
        _compare_past(past[0] if past else b"", run.past)

    def _compare_record(self, stored: bytes, record: Record) -> None:
        fields, payload, outcome, error, patch = unpack_record(stored)
        assert (payload, outcome, error) == (record.payload, record.outcome, record.error)
        found = self._patch(patch)
        _compare_past(found.pop(b"past", b""), record.past)
        assert found == _plain(record.patch)
        assert record.queued[0] <= cast(int, fields.pop("queued")) <= record.queued[1]
        assert record.completed[0] <= cast(int, fields.pop("completed")) <= record.completed[1]
        assert record.started[0] <= cast(int, fields.pop("started", 0)) <= record.started[1]
        tags = {"p": "priority", "r": "retries", "t": "ttl", "T": "timeout", "s": "scheduled"}
        expected: dict[str, Any] = {tags[tag]: float(text) for tag, text in record.header.items()}
        expected["status"] = record.status
        if record.worker:
            expected |= {"attempts": record.attempts, "worker_id": record.worker}
        assert fields == expected

    def _patch(self, patch: bytes) -> Patch:
        """The fields of a patch; when it was touched is left out, once it is a time."""
        parts = split_netstrings(patch)
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        if TOUCHED in fields:
            assert fields[TOUCHED].isdigit()
            fields[TOUCHED] = b""
        return fields


def _compare_past(rows: bytes, past: Sequence[Past]) -> None:
    found = split_netstrings(rows)
    assert len(found) == len(past)
    for row, expected in zip(found, past, strict=True):
        attempt, started, ended, worker, how, error = split_netstrings(row)
        assert int(attempt) == expected.attempt
        assert expected.started[0] <= int(started) <= expected.started[1]
        assert expected.ended[0] <= int(ended) <= expected.ended[1]
        assert (worker.decode(), how.decode(), error) == (expected.worker, expected.how, expected.error)


def _plain(patch: Patch) -> Patch:
    return patch | {TOUCHED: b""} if TOUCHED in patch else patch


def _ms(time: Any) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _strict(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _header(header: dict[str, str]) -> bytes:
    return "".join(f";{tag}{text}" for tag, text in header.items()).encode()


def _packed(settlement: Settlement) -> tuple[bytes, bytes]:
    if settlement.kind not in ENDS:
        return f"{settlement.kind}{settlement.delay}".encode(), settlement.text or b""
    suffix = f";a{settlement.attempts};b{settlement.started};w{settlement.worker}".encode()
    patch = join_netstrings([part for row in settlement.patch for part in row]) if settlement.patch else b""
    return pack_end(settlement.kind.encode(), suffix, settlement.outcome, settlement.text, patch)


__all__ = ["LEASE_MS", "Request", "Span", "World"]
