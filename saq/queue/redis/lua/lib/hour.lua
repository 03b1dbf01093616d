-- The history: a hash an hour, which goes after three days. `s<minute>` is a sample of the counters, `w<minute>`
-- and `r<minute>` are waits and run times in buckets, `f:<function>` is what the function did in that hour.
local KEPT_HOURS = 73
local this_minute = string.format('%.0f', math.floor(now / 60000))
local hour, minute = math.floor(now / 3600000), tonumber(this_minute) % 60
local HOUR = P .. 'hour:' .. string.format('%.0f', hour)
local function record(...)
  call('HSET', HOUR, ...)
  call('EXPIREAT', HOUR, string.format('%.0f', (hour + KEPT_HOURS) * 3600))
end
