-- The marker that idle workers block on. One is enough: a claim that leaves work behind sets it again. A
-- marker that cannot be set (above `maxmemory`) costs time, never a job.
local function wake() redis.pcall('ZADD', P .. 'wake', 0, 'work') end
-- Puts off jobs (due ms, key, …). When the first of them became earlier, workers are told; who only blocks on
-- the marker is woken, one of them, to find out.
local function schedule(entries)
  local first = call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')[2]
  call('ZADD', P .. 'scheduled', unpack(entries))
  local earliest = call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')[2]
  if earliest ~= first then
    wake()
    post(P .. 'control', 'due', '', earliest)
  end
end
