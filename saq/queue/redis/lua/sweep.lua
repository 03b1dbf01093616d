-- sweep: takes back expired leases, moves what is due, and clears what outlived its time; all bounded.
-- KEYS  prefix
-- ARGV  lease ms, max_lost, error message or '', 'leases' | 'due' | 'all'
-- Returns {keys whose lease had ended, keys that became due}
--@include clock header runs mail order finish promote expire calm
-- A failed job is kept for a week, or for its `ttl` if that is longer. Those are stepped over, a page a sweep.
local function sweep_failed()
  local from = tonumber(call('HGET', P .. 'meta', 'failed_cursor')) or 0
  local old = call('ZRANGEBYSCORE', P .. 'failed', '-inf', now - KEPT_FAILED_MS, 'LIMIT', from, 100)
  local outlived = {}
  for _, key in ipairs(old) do
    local left = call('PTTL', P .. 'job:' .. key)
    if left ~= -1 and left <= FOUND_MS then outlived[#outlived + 1] = key end
  end
  if #outlived > 0 then
    call('ZREM', P .. 'failed', unpack(outlived))
    drop_failed(outlived)
  end
  call('HSET', P .. 'meta', 'failed_cursor', #old == 100 and from + 100 - #outlived or 0)
end
local swept = {}
if ARGV[4] ~= 'due' then
  local meta = call('HMGET', P .. 'meta', 'stepped', 'calm')
  if calm(meta[1], meta[2], tonumber(ARGV[1])) then
    swept = expire(tonumber(ARGV[2]), ARGV[3] ~= '' and ARGV[3] or nil)
  end
end
if ARGV[4] ~= 'leases' then promote() end
if #swept > 0 or #promoted > 0 then wake() end
if ARGV[4] == 'all' then
  call('ZREMRANGEBYSCORE', P .. 'functions', '-inf', now - 86400000)
  sweep_failed()
  local cursor = call('HGET', P .. 'meta', 'watch_cursor') or '0'
  local page = call('HSCAN', P .. 'watching', cursor, 'COUNT', 100)
  for i = 1, #page[2], 2 do
    if tonumber(string.match(page[2][i + 1], '^%d+')) < now then call('HDEL', P .. 'watching', page[2][i]) end
  end
  call('HSET', P .. 'meta', 'watch_cursor', page[1])
end
send_mail()
return { swept, promoted }
