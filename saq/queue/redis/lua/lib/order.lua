-- The order of `queued`: 16 bits of priority, then 37 bits of sequence, in the 53 bits of a score.
local SEQUENCE = 137438953472 -- 2^37
local function take_sequence(count)
  local last = call('HINCRBY', P .. 'meta', 'sequence', count)
  -- Started again while nothing is queued, long before it could run into the priority.
  if last > SEQUENCE / 2 and call('EXISTS', P .. 'queued') == 0 then
    call('HSET', P .. 'meta', 'sequence', count)
    last = count
  end
  return math.min(last, SEQUENCE - 1) - count
end
local function place(header, sequence)
  return (header_number(header, 'p', 0) + 32768) * SEQUENCE + sequence
end
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
