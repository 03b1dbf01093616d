-- Ends jobs: writes the finished record, tells the waiters, and takes the key out of everything that is
-- about incomplete jobs. The caller has removed it from `active`, `queued` or `scheduled` before, which is
-- what decides that it may, and what lets the script go on above `maxmemory`.
--   job.key, job.value   what `jobs` held      job.status  'complete' | 'failed' | 'aborted'
--   job.suffix           header fields to add  job.body    outcome and error, as long as the suffix says
local KEPT_FINISHED, KEPT_FAILED, KEPT_FAILED_BYTES = 10000, 10000, 104857600
local KEPT_FAILED_MS, DEFAULT_TTL, INLINE_BYTES = 604800000, 600, 16384

local function forget_failed(count)
  local dropped = redis.call('ZPOPMIN', P .. 'failed', count)
  local bytes = 0
  for i = 1, #dropped, 2 do
    bytes = bytes + redis.call('STRLEN', P .. 'job:' .. dropped[i])
    redis.call('UNLINK', P .. 'job:' .. dropped[i])
  end
  return redis.call('HINCRBY', P .. 'meta', 'failed_bytes', -bytes)
end

-- Forgets the record that an earlier life of this key left.
local function drop_record(key)
  if redis.call('ZREM', P .. 'failed', key) == 1 then
    redis.call('HINCRBY', P .. 'meta', 'failed_bytes', -redis.call('STRLEN', P .. 'job:' .. key))
  end
  redis.call('ZREM', P .. 'finished', key)
  redis.call('UNLINK', P .. 'job:' .. key)
end

local function finish(jobs)
  if #jobs == 0 then return end
  local keys, done, failed, counts = {}, {}, {}, {}
  for i, job in ipairs(jobs) do keys[i] = job.key end
  local patches = redis.call('EXISTS', P .. 'patch') == 1 and redis.call('HMGET', P .. 'patch', unpack(keys))
  local waiting = redis.call('EXISTS', P .. 'waiting') == 1 and redis.call('HMGET', P .. 'waiting', unpack(keys))
  if redis.call('EXISTS', P .. 'failed') == 1 then
    for i, score in ipairs(redis.call('ZMSCORE', P .. 'failed', unpack(keys))) do
      if score then drop_record(keys[i]) end
    end
  end
  local stamp = string.format('%.0f', now)
  local by_status = {}
  for i, job in ipairs(jobs) do
    local key, value, status = job.key, job.value, job.status
    local newline = string.find(value, '\n', 1, true)
    local header = string.sub(value, 1, newline - 1)
    local ttl = newline > 14 and header_number(header, 't', DEFAULT_TTL) or DEFAULT_TTL
    local suffix, body = job.suffix, job.body
    if patches and patches[i] then
      -- Before what the worker sends itself: later rows count.
      local own = header_number(suffix, 'm', 0)
      body = string.sub(body, 1, #body - own) .. patches[i] .. string.sub(body, #body - own + 1)
      suffix = string.gsub(suffix, ';m%d+', '') .. ';m' .. (own + #patches[i])
    end
    local record = header .. ';S' .. status .. suffix .. ';c' .. stamp .. string.sub(value, newline) .. body
    if ttl < 0 then
      drop_record(key)
    elseif status == 'failed' then
      drop_record(key)
      redis.call('SET', P .. 'job:' .. key, record)
      if ttl > 0 then
        redis.call('PEXPIRE', P .. 'job:' .. key, string.format('%.0f', math.max(KEPT_FAILED_MS, math.ceil(ttl * 1000))))
      end
      failed[#failed + 1] = now
      failed[#failed + 1] = key
      redis.call('HINCRBY', P .. 'meta', 'failed_bytes', #record)
    else
      if ttl > 0 then
        redis.call('SET', P .. 'job:' .. key, record, 'PX', string.format('%.0f', math.ceil(ttl * 1000)))
      else
        redis.call('SET', P .. 'job:' .. key, record)
      end
      done[#done + 1] = now
      done[#done + 1] = key
    end
    if waiting and waiting[i] then
      post_all(waiting[i], 'done', key, #record <= INLINE_BYTES and record or '')
    end
    local same = by_status[status]
    if not same then same = {}; by_status[status] = same end
    same[#same + 1] = key
  end
  if #done > 0 then
    redis.call('ZADD', P .. 'finished', unpack(done))
    redis.call('ZREMRANGEBYRANK', P .. 'finished', 0, -KEPT_FINISHED - 1)
  end
  if #failed > 0 then
    redis.call('ZADD', P .. 'failed', unpack(failed))
    local over = redis.call('ZCARD', P .. 'failed') - KEPT_FAILED
    if over > 0 then forget_failed(over) end
    local bytes = tonumber(redis.call('HGET', P .. 'meta', 'failed_bytes'))
    while bytes > KEPT_FAILED_BYTES and redis.call('ZCARD', P .. 'failed') > 1 do bytes = forget_failed(1) end
  end
  redis.call('HDEL', P .. 'jobs', unpack(keys))
  redis.call('HDEL', P .. 'runs', unpack(keys))
  if patches then redis.call('HDEL', P .. 'patch', unpack(keys)) end
  if waiting then redis.call('HDEL', P .. 'waiting', unpack(keys)) end
  for status, same in pairs(by_status) do
    redis.call('HINCRBY', P .. 'stats', status, #same)
    announce(same, status)
  end
end

-- The header fields of a run, for a record that no worker wrote.
local function run_suffix(run, error)
  local suffix = ';e' .. #error
  if run then
    suffix = suffix .. string.format(';a%d;b%.0f;w%s', run.attempts, run.started, run.worker)
  end
  return suffix
end
