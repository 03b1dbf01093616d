-- repair: looks through a page of what the queue holds of incomplete jobs, and mends what does not fit. Each
-- entry is judged and mended in one go, while workers go on.
-- KEYS  prefix
-- ARGV  client, number, 'mend' | 'look', what: one of SCANS, then cursor, about how many; or 'lost', then key …
-- Returns {cursor, how many were looked at, their bytes, findings, lost}
--   findings  {kind, key, detail} each; the kinds stand in `repair.py`
--   lost      key, queued ms … of the jobs that are in no list, if they shall be mended: they are put back by
--             name, in the order in which they were queued
--@include clock replay header runs mail order marker finish findings
local PART, LATEST, INLINE, TOKEN_DIGITS = 250, 9e15, 16384, 14
local SCANS = {
  active = 'ZSCAN', patch = 'HSCAN', jobs = 'HSCAN', queued = 'ZSCAN', scheduled = 'ZSCAN', runs = 'HSCAN',
  waiting = 'HSCAN', watching = 'HSCAN',
}
local answer = earlier_answer()
if answer then return answer end
local what, lost, bytes = ARGV[4], {}, 0

local function is_job(key) return call('HEXISTS', P .. 'jobs', key) == 1 end
local function fence_of(run, key) return string.format('%.0f:', run.token) .. key end

-- The history of a job, or nil if it has none that can be read: that would stop the scripts and workers that meet it.
local function history(packed)
  if not packed then return nil end
  local readable, run = pcall(read_run, packed)
  if not readable then return nil end
  for _, name in ipairs({ 'attempts', 'charged', 'lost', 'token', 'started' }) do
    local number = run[name]
    if type(number) ~= 'number' or number % 1 ~= 0 or number < 0 or number > LATEST then return nil end
  end
  for _, name in ipairs({ 'abort', 'err' }) do
    if run[name] ~= false and type(run[name]) ~= 'string' then return nil end
  end
  -- A worker's name is part of a header.
  if type(run.worker) ~= 'string' or find(run.worker, '[^!-:<-~]') then return nil end
  if run.past ~= nil and (type(run.past) ~= 'string' or not is_whole(run.past, 1)) then return nil end
  return tonumber(run.score) and run or nil
end

-- A number in `meta` that may not be lower than what it was handed out as.
local function raise(name, used)
  local least = string.format('%.0f', used)
  if used > (tonumber(call('HGET', P .. 'meta', name)) or 0) and found('counter', name, 'at least ' .. least) then
    call('HSET', P .. 'meta', name, least)
  end
end

