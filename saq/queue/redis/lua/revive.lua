-- revive: retry, requeue and run now, for those who do not own the job.
-- KEYS  prefix
-- ARGV  client, number, key, '1' to run a scheduled job now, the only place where that may happen, if not any
-- Returns {where the job was}. One that was finished is enqueued again, in a new life: no attempts so far.
--@include clock replay header runs mail order marker patch place_of
local answer = earlier_answer()
if answer then return answer end
local key = ARGV[3]
local was, value = place_of(key)
if ARGV[5] and was ~= ARGV[5] then return remember({ was }) end
if was == 'scheduled' and ARGV[4] == '1' then
  local header, payload = split_value(value)
  call('ZREM', P .. 'scheduled', key)
  call('ZADD', P .. 'queued', place(header, take_sequence(1) + 1), key)
  -- It has no time any more that it waits for, and does not look as if it had.
  call('HSET', P .. 'jobs', key, (string.gsub(header, ';s[^;]*', '')) .. payload)
  wake()
elseif was == 'finished' then
  local record = call('GET', P .. 'job:' .. key)
  local header, rest = split_value(record)
  local cut = #rest
  for _, section in ipairs({ 'm', 'e', 'o' }) do cut = cut - header_number(header, section, 0) end
  local length = header_number(header, 'm', 0)
  if call('ZREM', P .. 'failed', key) == 1 then
    call('HINCRBY', P .. 'meta', 'failed_bytes', -#record)
  end
  call('ZREM', P .. 'finished', key)
  call('UNLINK', P .. 'job:' .. key)
  local base = string.gsub(string.match(header, '^%d+(.-);S'), ';s[^;]*', '')
  call('ZADD', P .. 'queued', place(base, take_sequence(1) + 1), key)
  call('HSET', P .. 'jobs', key, stamp .. base .. sub(rest, 1, cut))
  local patch = length > 0 and fresh_patch(sub(rest, -length)) or ''
  if patch ~= '' then call('HSET', P .. 'patch', key, patch) end
  call('HINCRBY', P .. 'stats', 'enqueued', 1)
  wake()
  announce({ key }, 'queued')
end
send_mail()
return remember({ was })
