-- enqueue: takes in a batch of new jobs.
-- KEYS  prefix
-- ARGV  client, number, reply channel, flags (one letter a job: 'w' waits for its end), then key, value …
-- Returns {now ms, one verdict a job: '1' taken in, '0' that key is incomplete already}
--@include clock replay header mail order marker fill insert waiters
local answer = earlier_answer()
if answer then return answer end
local keys, values = {}, {}
for i = 5, #ARGV, 2 do
  keys[#keys + 1] = ARGV[i]
  values[#values + 1] = ARGV[i + 1]
end
local verdicts = insert(keys, values)
if find(ARGV[4], 'w', 1, true) then
  local awaited = {}
  for i, key in ipairs(keys) do
    if byte(ARGV[4], i) == 119 then awaited[#awaited + 1] = key end -- w
  end
  wait_for(awaited, ARGV[3])
end
send_mail()
return remember({ now, verdicts })
