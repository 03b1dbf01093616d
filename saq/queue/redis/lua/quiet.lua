-- quiet: asks a worker to take no more jobs for some time, or (0 seconds) to take jobs again.
-- KEYS  prefix
-- ARGV  worker, seconds
-- Returns {now, until when (ms), 0 if not at all, or -1 if no such worker is registered}
--@include clock mail
local worker, seconds = ARGV[1], tonumber(ARGV[2])
local registered = call('ZSCORE', P .. 'workers', worker)
if not registered or tonumber(registered) <= now then return { now, -1 } end
call('ZREMRANGEBYSCORE', P .. 'quiet', '-inf', now)
local until_ms = 0
if seconds > 0 then
  until_ms = now + seconds * 1000
  call('ZADD', P .. 'quiet', until_ms, worker)
else
  call('ZREM', P .. 'quiet', worker)
end
-- Whoever does not hear this is told with its next report.
post(P .. 'control:' .. worker, 'quiet', worker, seconds > 0 and '1' or '')
send_mail()
return { now, until_ms }
