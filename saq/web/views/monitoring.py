"""What other tools read: metrics, and whether all is well here."""

from __future__ import annotations

from saq.errors import MissingDependencyError
from saq.observe import health
from saq.observe.monitor import Monitor, monitor_of
from saq.web.call import Call
from saq.web.http import HttpError, Response, json_response


async def metrics(call: Call) -> Response:
    """The queues as a whole, for Prometheus, and the workers of this process without a port of their own."""
    try:
        from saq.observe import metrics as prometheus
    except MissingDependencyError as error:
        raise HttpError(
            501, "not_installed", 'This needs prometheus-client on the server: pip install "saq[metrics]".'
        ) from error
    parts = [prometheus.of_queues(await prometheus.read(call.site.queues.values()))]
    own = [monitor for monitor in _monitors(call) if not monitor.served]
    if own:
        parts.append(prometheus.of_workers(own))
    body, content_type = prometheus.render(*parts, accept=call.request.headers.get("accept", ""))
    return Response(200, body, {"Content-Type": content_type})


async def ready(call: Call) -> Response:
    """Whether the servers answer, and the worker in this process, if there is one, does its work."""
    reached = await health.ask(call.site.queues.values())
    monitors: list[Monitor | None] = [*_monitors(call)]
    for monitor in monitors or [None]:
        found = health.readiness(reached, monitor)
        if not found.ready:
            break
    return json_response(found.to_dict(), 200 if found.ready else 503)


def _monitors(call: Call) -> list[Monitor]:
    found = (monitor_of(queue) for queue in call.site.queues.values())
    return [monitor for monitor in found if monitor is not None]
