-- sweep: takes back expired leases, moves what is due, and clears what outlived its time; all bounded.
-- KEYS  prefix
-- ARGV  lease ms, max_lost, error message or '', 'leases' | 'due' | 'all'
-- Returns {keys whose lease had ended, keys that became due}
--@include clock header runs mail order marker finish promote expire calm hour
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
-- Once a minute, whoever comes first writes down how the counters stand.
local function sample()
  local counts = call('HMGET', P .. 'stats', 'enqueued', 'complete', 'failed', 'aborted', 'retried', 'lost')
  for i = 1, 6 do counts[i] = counts[i] or '0' end
  for _, name in ipairs({ 'queued', 'active', 'scheduled' }) do
    counts[#counts + 1] = string.format('%.0f', call('ZCARD', P .. name))
  end
  record('s' .. minute, stamp .. ' ' .. table.concat(counts, ' '))
  call('HSET', P .. 'meta', 'sampled', this_minute)
end
local swept, meta = {}, nil
if ARGV[4] ~= 'due' then
  meta = call('HMGET', P .. 'meta', 'stepped', 'calm', 'sampled', 'sequence')
  if calm(meta[1], meta[2], tonumber(ARGV[1])) then
    swept = expire(tonumber(ARGV[2]), ARGV[3] ~= '' and ARGV[3] or nil)
  end
end
if ARGV[4] ~= 'leases' then promote() end
if #swept > 0 or #promoted > 0 then wake() end
if ARGV[4] == 'all' then
  call('ZREMRANGEBYSCORE', P .. 'functions', '-inf', now - 86400000)
  sweep_failed()
  -- Nothing was ever enqueued where there is no sequence.
  if meta[4] and meta[3] ~= this_minute then sample() end
  local cursor = call('HGET', P .. 'meta', 'watch_cursor') or '0'
  local page = call('HSCAN', P .. 'watching', cursor, 'COUNT', 100)
  for i = 1, #page[2], 2 do
    if tonumber(string.match(page[2][i + 1], '^%d+')) < now then call('HDEL', P .. 'watching', page[2][i]) end
  end
  call('HSET', P .. 'meta', 'watch_cursor', page[1])
end
send_mail()
return { swept, promoted }
