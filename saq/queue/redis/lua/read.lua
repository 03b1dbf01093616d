-- read: jobs as they are, and, on request, a place among those who wait for their end, in the same step.
-- KEYS  prefix
-- ARGV  reply channel or '', key …
-- Returns for each key: 0 if there is no such job,
--   {'finished', record} or
--   {where, value, patch or false, due ms or 0, attempts, charged, lost, started, worker, abort, error}
--@include clock runs waiters place_of
local answer = {}
for i = 2, #ARGV do
  local key = ARGV[i]
  local was, value, run, due = place_of(key)
  if was == 'missing' then
    answer[i - 1] = 0
  elseif was == 'finished' then
    answer[i - 1] = { was, call('GET', P .. 'job:' .. key) }
  else
    run = run or { attempts = 0, charged = 0, lost = 0, started = 0, worker = '', abort = false, err = false }
    answer[i - 1] = {
      was, value, call('HGET', P .. 'patch', key), tonumber(due or 0), run.attempts, run.charged,
      run.lost, run.started, run.worker, run.abort, run.err,
    }
    if ARGV[1] ~= '' then wait_for(key, ARGV[1]) end
  end
end
return answer
