-- `waiting`: key -> the channels of those who wait for the end of that incomplete job.
local function wait_for(key, channel)
  local others = call('HGET', P .. 'waiting', key)
  if not others then
    call('HSET', P .. 'waiting', key, channel)
  elseif not find(' ' .. others .. ' ', ' ' .. channel .. ' ', 1, true) then
    call('HSET', P .. 'waiting', key, others .. ' ' .. channel)
  end
end
