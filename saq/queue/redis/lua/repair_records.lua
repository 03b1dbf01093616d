-- repair_records: looks through a page of what is kept of finished jobs, and mends what does not fit.
-- KEYS  prefix
-- ARGV  client, number, 'mend' | 'look', then
--   'finished' | 'failed', cursor, about how many   entries of a list
--   'records', time, key …                          records, whether or not they are listed
--     time: of the first entry of `finished` before the repair (ms), or 0 if it was empty
-- Returns {cursor, how many were looked at, their bytes, findings, put in order without being a fault}
--@include clock replay header runs mail finish findings
local HEADER = 4096 -- so many bytes hold any header but those with a very long worker's name
local answer = earlier_answer()
if answer then return answer end
local what, bytes, tidied = ARGV[4], 0, 0

-- Of `finished` it is lawful that records end before their entries; of `failed`, only after all this time.
local function judge_entry(name, key, ended)
  if call('EXISTS', P .. 'job:' .. key) == 1 then return end
  local early = name == 'failed' and tonumber(ended) > now - KEPT_FAILED_MS - FOUND_MS
  if early and found('evicted', key) or not early and mend then
    call('ZREM', P .. name, key)
    if not early then tidied = tidied + 1 end
  end
end

-- Puts a record into its list, which stays within its bounds.
local function list(name, key, ended, length)
  call('ZADD', P .. name, ended, key)
  if name == 'finished' then
    call('ZREMRANGEBYRANK', P .. name, 0, -KEPT_FINISHED - 1)
  else
    call('HINCRBY', P .. 'meta', 'failed_bytes', length)
    if call('ZCARD', P .. name) > KEPT_FAILED then forget_failed(1) end
  end
end

-- Keeps what cannot be read, as it is, as the payload of a record that can.
local function bury(key, why)
  local was, name = call('GET', P .. 'job:' .. key), P .. 'job:' .. key
  local reason = 'damaged: the record of this job cannot be read: ' .. why
  local record = stamp .. ';Sfailed;e' .. #reason .. ';c' .. stamp .. '\n' .. was .. reason
  if call('ZREM', P .. 'failed', key) == 1 then call('HINCRBY', P .. 'meta', 'failed_bytes', -#was) end
  call('ZREM', P .. 'finished', key)
  call('SET', name, record, 'PX', string.format('%.0f', KEPT_FAILED_MS + FOUND_MS))
  list('failed', key, stamp, #record)
end

-- Why a record cannot be read, or nil if it can.
local function damage_of_record(header, rest)
  local status = string.match(header, ';S(%a*)')
  if status ~= 'complete' and status ~= 'failed' and status ~= 'aborted' then return 'it has no status' end
  if not string.match(header, ';c%d') then return 'it has no end' end
  local length = 0
  for _, section in ipairs({ 'o', 'e', 'm' }) do
    local one = header_number(header, section, 0)
    if one < 0 then return 'a length is negative' end
    length = length + one
  end
  return damage_of(header) or length > rest and 'it speaks of more than there is' or nil
end

local function judge_record(key, since)
  local name = P .. 'job:' .. key
  local head = redis.pcall('GETRANGE', name, 0, HEADER - 1)
  if type(head) == 'table' then
    found('type', 'job:' .. key, call('TYPE', name).ok)
    return
  end
  local length = call('STRLEN', name)
  if length == 0 then return end -- its time was up meanwhile
  bytes = bytes + #head
  local newline = find(head, '\n', 1, true)
  if not newline and length > HEADER then
    head = call('GET', name)
    newline = find(head, '\n', 1, true)
  end
  local header = newline and sub(head, 1, newline - 1)
  local why = not newline and 'its header has no end' or damage_of_record(header, length - newline)
  if why then
    if found('record', key, why) then bury(key, why) end
    return
  end
  local ended = header_number(header, 'c', 0)
  local own, other = 'finished', 'failed'
  if string.match(header, ';S(%a+)') == 'failed' then own, other = other, own end
  if call('ZSCORE', P .. other, key) and found('listed', key, other .. ', ' .. own) then
    call('ZREM', P .. other, key)
    if other == 'failed' then call('HINCRBY', P .. 'meta', 'failed_bytes', -length) end
  end
  if call('ZSCORE', P .. own, key) then return end
  local said = string.format('%.0f', ended)
  if own == 'failed' then
    if found('listed', key, own) then list(own, key, said, length) end
    return
  end
  -- `finished` names the newest only, so a record that is older than all of them may lawfully be in no list: it gets
  -- its entry back while there is room, and that is no finding. But entries only ever go in at its end.
  local first = tonumber(call('ZRANGE', P .. own, 0, 0, 'WITHSCORES')[2] or 0)
  if since == 0 or ended > math.max(since, first) then
    if found('listed', key, own) then list(own, key, said, length) end
  elseif mend and call('ZCARD', P .. own) < KEPT_FINISHED then
    list(own, key, said, length)
    tidied = tidied + 1
  end
end

local cursor, looked = '0', 0
if what == 'records' then
  for i = 6, #ARGV do judge_record(ARGV[i], tonumber(ARGV[5])) end
  looked = #ARGV - 5
else
  local page = call('ZSCAN', P .. what, ARGV[5], 'COUNT', ARGV[6])
  cursor, looked = page[1], #page[2] / 2
  for i = 1, #page[2], 2 do judge_entry(what, page[2][i], page[2][i + 1]) end
end
send_mail()
answer = { cursor, looked, bytes, findings, tidied }
if mend and #findings > 0 then remember(answer) end
return answer
