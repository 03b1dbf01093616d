-- browse: a slice of the jobs of one state, in its order, from behind a place in it. Its cost does not grow
-- with their number.
-- KEYS  prefix
-- ARGV  'queued' | 'scheduled' | 'finished' | 'failed' (the last two newest first), the place: score and key, or
--       '' and '' for the beginning, most entries to look at, most jobs to find, bytes after which it is enough
-- Returns {now, how many there are, how many of them lie before the slice, then for each that was looked at:
--          score, key, job as `read` returns it, or 0 if it is there no more}
--@include clock runs place_of entry
local PART = 50
local state, score, key = ARGV[1], ARGV[2], ARGV[3]
local most, wanted, enough = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local name = P .. state
local newest_first = state == 'finished' or state == 'failed'
local expected = newest_first and 'finished' or state

-- By bytes, as a sorted set orders what has one score. `<` would follow the server's locale.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- How many lie before a place that may be empty by now, in the order of the set; with `itself`, and at it.
local function count_before(itself)
  local low, high = call('ZCOUNT', name, '-inf', '(' .. score), call('ZCOUNT', name, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = call('ZRANGE', name, middle, middle)[1]
    if is_before(other, key) or (itself and other == key) then low = middle + 1 else high = middle end
  end
  return low
end

local total = call('ZCARD', name)
local position = 0
if score ~= '' then position = newest_first and total - count_before(false) or count_before(true) end
local answer, looked, found, bytes = { now, total, position }, 0, 0, 0
local command = newest_first and 'ZREVRANGE' or 'ZRANGE'
while looked < most and found < wanted and bytes < enough do
  local from = position + looked
  local rows = call(command, name, from, from + math.min(PART, most - looked) - 1, 'WITHSCORES')
  if #rows == 0 then break end
  for i = 1, #rows, 2 do
    local entry = entry_of(rows[i])
    if entry ~= 0 and entry[1] ~= expected then entry = 0 end -- in its next life already, and shown there
    if entry ~= 0 then found, bytes = found + 1, bytes + #entry[2] end
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = rows[i + 1], rows[i], entry
    looked = looked + 1
    if found == wanted or bytes >= enough then break end
  end
end
return answer
