-- watch: listens to every change of these keys until a time (seconds from now; 0 stops listening).
-- KEYS  prefix
-- ARGV  channel, seconds, key …
--@include clock
local channel, until_ms = ARGV[1], now + tonumber(ARGV[2]) * 1000
for i = 3, #ARGV do
  local entry = call('HGET', P .. 'watching', ARGV[i])
  local last, channels = 0, {}
  if entry then
    last = tonumber(string.match(entry, '^%d+'))
    if last > now then
      for other in string.gmatch(string.match(entry, ' (.*)$'), '%S+') do
        if other ~= channel then channels[#channels + 1] = other end
      end
    end
  end
  if ARGV[2] ~= '0' then channels[#channels + 1] = channel end
  if #channels == 0 then
    call('HDEL', P .. 'watching', ARGV[i])
  else
    call('HSET', P .. 'watching', ARGV[i],
      string.format('%.0f ', math.max(last, until_ms)) .. table.concat(channels, ' '))
  end
end
return 1
