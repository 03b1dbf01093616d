-- overtime: a worker says of jobs that they run for longer than they may, and renews their leases no more.
-- KEYS  prefix
-- ARGV  member …
--@include clock runs
call('HDEL', P .. 'meta', '') -- needs no memory: after it, neither does the rest, above `maxmemory`
for _, member in ipairs(ARGV) do
  local packed = call('HGET', P .. 'runs', key_of(member))
  if packed and call('ZSCORE', P .. 'active', member) then
    local run = read_run(packed)
    run.overtime = true
    call('HSET', P .. 'runs', key_of(member), pack_run(run))
  end
end
return 1
