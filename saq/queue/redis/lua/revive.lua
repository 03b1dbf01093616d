-- revive: retry, requeue and run now, for those who do not own the job.
-- KEYS  prefix
-- ARGV  client, number, key, '1' to run a scheduled job now
-- Returns {where the job was}. One that was finished is enqueued again, in a new life: no attempts so far.
--@include clock replay header runs mail order place_of
local answer = earlier_answer()
if answer then return answer end
local key = ARGV[3]
local was, value = place_of(key)
if was == 'scheduled' and ARGV[4] == '1' then
  redis.call('ZREM', P .. 'scheduled', key)
  redis.call('ZADD', P .. 'queued', place((split_value(value)), take_sequence(1) + 1), key)
  wake()
elseif was == 'finished' then
  local record = redis.call('GET', P .. 'job:' .. key)
  local header, rest = split_value(record)
  local cut = #rest
  for _, section in ipairs({ 'm', 'e', 'o' }) do cut = cut - header_number(header, section, 0) end
  local length = header_number(header, 'm', 0)
  if redis.call('ZREM', P .. 'failed', key) == 1 then
    redis.call('HINCRBY', P .. 'meta', 'failed_bytes', -#record)
  end
  redis.call('ZREM', P .. 'finished', key)
  redis.call('UNLINK', P .. 'job:' .. key)
  local base = string.gsub(string.match(header, '^%d+(.-);S'), ';s[^;]*', '')
  redis.call('ZADD', P .. 'queued', place(base, take_sequence(1) + 1), key)
  redis.call('HSET', P .. 'jobs', key, string.format('%.0f', now) .. base .. string.sub(rest, 1, cut))
  if length > 0 then redis.call('HSET', P .. 'patch', key, string.sub(rest, -length)) end
  redis.call('HINCRBY', P .. 'stats', 'enqueued', 1)
  wake()
  announce({ key }, 'queued')
end
send_mail()
return remember({ was })
