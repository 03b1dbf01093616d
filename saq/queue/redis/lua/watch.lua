-- watch: listens to every change of these keys until a time (seconds from now; 0 stops listening).
-- KEYS  prefix
-- ARGV  channel, seconds, key …
--@include clock
local channel, until_ms = ARGV[1], now + tonumber(ARGV[2]) * 1000
local keys, rows, gone = {}, {}, {}
for i = 3, #ARGV do keys[i - 2] = ARGV[i] end
local known = call('HMGET', P .. 'watching', unpack(keys))
for i, key in ipairs(keys) do
  local last, channels = 0, {}
  if known[i] then
    last = tonumber(string.match(known[i], '^%d+'))
    if last > now then
      for other in string.gmatch(string.match(known[i], ' (.*)$'), '%S+') do
        if other ~= channel then channels[#channels + 1] = other end
      end
    end
  end
  if ARGV[2] ~= '0' then channels[#channels + 1] = channel end
  if #channels == 0 then
    gone[#gone + 1] = key
  else
    local n = #rows
    rows[n + 1], rows[n + 2] = key, string.format('%.0f ', math.max(last, until_ms)) .. table.concat(channels, ' ')
  end
end
if #gone > 0 then call('HDEL', P .. 'watching', unpack(gone)) end
if #rows > 0 then call('HSET', P .. 'watching', unpack(rows)) end
return 1
