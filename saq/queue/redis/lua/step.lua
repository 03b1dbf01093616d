-- step: settles what a worker has done and claims what it can do next, in one round trip.
-- KEYS  prefix
-- ARGV  client, number, worker, claims wanted, lease ms, max_lost, '1' if it runs no job that lost a lease
--       before, what a lost job shall say or '', then for each job that is done: member, head, body
--   head 'C' 'F' 'A' + suffix   complete, failed, aborted; the suffix goes into the record's header
--   head 'R' + delay ms         a failed attempt that is tried again; body: the error
--   head 'G' + delay ms         given back, not charged; body: why
--   head 'U' + delay ms         given back for want of the function; body: its name
--   head 'N'                    given back before it was started: as if it had not been claimed
-- Returns {now, next due ms or -1, state, verdicts, then for each claim: member, value, history}
--   state     '+' work is left behind, 'p' the queue is paused, '' neither
--   verdicts  one letter a job: '1' accepted, '0' stale, 'a' aborted instead, 'f' failed instead
--   history   0, or {attempts, charged, lost, error or false, patch or false}
--@include clock replay header runs mail order marker finish promote expire calm
local CLAIMED_BYTES, PART = 1048576, 25
local BEHIND, LOOKS = 32, 8 -- how far a claim looks behind jobs that have to wait
local UNKNOWN_MS, KNOWN_REST_MS = 60000, 50
local ENDS = { [67] = 'complete', [70] = 'failed', [65] = 'aborted' } -- C F A

local function claims_of(members)
  local answer = {}
  for _, member in ipairs(members) do
    local key = key_of(member)
    local value = call('ZSCORE', P .. 'active', member) and call('HGET', P .. 'jobs', key)
    if value then
      local run = read_run(call('HGET', P .. 'runs', key))
      local n = #answer
      answer[n + 1], answer[n + 2] = member, value
      answer[n + 3] = { run.attempts, run.charged, run.lost, run.err, call('HGET', P .. 'patch', key) }
    end
  end
  return answer
end

