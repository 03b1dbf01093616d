-- cron: enqueues the job of a tick, once however many workers ask for it.
-- KEYS  prefix
-- ARGV  client, number, entry, tick ms, key, value
-- Returns {now, 'first' entry seen for the first time: only recorded | 'enqueued' | 'done' by another |
--          'running' the predecessor still runs: skipped}
--@include clock replay header mail order marker fill insert
local answer = earlier_answer()
if answer then return answer end
local entry, tick = ARGV[3], tonumber(ARGV[4])
local last = tonumber(call('ZSCORE', P .. 'cron', entry) or -1)
if last < 0 then
  call('ZADD', P .. 'cron', tick, entry)
  return remember({ now, 'first' })
end
if tick <= last or tick > now then return { now, 'done' } end
call('ZADD', P .. 'cron', tick, entry)
local verdict = insert({ ARGV[5] }, { ARGV[6] })
send_mail()
return remember({ now, verdict == '1' and 'enqueued' or 'running' })
