-- step: settles what a worker has done and claims what it can do next, in one round trip.
-- KEYS  prefix
-- ARGV  client, number, worker, claims wanted, lease ms, max_lost, '1' if it runs no job that lost a lease
--       before, what a lost job shall say or '', then for each job that is done: member, head, body
--   head 'C' 'F' 'A' + suffix   complete, failed, aborted; the suffix goes into the record's header
--   head 'R' + delay ms         a failed attempt that is tried again; body: the error
--   head 'G' + delay ms         given back, not charged; body: why
--   head 'U' + delay ms         given back for want of the function; body: its name
-- Returns {now, next due ms or -1, state, verdicts, then for each claim: member, value, history}
--   state     '+' work is left behind, 'p' the queue is paused, '' neither
--   verdicts  one letter a job: '1' accepted, '0' stale, 'a' aborted instead, 'f' failed instead
--   history   0, or {attempts, charged, lost, error or false, patch or false}
--@include clock replay header runs mail order finish promote expire
local CLAIMED_BYTES, ASIDE = 1048576, 16
local UNKNOWN_MS = 60000

local function claims_of(members)
  local answer = {}
  for _, member in ipairs(members) do
    local key = string.sub(member, string.find(member, ':', 1, true) + 1)
    local value = redis.call('ZSCORE', P .. 'active', member) and redis.call('HGET', P .. 'jobs', key)
    if value then
      local run = read_run(redis.call('HGET', P .. 'runs', key))
      local n = #answer
      answer[n + 1], answer[n + 2] = member, value
      answer[n + 3] = { run.attempts, run.charged, run.lost, run.err, redis.call('HGET', P .. 'patch', key) }
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

-- An attempt that ends without an outcome goes back into the queue, unless its abort was asked for.
local function put_back(key, value, head, body, ended)
  local packed = redis.call('HGET', P .. 'runs', key)
  if not value or not packed then return '1' end
  local run, kind, delay = read_run(packed), string.sub(head, 1, 1), tonumber(string.sub(head, 2))
  if run.abort then
    ended[#ended + 1] = {
      key = key, value = value, status = 'aborted', suffix = run_suffix(run, run.abort), body = run.abort,
    }
    return 'a'
  end
  local score = run.score
  if kind == 'R' then
    run.charged = run.charged + 1
    run.err = body
    redis.call('HINCRBY', P .. 'stats', 'retried', 1)
    score = place(split_value(value), take_sequence(1) + 1) -- behind those who have not had a try
  elseif kind == 'U' then
    local known = redis.call('ZSCORE', P .. 'functions', body)
    if not known then
      redis.call('ZADD', P .. 'functions', now, body)
    elseif now - known > UNKNOWN_MS then
      local reason = 'unknown function: no live worker has known ' .. body .. ' for a minute'
      ended[#ended + 1] = {
        key = key, value = value, status = 'failed', suffix = run_suffix(run, reason), body = reason,
      }
      return 'f'
    end
  else
    run.err = body
  end
  run.score = score
  redis.call('HSET', P .. 'runs', key, pack_run(run))
  if delay > 0 then
    redis.call('ZADD', P .. 'scheduled', now + delay, key)
  else
    redis.call('ZADD', P .. 'queued', score, key)
  end
  return '1'
end

