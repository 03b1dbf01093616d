-- report: a registered worker says what it is and what it has done since its last report.
-- KEYS  prefix
-- ARGV  client, number, worker, what it is, its cron entries, waits, then for each function: name, failed, run times
--   Waits and run times come in buckets: `<bucket>:<count> …`.
-- Returns {1 if it shall take no jobs at present, else 0}
--@include clock replay hour
local FUNCTIONS_KEPT = 100 -- an hour; what the others did is added up under no name
local answer = earlier_answer()
if answer then return answer end
call('HDEL', P .. 'meta', '') -- needs no memory: after it, neither does the rest, above `maxmemory`
local worker = P .. 'worker:' .. ARGV[3]

local function add_up(...)
  local counts, rows = {}, {}
  for _, text in ipairs({ ... }) do
    for bucket, count in string.gmatch(text, '(-?%d+):(%d+)') do counts[bucket] = (counts[bucket] or 0) + count end
  end
  for bucket, count in pairs(counts) do rows[#rows + 1] = bucket .. ':' .. string.format('%.0f', count) end
  return table.concat(rows, ' ')
end

if call('EXISTS', worker) == 1 then
  call('HSET', worker, 'about', ARGV[4], 'cron', ARGV[5], 'reported', stamp)
end
if #ARGV > 6 then
  local waits, runs = 'w' .. minute, 'r' .. minute
  local known = call('HMGET', HOUR, waits, runs, 'functions')
  local count, all = tonumber(known[3] or 0), known[2] or ''
  for i = 7, #ARGV, 3 do
    local name = 'f:' .. ARGV[i]
    local row = call('HGET', HOUR, name)
    if not row and count >= FUNCTIONS_KEPT then
      name = 'f:'
      row = call('HGET', HOUR, name)
    elseif not row then
      count = count + 1
    end
    local failed = tonumber(row and string.match(row, '^%d+') or 0) + ARGV[i + 1]
    record(name, string.format('%.0f ', failed) .. add_up(row or '', ARGV[i + 2]))
    all = add_up(all, ARGV[i + 2])
  end
  record(waits, add_up(known[1] or '', ARGV[6]), runs, all, 'functions', count)
end
local quiet = call('ZSCORE', P .. 'quiet', ARGV[3])
return remember({ quiet and tonumber(quiet) > now and 1 or 0 })
