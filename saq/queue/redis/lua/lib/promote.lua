-- Moves what is due from `scheduled` to `queued`, a bounded number at a time. Returns when the next one is
-- due (ms), or -1. A job that had a place before (it was taken back) returns to it.
local PROMOTED_AT_ONCE = 100
local promoted = {}
local function promote()
  local first = call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')[2]
  if not first or tonumber(first) > now then return tonumber(first or -1) end
  local keys = call('ZRANGEBYSCORE', P .. 'scheduled', '-inf', stamp, 'LIMIT', 0, PROMOTED_AT_ONCE)
  call('ZREM', P .. 'scheduled', unpack(keys))
  local values = call('HMGET', P .. 'jobs', unpack(keys))
  local runs = call('HMGET', P .. 'runs', unpack(keys))
  local sequence, ready = take_sequence(#keys), {}
  for i, key in ipairs(keys) do
    if values[i] then
      ready[#ready + 1] = runs[i] and read_run(runs[i]).score or place(split_value(values[i]), sequence + i)
      ready[#ready + 1] = key
      promoted[#promoted + 1] = key
    end
  end
  if #ready > 0 then call('ZADD', P .. 'queued', unpack(ready)) end
  return tonumber(call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')[2] or -1)
end
