-- A reply can be lost after the server acted, and the caller then sends the same call again.
-- Each caller sends one numbered call at a time; its last number and answer are kept, and a number that
-- was answered already gets that answer again instead of a second run.
local LAST, LAST_MS = P .. 'last:' .. ARGV[1], 600000
local call_number = tonumber(ARGV[2])
local function earlier_answer()
  local kept = call('GET', LAST)
  if not kept then return nil end
  local number, answer = cmsgpack.unpack(kept)
  if number == call_number then return answer end
  if number > call_number then return { err = 'STALECALL a later call of this client was answered already' } end
  return nil
end
-- Written last: under memory pressure Redis refuses a script whose first write needs memory.
local function remember(answer)
  call('SET', LAST, cmsgpack.pack(call_number, answer), 'PX', LAST_MS)
  return answer
end
