-- The history of an incomplete job that was claimed at least once, packed: see `keys.py`.
--   attempts  starts so far             charged  attempts that count against `retries`
--   lost      leases lost to a crash    score    its place in `queued`, as text
--   token     fence of its latest claim started  ms, server time
--   worker    who claimed it            abort    why it shall be aborted, or false
--   err       the latest error, or false overtime whether it ran for longer than it may
--   past      the latest attempts that did not end the job, a netstring each; there only if there are any
local FRESH_RUN = '\1\0\0' -- attempts 1, charged 0, lost 0, as cmsgpack packs them
local function read_run(packed)
  local run = {}
  run.attempts, run.charged, run.lost, run.score, run.token, run.started, run.worker, run.abort, run.err,
    run.overtime, run.past =
    cmsgpack.unpack(packed)
  return run
end
local function pack_run(run)
  local packed = cmsgpack.pack(run.attempts, run.charged, run.lost, run.score, run.token, run.started, run.worker,
    run.abort or false, run.err or false, run.overtime or false)
  return run.past and packed .. cmsgpack.pack(run.past) or packed
end
-- Remembers an attempt that ended without an end of the job: 'retried', 'returned', 'lost' or 'overtime'. As
-- many as are worth reading, and of each error its last lines.
local PAST_KEPT, PAST_ERROR_KEPT = 10, 1000
local function remember_attempt(run, how, err)
  local rows, fields = {}, ''
  for _, field in ipairs({ run.attempts, string.format('%.0f', run.started), stamp, run.worker, how,
    sub(err or '', -PAST_ERROR_KEPT) }) do
    fields = fields .. #tostring(field) .. ':' .. field
  end
  local past, at = run.past or '', 1
  while at <= #past do
    local colon = find(past, ':', at, true)
    local stop = colon + tonumber(sub(past, at, colon - 1))
    rows[#rows + 1] = sub(past, at, stop)
    at = stop + 1
  end
  rows[#rows + 1] = #fields .. ':' .. fields
  run.past = table.concat(rows, '', math.max(1, #rows - PAST_KEPT + 1))
end
-- A member of `active` is `<token>:<key>`; a token has 13 digits until the year 2055.
local function key_of(member)
  if byte(member, 14) == 58 then return sub(member, 15) end
  return sub(member, find(member, ':', 1, true) + 1)
end
