-- Where a job is, said by the one sorted set that holds it:
-- 'active', 'queued', 'scheduled', 'lost' (in `jobs` alone: a damaged queue), 'finished' or 'missing'.
local function place_of(key)
  local value = redis.call('HGET', P .. 'jobs', key)
  if not value then
    return redis.call('EXISTS', P .. 'job:' .. key) == 1 and 'finished' or 'missing'
  end
  local packed = redis.call('HGET', P .. 'runs', key)
  local run = packed and read_run(packed)
  if run and run.token and redis.call('ZSCORE', P .. 'active', string.format('%.0f', run.token) .. ':' .. key) then
    return 'active', value, run
  end
  if redis.call('ZSCORE', P .. 'queued', key) then return 'queued', value, run end
  local due = redis.call('ZSCORE', P .. 'scheduled', key)
  if due then return 'scheduled', value, run, due end
  return 'lost', value, run
end
