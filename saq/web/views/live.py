"""What happens second by second, asked for or as a stream of events.

Must not measure anything: that is ``saq/web/live.py``.
"""

from __future__ import annotations

from saq.web.call import Call
from saq.web.http import EVENTS, Response, json_response
from saq.web.params import whole_number


async def poll(call: Call) -> Response:
    """The samples since some moment."""
    return json_response(await call.site.live.since(call.params["after"]))


async def events(call: Call) -> Response:
    """The same, as they come. A browser that comes back says which one it has seen last."""
    seen = whole_number(call.request.headers.get("last-event-id"), 0, 0, 2**53)
    stream = call.site.live.stream(max(seen, call.params["after"]))
    # nginx keeps an answer back until it is whole, unless it is told not to.
    return Response(200, b"", {"Content-Type": EVENTS, "X-Accel-Buffering": "no"}, stream)