-- Tells those who wait for a job that is not incomplete any more.
local function dismiss(key)
  local channels = call('HGET', P .. 'waiting', key)
  if not channels then return end
  local record = call('GET', P .. 'job:' .. key)
  if not record then
    post_all(channels, 'deleted', key, '')
  else
    post_all(channels, 'done', key, #record <= INLINE and record or split_value(record))
  end
  call('HDEL', P .. 'waiting', key)
end

-- Removes an entry whose job is nowhere, and all that is known of it.
local function remove(name, member, key)
  call('ZREM', P .. name, member)
  call('HDEL', P .. 'runs', key)
  call('HDEL', P .. 'patch', key)
  dismiss(key)
end

-- active ------------------------------------------------------------------------------------------------
local function judge_active(member, deadline)
  local token, key = string.match(member, '^([1-9]%d*):(.*)$')
  if not token or #token > TOKEN_DIGITS then
    if found('member', member) then call('ZREM', P .. 'active', member) end
    return 0
  elseif not is_job(key) then
    if found('gone', key, 'active') then remove('active', member, key) end
    return tonumber(token)
  end
  local run = history(call('HGET', P .. 'runs', key))
  if run and run.token == tonumber(token) then return run.token end
  if run and call('ZSCORE', P .. 'active', fence_of(run, key)) or tonumber(deadline) <= now then
    -- A claim of before. If the job is in no list without it, it will be found among the lost.
    if found('stale', key, token) then call('ZREM', P .. 'active', member) end
  elseif found('claim', key, token) then
    -- Somebody renews that lease, and so runs the job: its result shall count.
    if not run then
      local header = split_value(call('HGET', P .. 'jobs', key) .. '\n')
      local score = damage_of(header, INCOMPLETE) and 0 or place(header, take_sequence(1) + 1)
      run = { attempts = 1, charged = 0, lost = 0, score = string.format('%.0f', score), started = now, worker = '' }
    end
    run.token = tonumber(token)
    call('HSET', P .. 'runs', key, pack_run(run))
  end
  return tonumber(token)
end

-- jobs --------------------------------------------------------------------------------------------------
local function due_of(header) return math.ceil(header_number(header, 's', 0) * 1000) end

local function is_of_priority(score, header)
  return score ~= nil and math.floor(score / SEQUENCE) - 32768 == header_number(header, 'p', 0)
end

-- The place that a job had when it was claimed, or one behind all others.
local function place_in_queue(header, run)
  if run and is_of_priority(tonumber(run.score), header) then return run.score end
  return string.format('%.0f', place(header, take_sequence(1) + 1))
end

-- Ends a job, whose record can then be read.
local function conclude(key, value, status, reason, run)
  local patch = call('HGET', P .. 'patch', key)
  if patch and not is_whole(patch, 2) and found('patch', key) then call('HDEL', P .. 'patch', key) end
  finish_one(key, value, status, reason, run)
end

-- Puts a job where it belongs. An abort that was asked for does not get lost with the list that it ran in, and one
-- that nobody has claimed yet is not run before it is due.
local function is_due(header, run) return run ~= nil or due_of(header) <= now end
local function put_back(key, value, header, run)
  if run and run.abort then
    conclude(key, value, 'aborted', run.abort, run)
  elseif is_due(header, run) then
    call('ZADD', P .. 'queued', place_in_queue(header, run), key) -- the marker follows: see `repair_counters`
  else
    schedule({ string.format('%.0f', due_of(header)), key })
  end
end

-- Keeps a job that no script can read, as it is, where somebody may look at it.
local function bury(key, value, why, run)
  call('ZREM', P .. 'queued', key)
  call('ZREM', P .. 'scheduled', key)
  if run then call('ZREM', P .. 'active', fence_of(run, key)) else call('HDEL', P .. 'runs', key) end
  conclude(key, stamp .. '\n' .. value, 'failed', 'damaged: its header cannot be read: ' .. why, run)
end

-- Whether the score in `scheduled` is no time at which the job can be meant to run.
local function is_no_time(due, header, run)
  if not (due >= 0 and due <= LATEST) then return true end
  if run then return due == tonumber(run.score) end -- its place in the queue
  return due ~= due_of(header)
end

local function judge_job(key, value, packed, queued, due, is_active)
  local newline = find(value, '\n', 1, true)
  local header = newline and sub(value, 1, newline - 1)
  local run = history(packed)
  local why = not header and 'it has no end' or damage_of(header, INCOMPLETE)
  if why then
    if found('header', key, why) then bury(key, value, why, run) end
    return
  end
  if packed and not run and found('history', key) then call('HDEL', P .. 'runs', key) end
  -- What everybody else takes for the place of a job (`place_of`): first where it runs, whether or not the lease has
  -- ended, for the result may still come, and if not, a sweep takes it back; then where it would run next.
  if is_active then
    for name, score in pairs({ queued = queued, scheduled = due }) do
      if score and found('twice', key, 'active, ' .. name) then call('ZREM', P .. name, key) end
    end
    return
  end
  if queued and due then
    -- But for one that was asked for later and was never claimed: then it was `scheduled` first.
    local wrong = is_due(header, run) and 'scheduled' or 'queued'
    if found('twice', key, (wrong == 'queued' and 'scheduled, ' or 'queued, ') .. wrong) then
      call('ZREM', P .. wrong, key)
    end
    if wrong == 'queued' then queued = false else due = false end
  end
  if queued then
    if not is_of_priority(tonumber(queued), header) and found('place', key, 'queued') then
      call('ZADD', P .. 'queued', place_in_queue(header, run), key)
    end
  elseif due then
    if is_no_time(tonumber(due), header, run) and found('place', key, 'scheduled') then
      call('ZREM', P .. 'scheduled', key)
      put_back(key, value, header, run)
    end
  elseif mend and what == 'jobs' then
    lost[#lost + 1] = key
    lost[#lost + 1] = string.match(header, '^%d+')
  else
    local to = run and run.abort and 'aborted' or is_due(header, run) and 'queued' or 'scheduled'
    if found('lost', key, to) then put_back(key, value, header, run) end
  end
end

local function judge_jobs(keys, values)
  local packed = call('HMGET', P .. 'runs', unpack(keys))
  local queued = call('ZMSCORE', P .. 'queued', unpack(keys))
  local due = call('ZMSCORE', P .. 'scheduled', unpack(keys))
  for i, key in ipairs(keys) do
    local value, run = values[i], history(packed[i])
    if value then
      bytes = bytes + #value
      local lease = run and call('ZSCORE', P .. 'active', fence_of(run, key))
      judge_job(key, value, packed[i], queued[i], due[i], lease and true)
    end
  end
end

-- the others --------------------------------------------------------------------------------------------
local function judge_place(name, key, score)
  if not is_job(key) then
    if found('gone', key, name) then remove(name, key, key) end
    return 0
  end
  -- Half of the sequence and more may be left from before it was started again: see `take_sequence`.
  local sequence = score % SEQUENCE
  return name == 'queued' and sequence <= SEQUENCE / 2 and sequence or 0
end

local function judge_other(name, key, entry)
  bytes = bytes + #entry
  if name == 'watching' then
    -- Whoever listens to a job need not have one.
    if not string.match(entry, '^%d+ .') and found('watching', key) then call('HDEL', P .. name, key) end
  elseif not is_job(key) then
    if found('left over', key, name) then
      if name == 'waiting' then dismiss(key) else call('HDEL', P .. name, key) end
    end
  elseif name == 'patch' then
    if not is_whole(entry, 2) and found('patch', key) then call('HDEL', P .. name, key) end
  end
end

-- a page ------------------------------------------------------------------------------------------------
local cursor, looked, highest = '0', 0, 0
if what == 'lost' then
  local keys = { unpack(ARGV, 5) }
  judge_jobs(keys, call('HMGET', P .. 'jobs', unpack(keys)))
  looked = #keys
else
  local page = call(SCANS[what], P .. what, ARGV[5], 'COUNT', ARGV[6])
  local rows = page[2]
  cursor, looked = page[1], #rows / 2
  if what == 'jobs' then
    -- A small hash comes as a whole, whatever was asked for.
    for from = 1, #rows, 2 * PART do
      local keys, values = {}, {}
      for i = from, math.min(from + 2 * PART, #rows) - 1, 2 do
        keys[#keys + 1], values[#values + 1] = rows[i], rows[i + 1]
      end
      judge_jobs(keys, values)
    end
  else
    for i = 1, #rows, 2 do
      if what == 'active' then
        highest = math.max(highest, judge_active(rows[i], rows[i + 1]))
      elseif what == 'queued' or what == 'scheduled' then
        highest = math.max(highest, judge_place(what, rows[i], tonumber(rows[i + 1])))
      else
        judge_other(what, rows[i], rows[i + 1])
      end
    end
  end
end
if what == 'active' then raise('token', highest) elseif what == 'queued' then raise('sequence', highest) end
send_mail()
answer = { cursor, looked, bytes, findings, lost }
if mend and #findings > 0 then remember(answer) end
return answer
