"""A look at all jobs at one moment: whether each is in exactly one place, and whether the counters agree.

Owns a script that only reads. As a script is one moment, this holds at any time, whatever is being broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SCRIPT = """
local P, wrong, places, known = KEYS[1], {}, {}, {}
local function seen(key, place) places[key] = (places[key] and places[key] .. ' and ' or '') .. place end
for _, name in ipairs({ 'queued', 'scheduled' }) do
  for _, key in ipairs(redis.call('ZRANGE', P .. name, 0, -1)) do seen(key, name) end
end
for _, member in ipairs(redis.call('ZRANGE', P .. 'active', 0, -1)) do
  seen(string.match(member, '^%d+:(.*)$'), 'active')
end
local jobs = redis.call('HKEYS', P .. 'jobs')
for _, key in ipairs(jobs) do
  known[key] = true
  local place = places[key]
  if not place then wrong[#wrong + 1] = key .. ' is incomplete and in no list'
  elseif string.find(place, ' and ', 1, true) then wrong[#wrong + 1] = key .. ' is ' .. place end
  places[key] = nil
end
for key, place in pairs(places) do wrong[#wrong + 1] = key .. ' is ' .. place .. ' and no job' end
for _, name in ipairs({ 'runs', 'patch', 'waiting' }) do
  for _, key in ipairs(redis.call('HKEYS', P .. name)) do
    if not known[key] then wrong[#wrong + 1] = key .. ' is in ' .. name .. ' and no job' end
  end
end
local stats = redis.call('HMGET', P .. 'stats', 'enqueued', 'complete', 'failed', 'aborted')
local left = (stats[1] or 0) - (stats[2] or 0) - (stats[3] or 0) - (stats[4] or 0)
if left ~= #jobs then wrong[#wrong + 1] = 'counted as incomplete: ' .. left .. ', and ' .. #jobs .. ' are' end
return { #jobs, wrong }
"""


class Census:
    """Looks, and keeps what does not fit.

    Args:
        ask: sends a command to the server.
        prefix: of the queue's keys.
    """

    def __init__(self, ask: Callable[..., Any], prefix: str) -> None:
        self._ask = ask
        self._prefix = prefix
        #: How often it looked, and what was wrong.
        self.taken = 0
        self.wrong: list[str] = []

    def take(self) -> int:
        """Looks. Returns how many jobs are incomplete."""
        incomplete, wrong = self._ask("EVAL", SCRIPT, 1, self._prefix)
        self.taken += 1
        self.wrong += [f"{line.decode('utf-8', 'replace')} (look {self.taken})" for line in wrong]
        return int(incomplete)
