-- register: a worker says that it lives and what it knows, or (ttl 0) that it has stopped.
-- KEYS  prefix
-- ARGV  worker, ttl ms, what is known of it, function …
-- Returns now
--@include clock
local worker, ttl = ARGV[1], tonumber(ARGV[2])
if ttl == 0 then
  redis.call('ZREM', P .. 'workers', worker)
  redis.call('UNLINK', P .. 'worker:' .. worker)
  return now
end
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', now)
redis.call('ZADD', P .. 'workers', now + ttl, worker)
redis.call('HSET', P .. 'worker:' .. worker, 'info', ARGV[3], 'seen', now)
redis.call('PEXPIRE', P .. 'worker:' .. worker, ttl)
for i = 4, #ARGV do redis.call('ZADD', P .. 'functions', now, ARGV[i]) end
return now