local earlier = earlier_answer()
if earlier then
  if earlier.err then return earlier end
  local answer = { now, earlier[1], earlier[2], earlier[3] }
  for _, item in ipairs(claims_of(earlier[4])) do answer[#answer + 1] = item end
  return answer
end

local worker, want, lease, max_lost = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local suspect_allowed = ARGV[7] == '1'
local FIRST_DONE = 9

-- Attempts that end without an outcome go back into the queue, unless their abort was asked for: `indexes` of jobs
-- in `keys` and `values`. Takes what is to be written together, for they may be a hundred.
local function put_back(indexes, keys, values, verdicts)
  local names, behind = {}, 0
  for n, i in ipairs(indexes) do
    names[n] = keys[i]
    local kind = byte(ARGV[FIRST_DONE + 3 * i - 2])
    if kind == 82 or kind == 85 then behind = behind + 1 end -- R U
  end
  local packs = call('HMGET', P .. 'runs', unpack(names))
  local sequence = behind > 0 and take_sequence(behind) or 0
  local histories, fresh, ready, later, back, retried = {}, {}, {}, {}, {}, 0
  for n, i in ipairs(indexes) do
    local key, value, packed = keys[i], values[i], packs[n]
    local head, body = ARGV[FIRST_DONE + 3 * i - 2], ARGV[FIRST_DONE + 3 * i - 1]
    local kind, delay = sub(head, 1, 1), tonumber(sub(head, 2)) or 0
    local run = value and packed and read_run(packed)
    verdicts[i] = '1'
    if not run then
      -- A damaged queue: there is nothing to put back.
    elseif run.abort then
      finish_one(key, value, 'aborted', run.abort, run)
      verdicts[i], run = 'a', nil
    elseif kind == 'R' then
      run.charged = run.charged + 1
      run.err = body
      retried = retried + 1
    elseif kind == 'U' then
      local known = call('ZSCORE', P .. 'functions', body)
      if not known then
        call('ZADD', P .. 'functions', stamp, body)
      elseif now - known > UNKNOWN_MS then
        finish_one(key, value, 'failed',
          'unknown function: no live worker has known ' .. body .. ' for a minute', run)
        verdicts[i], run = 'f', nil
      elseif now < tonumber(known) then
        delay = math.min(delay, KNOWN_REST_MS) -- somebody knows it: it need not rest for long
      end
    elseif kind == 'N' then
      run.attempts = run.attempts - 1
    else
      run.err = body
    end
    if run then
      if kind == 'R' or kind == 'U' then
        -- Behind those who have not had a try, or the same worker would find it first.
        sequence = sequence + 1
        run.score = string.format('%.0f', place(split_value(value), sequence))
      end
      if kind == 'R' or kind == 'G' then remember_attempt(run, kind == 'R' and 'retried' or 'returned', body) end
      if run.attempts == 0 then
        fresh[#fresh + 1] = key
      else
        local m = #histories
        histories[m + 1], histories[m + 2] = key, pack_run(run)
      end
      local list, score = ready, run.score
      if delay > 0 then list, score = later, string.format('%.0f', now + delay) end
      list[#list + 1], list[#list + 2] = score, key
      back[#back + 1] = key
    end
  end
  if retried > 0 then call('HINCRBY', P .. 'stats', 'retried', retried) end
  if #fresh > 0 then call('HDEL', P .. 'runs', unpack(fresh)) end
  if #histories > 0 then call('HSET', P .. 'runs', unpack(histories)) end
  if #ready > 0 then call('ZADD', P .. 'queued', unpack(ready)) end
  if #later > 0 then schedule(later) end
  announce(back, 'queued')
end

-- settle ------------------------------------------------------------------------------------------------
local verdicts = {}
if #ARGV >= FIRST_DONE then
  local members, keys = {}, {}
  for i = FIRST_DONE, #ARGV, 3 do
    local n = #members + 1
    members[n], keys[n] = ARGV[i], key_of(ARGV[i])
  end
  local mine = call('ZMSCORE', P .. 'active', unpack(members))
  call('ZREM', P .. 'active', unpack(members))
  local values = call('HMGET', P .. 'jobs', unpack(keys))
  local ended, held, statuses, suffixes, bodies, back = {}, {}, {}, {}, {}, {}
  for i = 1, #keys do
    local at = FIRST_DONE + 3 * i - 3
    local head = ARGV[at + 1]
    local status = ENDS[byte(head)]
    if not mine[i] then
      verdicts[i] = '0'
    elseif status then
      verdicts[i] = '1'
      if values[i] then
        local n = #ended + 1
        ended[n], held[n], statuses[n], suffixes[n], bodies[n] = keys[i], values[i], status, sub(head, 2), ARGV[at + 2]
      end
    else
      back[#back + 1] = i
    end
  end
  finish(ended, held, statuses, suffixes, bodies)
  if #back > 0 then put_back(back, keys, values, verdicts) end
end

-- promote what is due, take back what was lost ----------------------------------------------------------
local meta = call('HMGET', P .. 'meta', 'paused', 'stepped', 'calm', 'token')
local oldest = call('ZRANGE', P .. 'active', 0, 0, 'WITHSCORES')[2]
local taken_back = 0
if calm(meta[2], meta[3], lease) and oldest and tonumber(oldest) <= now then
  taken_back = #expire(max_lost, ARGV[8] ~= '' and ARGV[8] or nil)
end
local due = promote()
if taken_back == EXPIRED_AT_ONCE then due = now end -- there may be more: the caller looks again at once

-- claim -------------------------------------------------------------------------------------------------
-- A job that lost its worker before may be the one that kills them: one at a time, so that it does not take its
-- neighbours with it. Those that wait for that do not hold up the ones behind them.
local claimed, answer = {}, { 0, 0, 0, 0 } -- what stands before the claims is known at the end
local keys, scores, runs, aside = {}, {}, {}, {}
local function take(count)
  local popped, names = call('ZPOPMIN', P .. 'queued', count), {}
  if #popped == 0 then return 0 end
  for i = 1, #popped, 2 do names[#names + 1] = popped[i] end
  local packed = call('HMGET', P .. 'runs', unpack(names))
  for i = 1, #names do
    local run = packed[i] and read_run(packed[i])
    local suspect = run and run.lost > 0
    if #keys == want or (suspect and not suspect_allowed) then
      aside[#aside + 1] = popped[2 * i]
      aside[#aside + 1] = names[i]
    else
      if suspect then suspect_allowed = false end
      local n = #keys + 1
      keys[n], scores[n], runs[n] = names[i], popped[2 * i], run
    end
  end
  return #names
end
if want > 0 and not meta[1] then
  local count, looks = want, 0
  while take(count) == count and #keys < want and looks < LOOKS do count, looks = BEHIND, looks + 1 end
end
if #keys > 0 then
  local patches = unusual and call('EXISTS', P .. 'patch') == 1 and call('HMGET', P .. 'patch', unpack(keys))
  -- One token for all that a step claims: it never claims a key twice. Tokens only go up, also past a
  -- restart that lost the last second of the log: they follow the clock (10 microseconds, since 2024).
  local token = math.max(tonumber(meta[4] or 0) + 1,
    (clock[1] - 1704067200) * 100000 + math.floor(clock[2] / 10))
  local fence = string.format('%.0f:', token)
  local deadline, bytes = string.format('%.0f', now + lease), 0
  local leases, histories, names = {}, {}, {}
  local tail = cmsgpack.pack(token, now, worker, false, false, false)
  local values, read = {}, 0
  for i = 1, #keys do
    if i > read and bytes <= CLAIMED_BYTES then -- a part at a time: they may be large
      local part = call('HMGET', P .. 'jobs', unpack(keys, i, math.min(i + PART - 1, #keys)))
      for j = 1, #part do values[read + j] = part[j] end
      read = read + #part
    end
    local key, value, run, score = keys[i], values[i], runs[i], scores[i]
    if value == false then
      if run then call('HDEL', P .. 'runs', key) end
    elseif bytes > CLAIMED_BYTES then
      aside[#aside + 1] = score
      aside[#aside + 1] = key
    else
      local member = fence .. key
      local n, history = #answer, nil
      answer[n + 1], answer[n + 2] = member, value
      if run then
        run.attempts, run.token, run.started, run.worker, run.score = run.attempts + 1, token, now, worker, score
        run.overtime = false
        history = pack_run(run)
        answer[n + 3] = { run.attempts, run.charged, run.lost, run.err, patches and patches[i] }
      else
        history = FRESH_RUN .. string.char(160 + #score) .. score .. tail -- 160: a short string, in cmsgpack
        answer[n + 3] = patches and patches[i] and { 1, 0, 0, false, patches[i] } or 0
      end
      n = #claimed + 1
      claimed[n], names[n] = member, key
      leases[2 * n - 1], leases[2 * n] = deadline, member
      histories[2 * n - 1], histories[2 * n] = key, history
      bytes = bytes + #value
    end
  end
  if #claimed > 0 then
    call('ZADD', P .. 'active', unpack(leases))
    call('HSET', P .. 'runs', unpack(histories))
    call('HSET', P .. 'meta', 'token', string.format('%.0f', token))
    announce(names, 'active')
  end
end
if #aside > 0 then call('ZADD', P .. 'queued', unpack(aside)) end

-- A claim that leaves work behind sets the marker again: workers wake in a chain, not in a herd. One that
-- could take nothing of what is there does not, or it would wake itself for ever.
local state = ''
if meta[1] then
  state = 'p'
elseif call('EXISTS', P .. 'queued') == 1 or (due >= 0 and due <= now) then
  state = '+'
  if #claimed > 0 or want == 0 then wake() end
end

send_mail()
local verdict = table.concat(verdicts)
if #claimed > 0 or #verdicts > 0 then
  remember({ due, state, verdict, claimed })
elseif want > 0 then
  -- This may be the second of two: the first still lies behind a blocked command, on a connection that was given up.
  -- A marker that comes before the server has noticed that would have it claim for nobody. Above `maxmemory` it may.
  redis.pcall('SET', LAST, cmsgpack.pack(call_number, { due, state, verdict, claimed }), 'PX', LAST_MS)
end
answer[1], answer[2], answer[3], answer[4] = now, due, state, verdict
return answer
