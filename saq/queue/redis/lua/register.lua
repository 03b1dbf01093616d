-- register: a worker says that it lives and what it knows, or (ttl 0) that it has stopped.
-- KEYS  prefix
-- ARGV  worker, ttl ms, what is known of it, function …
-- Returns now
--@include clock
local worker, ttl = ARGV[1], tonumber(ARGV[2])
if ttl == 0 then
  call('ZREM', P .. 'workers', worker)
  call('ZREM', P .. 'quiet', worker) -- the next one of that name takes jobs
  call('UNLINK', P .. 'worker:' .. worker)
  return now
end
call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', now)
call('ZADD', P .. 'workers', now + ttl, worker)
call('HSET', P .. 'worker:' .. worker, 'info', ARGV[3], 'seen', now)
call('PEXPIRE', P .. 'worker:' .. worker, ttl)
for i = 4, #ARGV do call('ZADD', P .. 'functions', 'GT', now + ttl, ARGV[i]) end
return now
