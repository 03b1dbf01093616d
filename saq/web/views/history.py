"""What the queues did, minute by minute, up to three days back.

Owns how samples and buckets of several queues become the columns of a chart. Must not know how they are
stored.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from saq.queue.base import Queue
from saq.queue.history import Buckets, History, Sample, add_up, levels, percentiles, rates
from saq.queue.views import COUNTERS
from saq.web.call import Call, Site
from saq.web.http import Response, json_response
from saq.web.present import SHARES, spread
from saq.web.views import every

#: As far back as anything is written down.
MINUTES = 72 * 60
#: Of how many minutes waits and run times are said as they are "recently".
RECENT = 10
#: Functions that are listed, those first that ended most.
FUNCTIONS = 50
#: Points of a chart, at the most; and how many minutes may lie between two.
_POINTS = 150
_STEPS = (1, 2, 3, 5, 10, 15, 30)
_MINUTE = 60_000
_HOUR = 60 * _MINUTE
#: Of each queue so many stretches of time are remembered: there are four buttons on the page.
_REMEMBERED = 8
_LEVELS = ("queued", "active", "scheduled")


async def of_all(call: Call) -> Response:
    """All queues together."""
    minutes = call.params["minutes"]
    found, unavailable = await every.ask(call.site, lambda queue: _read(call.site, queue, minutes))
    return json_response(_drawn(found, minutes, unavailable))


async def of_queue(call: Call) -> Response:
    """One queue."""
    found = await _read(call.site, call.queue, call.params["minutes"])
    return json_response(_drawn([found], call.params["minutes"], []))


async def recent(site: Site, queue: Queue) -> dict[str, Any]:
    """How long the jobs of the last minutes had waited, and how long they ran."""
    at, history = await _read(site, queue, RECENT)
    since = at // _MINUTE - RECENT
    return {
        "minutes": RECENT,
        "wait": spread(_sum(_later(history.waits, since))),
        "run": spread(_sum(_later(history.runs, since))),
    }


def _later(by_minute: dict[int, Buckets], since: int) -> list[Buckets]:
    return [buckets for minute, buckets in by_minute.items() if minute > since]


def _step_of(minutes: int) -> int:
    return next((step for step in _STEPS if minutes <= step * _POINTS), _STEPS[-1])


async def _read(site: Site, queue: Queue, minutes: int) -> tuple[int, History]:
    """What is written down of so many minutes, and the clock by which it was."""
    at = int(await queue.server_time() * 1000)
    hour, first = at // _HOUR, (at - minutes * _MINUTE) // _HOUR
    step = _step_of(minutes)
    # What is over does not change any more: it is read and added up once an hour.
    known = site.past.get((queue.name, minutes))
    if known is None or known[0] != range(first, hour):
        hours = await asyncio.gather(*(_hour(queue, past, step) for past in range(first, hour)))
        known = (range(first, hour), _joined(hours))
        while len(site.past) >= _REMEMBERED * len(site.queues):
            del site.past[next(iter(site.past))]
        site.past[queue.name, minutes] = known
    return at, _joined([known[1], await _hour(queue, hour, step)])


async def _hour(queue: Queue, hour: int, step: int) -> History:
    """An hour, what belongs to one step of it added up. An hour has a whole number of steps."""
    found = await queue.views.history([hour])
    if step == 1:
        return found
    samples: dict[int, list[Sample]] = defaultdict(list)
    for sample in found.samples:
        samples[sample.at // _MINUTE // step].append(sample)
    # The first and the last of a step: an edge lies between the last of one and the first of the next.
    ends = [end for some in samples.values() for end in dict.fromkeys((some[0], some[-1]))]
    return History(ends, _stepped(found.waits, step), _stepped(found.runs, step), found.functions)


def _stepped(by_minute: dict[int, Buckets], step: int) -> dict[int, Buckets]:
    sums: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for minute, buckets in by_minute.items():
        add_up(sums[minute // step * step], buckets)
    return dict(sums)


def _joined(parts: Sequence[History]) -> History:
    """Hours that follow each other, as one."""
    whole = History([], {}, {}, {})
    sums: dict[str, dict[int, int]] = defaultdict(dict)
    for part in parts:
        whole.samples.extend(part.samples)
        whole.waits.update(part.waits)
        whole.runs.update(part.runs)
        for function, (failed, runs) in part.functions.items():
            before, _ = whole.functions.get(function, (0, {}))
            add_up(sums[function], runs)
            whole.functions[function] = (before + failed, sums[function])
    return whole


def _sum(parts: Iterable[Buckets]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for part in parts:
        add_up(sums, part)
    return sums


def _drawn(
    found: Sequence[tuple[int, History]], minutes: int, unavailable: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Columns of one length: what happened between ``times[i]`` and ``step`` seconds later. The last step is
    not over."""
    at = max((at for at, _ in found), default=0)
    step = _step_of(minutes)
    last = at // _MINUTE // step * step
    first = last - (minutes // step - 1) * step
    edges = [minute * _MINUTE for minute in range(first, last + step + 1, step)]
    histories = [history for _, history in found]
    functions = _functions(histories)
    return {
        "now": at,
        "minutes": minutes,
        "step": step * 60,
        "unavailable": list(unavailable),
        "times": [edge // 1000 for edge in edges[:-1]],
        **_counted(histories, edges),
        **_levels(histories, edges),
        "wait": _spreads([history.waits for history in histories], first, step, len(edges) - 1),
        "run": _spreads([history.runs for history in histories], first, step, len(edges) - 1),
        "totals": {
            "wait": spread(_sum(b for h in histories for m, b in h.waits.items() if m >= first)),
            "run": spread(_sum(b for h in histories for m, b in h.runs.items() if m >= first)),
        },
        "functions": functions,
    }


def _counted(histories: Sequence[History], edges: Sequence[int]) -> dict[str, list[float | None]]:
    grown = [rates(history.samples, edges) for history in histories]
    return {
        name: [_total(values) for values in zip(*(rate[i] for rate in grown), strict=True)]
        for i, name in enumerate(COUNTERS)
    }


def _levels(histories: Sequence[History], edges: Sequence[int]) -> dict[str, list[float | None]]:
    found = [levels(history.samples, edges) for history in histories]
    return {
        name: [
            _total([None if sample is None else getattr(sample, name) for sample in samples])
            for samples in zip(*found, strict=True)
        ]
        for name in _LEVELS
    }


def _total(values: Iterable[float | None]) -> float | None:
    """Of queues of which nothing is known, nothing is added."""
    known = [value for value in values if value is not None]
    return round(sum(known), 3) if known else None


def _spreads(
    queues: Sequence[dict[int, Buckets]], first: int, step: int, number: int
) -> dict[str, list[Any]]:
    parts: list[list[Buckets]] = [[] for _ in range(number)]
    for by_minute in queues:
        for minute, buckets in by_minute.items():
            if 0 <= (place := (minute - first) // step) < number:
                parts[place].append(buckets)
    sums = [some[0] if len(some) == 1 else _sum(some) for some in parts]
    shares = [percentiles(buckets, SHARES) for buckets in sums]
    return {
        "count": [sum(buckets.values()) for buckets in sums],
        **{name: [share[i] for share in shares] for i, name in enumerate(("p50", "p95", "p99"))},
    }


def _functions(histories: Sequence[History]) -> list[dict[str, Any]]:
    """By function, of the whole hours that are touched."""
    sums: dict[str, tuple[int, dict[int, int]]] = {}
    for history in histories:
        for name, (failed, runs) in history.functions.items():
            before, buckets = sums.setdefault(name, (0, {}))
            add_up(buckets, runs)
            sums[name] = (before + failed, buckets)
    rows = [{"function": name, "failed": failed, **spread(runs)} for name, (failed, runs) in sums.items()]
    return sorted(rows, key=lambda row: (-row["count"], row["function"]))[:FUNCTIONS]
