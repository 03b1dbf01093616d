-- repair_counters: looks at what is single in a queue, and mends what does not fit.
-- KEYS  prefix
-- ARGV  client, number, 'mend' | 'look', then
--   'types', name, type …           the keys of the queue: while one is of another type, nothing else can be looked at
--   'numbers'                       what the scripts count with
--   'bytes', rank, how many         the lengths of records of failed jobs
--   'failed_bytes', count, counted, sum   what they were, and what they are
--   'totals'                        the counters that a number of jobs follows from, and the marker
-- Returns {findings, more}
--   more  of 'types' the size of each key and the time of the first entry of `finished`; of 'bytes' how many
--         failed jobs there are, the bytes that are counted, the bytes of these; of 'totals' 1 if it set the marker
--@include clock replay header mail order marker findings
local COUNTED = { meta = { 'sequence', 'token', 'failed_bytes', 'watch_cursor' },
  stats = { 'enqueued', 'complete', 'failed', 'aborted', 'retried', 'lost' } }
local SIZES = { hash = 'HLEN', zset = 'ZCARD' }
local answer = earlier_answer()
if answer then return answer end
local function counted_bytes() return tonumber(call('HGET', P .. 'meta', 'failed_bytes') or 0) or 0 end
local what, more = ARGV[4], {}

if what == 'types' then
  for i = 5, #ARGV, 2 do
    local kind = call('TYPE', P .. ARGV[i]).ok
    if kind == 'none' then
      more[#more + 1] = 0
    elseif kind == ARGV[i + 1] then
      more[#more + 1] = call(SIZES[kind], P .. ARGV[i])
    else
      found('type', ARGV[i], kind)
    end
  end
  if #findings == 0 then
    more[#more + 1] = tonumber(call('ZRANGE', P .. 'finished', 0, 0, 'WITHSCORES')[2] or 0)
  end
elseif what == 'numbers' then
  for name, fields in pairs(COUNTED) do
    for i, value in ipairs(call('HMGET', P .. name, unpack(fields))) do
      if value and not string.match(value, '^%d+$') and found('counter', fields[i], 'a number') then
        call('HDEL', P .. name, fields[i])
      end
    end
  end
elseif what == 'bytes' then
  local sum = 0
  for _, key in ipairs(call('ZRANGE', P .. 'failed', ARGV[5], ARGV[5] + ARGV[6] - 1)) do
    sum = sum + call('STRLEN', P .. 'job:' .. key)
  end
  more = { call('ZCARD', P .. 'failed'), counted_bytes(), sum }
elseif what == 'failed_bytes' then
  -- Only if nothing has changed since the records were measured.
  local same = call('ZCARD', P .. 'failed') == tonumber(ARGV[5]) and counted_bytes() == tonumber(ARGV[6])
  if same and found('counter', what, ARGV[7]) then
    call('HSET', P .. 'meta', 'failed_bytes', ARGV[7])
  end
elseif what == 'totals' then
  local stats = call('HMGET', P .. 'stats', 'enqueued', 'complete', 'failed', 'aborted')
  local total = call('HLEN', P .. 'jobs')
  for i = 2, 4 do total = total + (tonumber(stats[i]) or 0) end
  -- Some jobs were deleted and are counted nowhere; but none came from nowhere.
  local least = string.format('%.0f', total)
  if (tonumber(stats[1]) or 0) < total and found('counter', 'enqueued', 'at least ' .. least) then
    call('HSET', P .. 'stats', 'enqueued', least)
  end
  -- The marker may be with a worker, or lost with one: that is no fault, and to set it costs a look.
  local work = call('EXISTS', P .. 'queued', P .. 'scheduled') > 0 and call('HEXISTS', P .. 'meta', 'paused') == 0
  if mend and work and call('EXISTS', P .. 'wake') == 0 then
    wake()
    more = { 1 }
  end
end
send_mail()
answer = { findings, more }
if mend and #findings > 0 then remember(answer) end
return answer