-- settle -------------------------------------------------------------------------------------------------
local verdicts = {}
if #ARGV >= FIRST_DONE then
  local members = {}
  for i = FIRST_DONE, #ARGV, 3 do members[#members + 1] = ARGV[i] end
  local mine = redis.call('ZMSCORE', P .. 'active', unpack(members))
  redis.call('ZREM', P .. 'active', unpack(members))
  local keys = {}
  for i, member in ipairs(members) do keys[i] = string.sub(member, string.find(member, ':', 1, true) + 1) end
  local values = redis.call('HMGET', P .. 'jobs', unpack(keys))
  local ended, back = {}, {}
  for i, key in ipairs(keys) do
    local at = FIRST_DONE + 3 * (i - 1)
    local head, kind = ARGV[at + 1], string.byte(ARGV[at + 1])
    if not mine[i] then
      verdicts[i] = '0'
    elseif kind == 67 or kind == 70 or kind == 65 then
      verdicts[i] = '1'
      if values[i] then
        ended[#ended + 1] = {
          key = key, value = values[i], suffix = string.sub(head, 2), body = ARGV[at + 2],
          status = kind == 67 and 'complete' or kind == 70 and 'failed' or 'aborted',
        }
      end
    else
      verdicts[i] = put_back(key, values[i], head, ARGV[at + 2], ended)
      if verdicts[i] == '1' then back[#back + 1] = key end
    end
  end
  finish(ended)
  announce(back, 'queued')
end

-- promote what is due, take back what was lost -----------------------------------------------------------
local meta = redis.call('HMGET', P .. 'meta', 'paused', 'stepped', 'calm')
local oldest = redis.call('ZRANGE', P .. 'active', 0, 0, 'WITHSCORES')[2]
if calm(meta[2], meta[3], lease) and oldest and tonumber(oldest) <= now then expire(max_lost, ARGV[8] ~= '' and ARGV[8] or nil) end
local due = promote()

-- claim --------------------------------------------------------------------------------------------------
local claimed, answer = {}, {}
local popped = {}
if want > 0 and not meta[1] then popped = redis.call('ZPOPMIN', P .. 'queued', want) end
if #popped > 0 then
  local keys = {}
  for i = 1, #popped, 2 do keys[#keys + 1] = popped[i] end
  local values = redis.call('HMGET', P .. 'jobs', unpack(keys))
  local runs = redis.call('HMGET', P .. 'runs', unpack(keys))
  local patches = redis.call('EXISTS', P .. 'patch') == 1 and redis.call('HMGET', P .. 'patch', unpack(keys))
  -- Tokens only go up, also past a restart that lost the last second of the log: they follow the clock
  -- (10 microseconds, since 2024) and run ahead of it where they must. 14 digits until 2055.
  local token = math.max(tonumber(redis.call('HGET', P .. 'meta', 'token') or 0),
    (clock[1] - 1704067200) * 100000 + math.floor(clock[2] / 10))
  local deadline, bytes = now + lease, 0
  local leases, histories, aside, names = {}, {}, {}, {}
  local tail = cmsgpack.pack(now, worker, false, false)
  for i, key in ipairs(keys) do
    local value, packed = values[i], runs[i]
    local run = packed and read_run(packed)
    local suspect = run and run.lost > 0
    if not value then
      if packed then redis.call('HDEL', P .. 'runs', key) end
    elseif bytes > CLAIMED_BYTES or (suspect and not suspect_allowed) then
      -- A job that lost its worker before may be the one that kills them: one at a time, so that it does
      -- not take its neighbours with it.
      aside[#aside + 1] = popped[2 * i]
      aside[#aside + 1] = key
    else
      token = token + 1
      local member = token .. ':' .. key
      local n = #answer
      answer[n + 1], answer[n + 2] = member, value
      if run then
        run.attempts, run.token, run.started, run.worker = run.attempts + 1, token, now, worker
        run.score = tonumber(popped[2 * i])
        histories[#histories + 1] = key
        histories[#histories + 1] = pack_run(run)
        answer[n + 3] = { run.attempts, run.charged, run.lost, run.err, patches and patches[i] }
        if suspect then suspect_allowed = false end
      else
        histories[#histories + 1] = key
        histories[#histories + 1] = FRESH_RUN .. cmsgpack.pack(token, tonumber(popped[2 * i])) .. tail
        answer[n + 3] = patches and patches[i] and { 1, 0, 0, false, patches[i] } or 0
      end
      claimed[#claimed + 1] = member
      names[#names + 1] = key
      leases[#leases + 1] = deadline
      leases[#leases + 1] = member
      bytes = bytes + #value
    end
  end
  if #aside > 0 then redis.call('ZADD', P .. 'queued', unpack(aside)) end
  if #claimed > 0 then
    redis.call('ZADD', P .. 'active', unpack(leases))
    redis.call('HSET', P .. 'runs', unpack(histories))
    redis.call('HSET', P .. 'meta', 'token', token)
    announce(names, 'active')
  end
end

-- A claim that leaves work behind sets the marker again: workers wake in a chain, not in a herd. One that
-- could take nothing of what is there does not, or it would wake itself for ever.
local state = ''
if meta[1] then
  state = 'p'
elseif redis.call('EXISTS', P .. 'queued') == 1 or (due >= 0 and due <= now) then
  state = '+'
  if #claimed > 0 or want == 0 then wake() end
end

send_mail()
local verdict = table.concat(verdicts)
if #claimed > 0 or #verdicts > 0 then remember({ due, state, verdict, claimed }) end
local reply = { now, due, state, verdict }
for i = 1, #answer do reply[i + 4] = answer[i] end
return reply
