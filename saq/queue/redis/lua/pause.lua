-- pause: workers claim nothing more (on), or go on (off).
-- KEYS  prefix
-- ARGV  'on' | 'off'
--@include clock mail marker
if ARGV[1] == 'on' then
  call('HSET', P .. 'meta', 'paused', now)
  call('DEL', P .. 'wake')
else
  call('HDEL', P .. 'meta', 'paused')
  wake()
end
post(P .. 'control', ARGV[1] == 'on' and 'pause' or 'resume', '', '')
send_mail()
return 1
