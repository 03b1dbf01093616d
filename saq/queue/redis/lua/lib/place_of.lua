-- Where a job is, said by the one sorted set that holds it:
-- 'active', 'queued', 'scheduled', 'lost' (in `jobs` alone: a damaged queue), 'finished' or 'missing'.
local function place_of(key)
  local value = call('HGET', P .. 'jobs', key)
  if not value then
    return call('EXISTS', P .. 'job:' .. key) == 1 and 'finished' or 'missing'
  end
  local packed = call('HGET', P .. 'runs', key)
  local run = packed and read_run(packed)
  if run and run.token and call('ZSCORE', P .. 'active', run.token .. ':' .. key) then
    return 'active', value, run
  end
  if call('ZSCORE', P .. 'queued', key) then return 'queued', value, run end
  local due = call('ZSCORE', P .. 'scheduled', key)
  if due then return 'scheduled', value, run, due end
  return 'lost', value, run
end
