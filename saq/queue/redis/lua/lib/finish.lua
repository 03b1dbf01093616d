-- Ends jobs: writes the finished record, tells the waiters, and takes the key out of everything that is
-- about incomplete jobs. The caller has removed it from `active`, `queued` or `scheduled` before, which is
-- what decides that it may, and what lets the script go on above `maxmemory`.
local KEPT_FINISHED, KEPT_FAILED, KEPT_FAILED_BYTES = 10000, 10000, 104857600
local KEPT_FAILED_MS, DEFAULT_TTL, INLINE_BYTES = 604800000, 600, 16384
-- The record of a failed job outlives its time by a day, in which a sweep finds it and uncounts its bytes.
local FOUND_MS = 86400000

-- A number that no expiry can hold would end the script midway: 30,000 years are for ever.
local function kept_ms(ttl, least)
  return string.format('%.0f', math.max(least, math.min(math.ceil(ttl * 1000), 1e15)))
end

-- Removes the records of these jobs, which `failed` does not hold any more. Returns the bytes of those it holds.
local function drop_failed(keys)
  local bytes, gone = 0, 0
  for _, key in ipairs(keys) do
    local length = call('STRLEN', P .. 'job:' .. key)
    bytes = bytes + length
    if length == 0 then gone = gone + 1 end
    call('UNLINK', P .. 'job:' .. key)
  end
  if gone > 0 then
    -- They had outlived their time with nobody there to sweep them, and count as what is left does on average:
    -- to ask all others for their lengths took the server 14 ms.
    local rest = (call('HGET', P .. 'meta', 'failed_bytes') or 0) - bytes
    bytes = bytes + math.floor(rest * gone / (gone + call('ZCARD', P .. 'failed')))
  end
  return call('HINCRBY', P .. 'meta', 'failed_bytes', -bytes)
end

local function forget_failed(count)
  local dropped, keys = call('ZPOPMIN', P .. 'failed', count), {}
  for i = 1, #dropped, 2 do keys[#keys + 1] = dropped[i] end
  return drop_failed(keys)
end

-- Forgets the record that an earlier life of this key left.
local function drop_record(key)
  if call('ZREM', P .. 'failed', key) == 1 then drop_failed({ key }) end
  call('ZREM', P .. 'finished', key)
  call('UNLINK', P .. 'job:' .. key)
end

-- The attempts that did not end a job, as the last row of its patch, or nil.
local function past_of(key)
  local packed = call('HGET', P .. 'runs', key)
  local past = packed and read_run(packed).past
  return past and '4:past' .. #past .. ':' .. past
end

-- Takes parallel lists, as a table per job would be most of the cost. A status is 'complete', 'failed' or
-- 'aborted'; a suffix is added to the header; a body is outcome, error and patch, as long as the suffix says.
local function finish(keys, values, statuses, suffixes, bodies)
  local count = #keys
  if count == 0 then return end
  local patches = unusual and call('EXISTS', P .. 'patch') == 1 and call('HMGET', P .. 'patch', unpack(keys))
  local waiting = unusual and call('EXISTS', P .. 'waiting') == 1 and call('HMGET', P .. 'waiting', unpack(keys))
  if unusual and call('EXISTS', P .. 'failed') == 1 then
    for i, score in ipairs(call('ZMSCORE', P .. 'failed', unpack(keys))) do
      if score then drop_record(keys[i]) end
    end
  end
  local done, failed, failed_keys, failed_bytes, by_status = {}, {}, {}, 0, {}
  local record_name, ended = P .. 'job:', ';c' .. stamp
  for i = 1, count do
    local key, value, status, suffix, body = keys[i], values[i], statuses[i], suffixes[i], bodies[i]
    local newline, ttl = 14, DEFAULT_TTL
    if byte(value, 14) ~= 10 then -- not all defaults
      newline = find(value, '\n', 1, true)
      ttl = header_number(sub(value, 1, newline - 1), 't', DEFAULT_TTL)
    end
    if patches and patches[i] then
      -- Before what the worker sends itself: later rows count.
      local own = header_number(suffix, 'm', 0)
      body = sub(body, 1, #body - own) .. patches[i] .. sub(body, #body - own + 1)
      suffix = string.gsub(suffix, ';m%d+', '') .. ';m' .. (own + #patches[i])
    end
    if sub(suffix, 1, 4) ~= ';a1;' then -- what a worker says of a first attempt, which has none before it
      local past = past_of(key)
      if past then
        body = body .. past
        suffix = string.gsub(suffix, ';m%d+', '') .. ';m' .. (header_number(suffix, 'm', 0) + #past)
      end
    end
    local record = sub(value, 1, newline - 1) .. ';S' .. status .. suffix .. ended .. sub(value, newline) .. body
    if ttl < 0 then
      drop_record(key)
    elseif status == 'failed' then
      if ttl > 0 then
        call('SET', record_name .. key, record, 'PX', kept_ms(ttl + FOUND_MS / 1000, KEPT_FAILED_MS + FOUND_MS))
      else
        call('SET', record_name .. key, record)
      end
      failed_bytes = failed_bytes + #record
      local n = #failed_keys + 1
      failed_keys[n], failed[2 * n - 1], failed[2 * n] = key, stamp, key
    else
      if ttl == DEFAULT_TTL then
        call('SET', record_name .. key, record, 'EX', '600')
      elseif ttl > 0 then
        call('SET', record_name .. key, record, 'PX', kept_ms(ttl, 1))
      else
        call('SET', record_name .. key, record)
      end
      local n = #done
      done[n + 1], done[n + 2] = stamp, key
    end
    if waiting and waiting[i] then
      post_all(waiting[i], 'done', key,
        (#record <= INLINE_BYTES or ttl < 0) and record or sub(record, 1, find(record, '\n', 1, true) - 1))
    end
    local same = by_status[status]
    if not same then same = {}; by_status[status] = same end
    same[#same + 1] = key
  end
  if #done > 0 then
    call('ZADD', P .. 'finished', unpack(done))
    call('ZREMRANGEBYRANK', P .. 'finished', 0, -KEPT_FINISHED - 1)
  end
  if #failed > 0 then
    call('ZREM', P .. 'finished', unpack(failed_keys))
    call('ZADD', P .. 'failed', unpack(failed))
    call('HINCRBY', P .. 'meta', 'failed_bytes', failed_bytes)
    local over = call('ZCARD', P .. 'failed') - KEPT_FAILED
    if over > 0 then forget_failed(over) end
    local bytes = tonumber(call('HGET', P .. 'meta', 'failed_bytes'))
    while bytes > KEPT_FAILED_BYTES and call('ZCARD', P .. 'failed') > 1 do bytes = forget_failed(1) end
  end
  call('HDEL', P .. 'jobs', unpack(keys))
  call('HDEL', P .. 'runs', unpack(keys))
  if patches then call('HDEL', P .. 'patch', unpack(keys)) end
  if waiting then call('HDEL', P .. 'waiting', unpack(keys)) end
  for status, same in pairs(by_status) do
    call('HINCRBY', P .. 'stats', status, #same)
    announce(same, status)
  end
end

-- What the header of a record says of the attempts so far, if there were any. A single one may have been followed
-- by a wait: it does not begin with the number, which would say that there was none before it.
local function run_suffix(run)
  return run and string.format(';b%.0f;a%d;w%s', run.started, run.attempts, run.worker) or ''
end

-- Ends one job for a reason of the scripts' own, or of somebody who does not own it.
local function finish_one(key, value, status, reason, run)
  finish({ key }, { value }, { status }, { run_suffix(run) .. ';e' .. #reason }, { reason })
end
