-- info: how many, who works, and a page of the jobs that are incomplete: running, then queued, then scheduled.
-- KEYS  prefix
-- ARGV  offset, limit (0: no jobs)
-- Returns {now, queued, active, scheduled, incomplete, paused, keys, then for each worker: id, info}
--@include clock runs
local counts = {}
for i, name in ipairs({ 'queued', 'active', 'scheduled' }) do counts[i] = call('ZCARD', P .. name) end
local offset, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local keys = {}
for i, name in ipairs({ 'active', 'queued', 'scheduled' }) do
  local count = call('ZCARD', P .. name)
  local room = limit - #keys
  if room > 0 and offset < count then
    for _, member in ipairs(call('ZRANGE', P .. name, offset, offset + room - 1)) do
      keys[#keys + 1] = i == 1 and key_of(member) or member
    end
  end
  offset = math.max(0, offset - count)
end
local answer = {
  now, counts[1], counts[2], counts[3], call('HLEN', P .. 'jobs'),
  call('HEXISTS', P .. 'meta', 'paused'), keys,
}
for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'workers', '(' .. stamp, '+inf')) do
  local info = call('HGET', P .. 'worker:' .. worker, 'info')
  if info then
    answer[#answer + 1] = worker
    answer[#answer + 1] = info
  end
end
return answer
