-- The history of an incomplete job that was claimed at least once, packed: see `keys.py`.
--   attempts  starts so far             charged  attempts that count against `retries`
--   lost      leases lost to a crash    token    fence of the latest claim
--   score     its place in `queued`     started  ms, server time
--   worker    who claimed it            abort    why it shall be aborted, or false
--   err       the latest error, or false
local FRESH_RUN = cmsgpack.pack(1, 0, 0) -- the first three fields of a first claim
local function read_run(packed)
  local run = {}
  run.attempts, run.charged, run.lost, run.token, run.score, run.started, run.worker, run.abort, run.err =
    cmsgpack.unpack(packed)
  return run
end
local function pack_run(run)
  return cmsgpack.pack(run.attempts, run.charged, run.lost, run.token, run.score, run.started, run.worker,
    run.abort or false, run.err or false)
end
