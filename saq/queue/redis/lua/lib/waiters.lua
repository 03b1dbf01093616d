-- `waiting`: key -> the channels of those who wait for the end of that incomplete job.
local function wait_for(key, channel)
  local others = redis.call('HGET', P .. 'waiting', key)
  if not others then
    redis.call('HSET', P .. 'waiting', key, channel)
  elseif not string.find(' ' .. others .. ' ', ' ' .. channel .. ' ', 1, true) then
    redis.call('HSET', P .. 'waiting', key, others .. ' ' .. channel)
  end
end
