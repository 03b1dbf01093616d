-- workers: who is registered, and what runs where; both up to a bound.
-- KEYS  prefix
-- ARGV  most workers, most running jobs
-- Returns {now, workers, running}
--   workers  for each: id, registered until, info, seen, about or false, reported or false, quiet until or false
--   running  for each, the leases that end first: member, lease until, worker, started
--@include clock runs
local workers, running = {}, {}
local live = call('ZRANGEBYSCORE', P .. 'workers', '(' .. stamp, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #live, 2 do
  local known = call('HMGET', P .. 'worker:' .. live[i], 'info', 'seen', 'about', 'reported')
  if known[1] then
    local quiet = call('ZSCORE', P .. 'quiet', live[i])
    for _, field in ipairs({ live[i], live[i + 1], known[1], known[2], known[3], known[4],
      quiet and tonumber(quiet) > now and quiet }) do
      workers[#workers + 1] = field
    end
  end
end
local active, keys = call('ZRANGE', P .. 'active', 0, ARGV[2] - 1, 'WITHSCORES'), {}
for i = 1, #active, 2 do keys[#keys + 1] = key_of(active[i]) end
local runs = #keys > 0 and call('HMGET', P .. 'runs', unpack(keys)) or {}
for i, packed in ipairs(runs) do
  if packed then
    local run = read_run(packed)
    local n = #running
    running[n + 1], running[n + 2], running[n + 3], running[n + 4] = active[2 * i - 1], active[2 * i], run.worker, run.started
  end
end
return { now, workers, running }
