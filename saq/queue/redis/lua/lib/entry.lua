-- A job as it is, for those who read it: see `read`.
local function entry_of(key)
  local was, value, run, due = place_of(key)
  if was == 'missing' then return 0 end
  if was == 'finished' then return { was, call('GET', P .. 'job:' .. key) } end
  run = run or { attempts = 0, charged = 0, lost = 0, started = 0, worker = '', abort = false, err = false }
  return {
    was, value, call('HGET', P .. 'patch', key), tonumber(due or 0), run.attempts, run.charged,
    run.lost, run.started, run.worker, run.abort, run.err, run.past,
  }
end
