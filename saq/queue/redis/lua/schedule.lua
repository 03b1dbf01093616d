-- schedule: the cron entries that live workers have. Workers of one kind have the same: those come once.
-- KEYS  prefix
-- ARGV  most workers to ask
-- Returns {now, then for each kind of worker: its entries, how many workers have them}
--@include clock
local answer, at = { now }, {}
for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'workers', '(' .. stamp, '+inf', 'LIMIT', 0, ARGV[1])) do
  local entries = call('HGET', P .. 'worker:' .. worker, 'cron')
  if entries and entries ~= '' then
    if not at[entries] then
      at[entries] = #answer + 2
      answer[#answer + 1] = entries
      answer[#answer + 1] = 0
    end
    answer[at[entries]] = answer[at[entries]] + 1
  end
end
return answer
