-- `waiting`: key -> the channels of those who wait for the end of that incomplete job.
local function wait_for(keys, channel)
  local known, rows = call('HMGET', P .. 'waiting', unpack(keys)), {}
  for i, key in ipairs(keys) do
    local channels = known[i]
    if not channels or not find(' ' .. channels .. ' ', ' ' .. channel .. ' ', 1, true) then
      local n = #rows
      rows[n + 1], rows[n + 2] = key, channels and channels .. ' ' .. channel or channel
    end
  end
  if #rows > 0 then fill(P .. 'waiting', rows) end
end
