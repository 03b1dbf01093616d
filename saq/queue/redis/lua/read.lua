-- read: jobs as they are, and, on request, a place among those who wait for their end, in the same step.
-- KEYS  prefix
-- ARGV  reply channel or '', key …
-- Returns for each key: 0 if there is no such job,
--   {'finished', record} or
--   {where, value, patch or false, due ms or 0, attempts, charged, lost, started, worker, abort, error,
--    past, if there is any}
--@include clock runs fill waiters place_of entry
local answer, awaited = {}, {}
for i = 2, #ARGV do
  local entry = entry_of(ARGV[i])
  answer[i - 1] = entry
  if ARGV[1] ~= '' and entry ~= 0 and entry[1] ~= 'finished' then awaited[#awaited + 1] = ARGV[i] end
end
if #awaited > 0 then
  call('HDEL', P .. 'meta', '') -- needs no memory: after it, one may wait above `maxmemory` for what makes room
  wait_for(awaited, ARGV[1])
end
return answer
