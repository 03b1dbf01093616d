-- Takes in new jobs: `keys`, and `values` without their time of queueing. Returns one verdict a job:
-- '1' taken in, '0' a job of that key is incomplete.
-- `queued` and `scheduled` are written before `jobs`: a script that dies between leaves an entry without
-- a job, which a claim drops, and never a job that nothing will run.
local function insert(keys, values)
  local there = call('HMGET', P .. 'jobs', unpack(keys))
  local verdicts, fresh, seen = {}, {}, {}
  for i, key in ipairs(keys) do
    if there[i] or seen[key] then
      verdicts[i] = '0'
    else
      verdicts[i] = '1'
      seen[key] = true
      fresh[#fresh + 1] = i
    end
  end
  if #fresh == 0 then return table.concat(verdicts) end
  local ready, later, stored, names = {}, {}, {}, {}
  local sequence = take_sequence(#fresh)
  for n, i in ipairs(fresh) do
    local key, value = keys[i], values[i]
    local score, due = nil, 0
    if byte(value) == 10 then -- no header: all defaults
      score = 32768 * SEQUENCE + sequence + n
    else
      local header = split_value(value)
      due = math.ceil(header_number(header, 's', 0) * 1000)
      score = place(header, sequence + n)
    end
    if due > now then
      later[#later + 1] = due
      later[#later + 1] = key
    else
      ready[#ready + 1] = score
      ready[#ready + 1] = key
    end
    stored[#stored + 1] = key
    stored[#stored + 1] = stamp .. value
    names[n] = key
  end
  if #later > 0 then schedule(later) end
  if #ready > 0 then
    call('ZADD', P .. 'queued', unpack(ready))
    wake()
  end
  fill(P .. 'jobs', stored)
  call('HINCRBY', P .. 'stats', 'enqueued', #fresh)
  announce(names, 'queued')
  return table.concat(verdicts)
end
