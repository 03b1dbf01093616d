-- counts: how a queue is at this moment, by commands whose cost does not grow with the number of jobs.
-- KEYS  prefix
-- Returns {now, queued, scheduled, active, finished, failed, incomplete, paused since or 0, next due or 0, since
--          when the job waits that waits longest or 0, live workers, enqueued, complete, failed, aborted, retried,
--          lost}
--@include clock header runs mail order
local PRIORITIES = 16 -- so many of them are looked at, those that run first

-- The first of a priority waits longest in it: those of one priority are in the order of their queueing.
local function waits_since()
  local longest = 0
  local first = call('ZRANGE', P .. 'queued', 0, 0, 'WITHSCORES')
  for _ = 1, PRIORITIES do
    if #first == 0 then break end
    local value, packed = call('HGET', P .. 'jobs', first[1]), call('HGET', P .. 'runs', first[1])
    if value then
      local header = split_value(value)
      local since = math.max(tonumber(string.match(header, '^%d+')), header_number(header, 's', 0) * 1000,
        packed and read_run(packed).started or 0)
      if longest == 0 or since < longest then longest = since end
    end
    local next_priority = (math.floor(tonumber(first[2]) / SEQUENCE) + 1) * SEQUENCE
    first = call('ZRANGEBYSCORE', P .. 'queued', string.format('%.0f', next_priority), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
  return math.floor(longest)
end

local answer = { now }
for _, name in ipairs({ 'queued', 'scheduled', 'active', 'finished', 'failed' }) do
  answer[#answer + 1] = call('ZCARD', P .. name)
end
answer[7] = call('HLEN', P .. 'jobs')
answer[8] = tonumber(call('HGET', P .. 'meta', 'paused') or 0)
answer[9] = tonumber(call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')[2] or 0)
answer[10] = waits_since()
answer[11] = call('ZCOUNT', P .. 'workers', '(' .. stamp, '+inf')
local stats = call('HMGET', P .. 'stats', 'enqueued', 'complete', 'failed', 'aborted', 'retried', 'lost')
for i = 1, 6 do answer[11 + i] = tonumber(stats[i] or 0) end
return answer
