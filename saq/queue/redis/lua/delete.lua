-- delete: removes a job and what is known of it. A running one stays.
-- KEYS  prefix
-- ARGV  client, number, key, the only place where that may happen, if not any
-- Returns {where the job was}
--@include clock replay header runs mail finish place_of
local answer = earlier_answer()
if answer then return answer end
local key = ARGV[3]
local was, value = place_of(key)
if was ~= 'active' and was ~= 'missing' and was == (ARGV[4] or was) then
  call('ZREM', P .. 'queued', key)
  call('ZREM', P .. 'scheduled', key)
  drop_record(key)
  local waiting = call('HGET', P .. 'waiting', key)
  if waiting then post_all(waiting, 'deleted', key, '') end
  for _, name in ipairs({ 'jobs', 'runs', 'patch', 'waiting' }) do call('HDEL', P .. name, key) end
end
send_mail()
return remember({ was })
