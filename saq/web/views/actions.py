"""What may be done: to a job, to many, to a queue.

Owns which operation of a queue an action stands for, and what is said of one that came too late. Must not
change anything but through those operations: they are fenced, so what comes too late changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from saq.errors import RunningError, StaleError
from saq.job import Job
from saq.queue.base import Queue
from saq.queue.views import Place
from saq.utils import now
from saq.web import cursors, paths
from saq.web.call import Call
from saq.web.http import HttpError, Response, json_response
from saq.web.present import PLACES, state_of
from saq.web.search import Filter, find
from saq.web.views import jobs

logger = logging.getLogger("saq")

REASON = "aborted from the web interface"
#: Jobs that one request changes, and seconds after which it leaves the rest to the next one.
MANY = 250
PATIENCE = 3.0

#: What there is to do, and what it does.
ACTIONS = {
    "retry": "a finished one is queued again, its attempts forgotten",
    "abort": "one that waits is ended, one that runs is asked to end",
    "delete": "one that does not run is removed",
    "run": "a scheduled one is queued at once, a finished one again",
}
_DONE = {"retry": "retried", "abort": "aborted", "delete": "deleted", "run": "ran"}
_SAID = {
    "retry": "It is queued again.",
    "delete": "It was deleted.",
    "run": "It was queued at once.",
}
#: Why an action changed nothing, by where the job is; and what stands for the rest.
_TOO_LATE = {
    ("retry", "active"): ("running", "It is running: nothing was changed. Abort it, or wait for its end."),
    ("retry", "queued"): ("not_finished", "It waits to be run already: nothing was changed."),
    ("run", "active"): ("running", "It is running already: nothing was changed."),
    ("run", "queued"): ("not_scheduled", "It is queued already: nothing was changed."),
    ("abort", "finished"): ("finished", "It had ended already: nothing was changed."),
    ("delete", "active"): ("running", "It is running: nothing was changed. Abort it first."),
}
#: Of what has ended, how it did.
_ENDS = ("complete", "failed", "aborted")
_MOVED_ON = "It is {} by now: nothing was changed."
_GONE = ("no_such_job", "There is no job of this key, or it is kept no longer.")
_NO_TIME = ("no_time", "There was no time for it: nothing was changed. Ask again.")

View = Callable[[Call], Awaitable[Response]]


def on_one(action: str) -> View:
    """The view that does this to the job in the path."""

    async def view(call: Call) -> Response:
        seen = await jobs.read(call)
        state = call.body.get("state")
        if _is_other(seen, state) or not await _do(call.queue, action, seen.key, _place(state)):
            code, message = _why_not(action, (await call.queue.views.jobs([seen.key]))[0])
            raise HttpError(404 if code == _GONE[0] else 409, code, message)
        _log(call, f"{_DONE[action]} the job {seen.key!r}")
        (job,) = await call.queue.views.jobs([seen.key])
        message = _SAID.get(action) or (
            "Its worker was told to stop it."
            if PLACES.get(state_of(seen)) == "active"
            else "It was aborted before it started."
        )
        return json_response(
            {"now": now(), "message": message, "job": None if job is None else jobs.whole(call, job)}
        )

    return view


def on_many(action: str) -> View:
    """The view that does this to the jobs of some keys, or to a slice of all that match."""

    async def view(call: Call) -> Response:
        if ("keys" in call.body) == ("match" in call.body):
            raise HttpError(422, "bad_value", "The body needs either keys or a match.")
        if "keys" in call.body:
            return json_response(await _on_keys(call, action))
        return json_response(await _on_match(call, action))

    return view


async def _on_keys(call: Call, action: str) -> dict[str, Any]:
    given = list(dict.fromkeys(call.body["keys"]))
    state = call.body.get("state")
    keys, refused = given, []
    if state in _ENDS:
        found = dict(zip(given, await call.queue.views.jobs(given), strict=True))
        others = {key: job for key, job in found.items() if job is not None and _is_other(job, state)}
        keys = [key for key in given if key not in others]
        refused = [_refusal(call, key, *_why_not(action, job)) for key, job in others.items()]
    done, reached, late = await _do_all(call, action, keys, _place(state))
    refused += late + [_refusal(call, key, *_NO_TIME) for key in keys[reached:]]
    return {
        "now": now(),
        "total": len(given),
        "position": 0,
        "searched": len(given),
        "next": None,
        "matched": len(given),
        "done": done,
        "refused": refused,
    }


async def _on_match(call: Call, action: str) -> dict[str, Any]:
    match = call.body["match"]
    after = cursors.read(call.body.get("cursor"))
    found = await find(call.queue, match["state"], after, Filter.of(call.site.presenter, match), MANY)
    keys = [job.key for job in found.jobs]
    done, reached, refused = await _do_all(call, action, keys, _place(match["state"]))
    # Jobs that came to where they are after the first request are not meant.
    began = after.began if after is not None else found.now
    shown = found.shown()
    if reached < len(keys):
        # No time for the rest: it goes on behind the last one that was done.
        mark, shown["searched"] = found.places[reached - 1]
        shown["next"] = str(cursors.Cursor(mark, began))
    elif found.next is not None:
        shown["next"] = str(found.next._replace(began=began))
    return {**shown, "matched": reached, "done": done, "refused": refused}


async def _do_all(
    call: Call, action: str, keys: Sequence[str], only: Place | None
) -> tuple[int, int, list[dict[str, Any]]]:
    """Does it to one after the other. How many it was done to, how many were reached, and those refused."""
    end = time.monotonic() + PATIENCE
    late: list[str] = []
    reached = 0
    for key in keys:
        if reached and time.monotonic() > end:
            break
        if not await _do(call.queue, action, key, only):
            late.append(key)
        reached += 1
    found = await call.queue.views.jobs(late)
    refused = [_refusal(call, key, *_why_not(action, job)) for key, job in zip(late, found, strict=True)]
    done = reached - len(late)
    if done:
        _log(call, f"{_DONE[action]} {done} of {reached} jobs")
    return done, reached, refused


async def _do(queue: Queue, action: str, key: str, only: Place | None) -> bool:
    """Whether it was done; if not, nothing was changed."""
    try:
        if action == "abort":
            return await queue.abort(Job("", key=key, queue=queue), REASON, only=only)
        if action == "delete":
            return await queue.delete(key, only=only)
        if action == "run":
            return await queue.run_now(key, only=only)
        # By its key: through the handle, a job that this very process runs would be ended and tried again.
        return await queue.requeue(key, only=only)
    except (RunningError, StaleError):
        return False


def _why_not(action: str, job: Job | None) -> tuple[str, str]:
    """Why nothing was changed, in a word and in a sentence."""
    if job is None:
        return _GONE
    state = state_of(job)
    place = PLACES.get(state, "queued")
    known = _TOO_LATE.get((action, "queued" if place == "scheduled" else place))
    return known or ("moved_on", _MOVED_ON.format(state))


def _refusal(call: Call, key: str, error: str, message: str) -> dict[str, Any]:
    return {
        "key": key,
        "path": paths.join("queues", call.queue.name, "jobs", key),
        "error": error,
        "message": message,
    }


def _is_other(job: Job, state: str | None) -> bool:
    """Whether a job has come to another end than the one that somebody has seen. That it ended, its place
    says; how, it does not."""
    return state in _ENDS and state_of(job) != state


def _place(state: str | None) -> Place | None:
    """Where a job is whose state somebody has seen: the action is meant for it there."""
    return None if state is None else PLACES[state]


async def pause(call: Call) -> Response:
    """Hands out no more jobs; what runs goes on."""
    await call.queue.pause()
    _log(call, "paused the jobs")
    return await _paused(call, "It is paused: what runs goes on, and nothing else starts.")


async def resume(call: Call) -> Response:
    """Hands out jobs again."""
    await call.queue.resume()
    _log(call, "resumed the jobs")
    return await _paused(call, "It hands out jobs again.")


async def _paused(call: Call, message: str) -> Response:
    counts = await call.queue.views.counts()
    return json_response({"now": counts.now, "message": message, "paused": counts.paused or None})


def _log(call: Call, what: str) -> None:
    logger.info("Web: %s %s of the queue %r", call.request.peer or "somebody", what, call.queue.name)
