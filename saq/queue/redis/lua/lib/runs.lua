-- The history of an incomplete job that was claimed at least once, packed: see `keys.py`.
--   attempts  starts so far             charged  attempts that count against `retries`
--   lost      leases lost to a crash    score    its place in `queued`, as text
--   token     fence of its latest claim started  ms, server time
--   worker    who claimed it            abort    why it shall be aborted, or false
--   err       the latest error, or false overtime whether it ran for longer than it may
local FRESH_RUN = '\1\0\0' -- attempts 1, charged 0, lost 0, as cmsgpack packs them
local function read_run(packed)
  local run = {}
  run.attempts, run.charged, run.lost, run.score, run.token, run.started, run.worker, run.abort, run.err,
    run.overtime =
    cmsgpack.unpack(packed)
  return run
end
local function pack_run(run)
  return cmsgpack.pack(run.attempts, run.charged, run.lost, run.score, run.token, run.started, run.worker,
    run.abort or false, run.err or false, run.overtime or false)
end
-- A member of `active` is `<token>:<key>`; a token has 13 digits until the year 2055.
local function key_of(member)
  if byte(member, 14) == 58 then return sub(member, 15) end
  return sub(member, find(member, ':', 1, true) + 1)
end
