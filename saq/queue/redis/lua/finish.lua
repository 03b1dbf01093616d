-- finish: a guest ends a job that waits. The owner of a running job settles it with `step`.
-- KEYS  prefix
-- ARGV  client, number, key, status, suffix, body
-- Returns {where the job was}
--@include clock replay header runs mail finish place_of
local answer = earlier_answer()
if answer then return answer end
local key = ARGV[3]
local place, value, run = place_of(key)
if value and place ~= 'active' then
  call('ZREM', P .. 'queued', key)
  call('ZREM', P .. 'scheduled', key)
  finish({ key }, { value }, { ARGV[4] }, { run_suffix(run) .. ARGV[5] }, { ARGV[6] })
end
send_mail()
return remember({ place })
