-- renew: extends the leases of a worker, all in one command.
-- KEYS  prefix
-- ARGV  lease ms, member …
-- Returns {now, lost members, aborted members, why each shall be aborted}
--@include clock runs calm
local deadline = now + tonumber(ARGV[1])
local arguments, members, keys = {}, {}, {}
for i = 2, #ARGV do
  members[i - 1] = ARGV[i]
  keys[i - 1] = key_of(ARGV[i])
  arguments[#arguments + 1] = deadline
  arguments[#arguments + 1] = ARGV[i]
end
-- A write that needs no memory: after it, a lease is kept above `maxmemory` as well.
call('HDEL', P .. 'meta', '')
local held = call('ZMSCORE', P .. 'active', unpack(members))
call('ZADD', P .. 'active', 'XX', unpack(arguments))
local meta = call('HMGET', P .. 'meta', 'stepped', 'calm')
calm(meta[1], meta[2], tonumber(ARGV[1])) -- after an outage, the first who renews stands for all who live
local lost, aborted, reasons = {}, {}, {}
local runs = call('HMGET', P .. 'runs', unpack(keys))
for i, member in ipairs(members) do
  if not held[i] then
    lost[#lost + 1] = member
  elseif runs[i] then
    local run = read_run(runs[i])
    if run.abort then
      aborted[#aborted + 1] = member
      reasons[#reasons + 1] = run.abort
    end
  end
end
return { now, lost, aborted, reasons }
