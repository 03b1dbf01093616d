-- Takes back jobs whose lease ran out, a bounded number at a time. Needs `max_lost`.
--   abort asked for              ends as aborted: the intent cannot die with its worker
--   it ran for longer than it may a failure: charged, and failed when no attempt is left. Its worker said so
--                                before it stopped to renew: a lease that just ends proves nothing of a job
--   otherwise its worker died    not the job's fault: back to its place, until `max_lost` leases are lost
local EXPIRED_AT_ONCE, DEFAULT_TIMEOUT, DEFAULT_RETRIES = 25, 10, 1
local LOST = 'lost: %d workers died or were cut off while they ran this job (max_lost); the last was %s'
local OVERTIME = 'timed out: still running when its lease ended, past its timeout of %s s; its worker was %s'
local function expire(max_lost, message)
  local expired = call('ZRANGEBYSCORE', P .. 'active', '-inf', stamp, 'LIMIT', 0, EXPIRED_AT_ONCE)
  local taken_back, swept = {}, {}
  for _, member in ipairs(expired) do
    call('ZREM', P .. 'active', member)
    local key = key_of(member)
    local value, packed = call('HGET', P .. 'jobs', key), call('HGET', P .. 'runs', key)
    if value and packed then
      local run, header = read_run(packed), split_value(value)
      local status, reason
      if run.abort then
        status, reason = 'aborted', run.abort
      elseif run.overtime then
        run.charged = run.charged + 1
        run.err = string.format(OVERTIME, header_number(header, 'T', DEFAULT_TIMEOUT), run.worker)
        if run.charged >= header_number(header, 'r', DEFAULT_RETRIES) then status, reason = 'failed', run.err end
      else
        run.lost = run.lost + 1
        call('HINCRBY', P .. 'stats', 'lost', 1)
        if run.lost >= max_lost then status, reason = 'failed', message or string.format(LOST, run.lost, run.worker) end
      end
      if status then
        finish_one(key, value, status, reason, run)
      else
        call('ZADD', P .. 'queued', run.score, key)
        remember_attempt(run, run.overtime and 'overtime' or 'lost', run.overtime and run.err)
        call('HSET', P .. 'runs', key, pack_run(run))
        taken_back[#taken_back + 1] = key
      end
      swept[#swept + 1] = key
    end
  end
  announce(taken_back, 'queued')
  return swept
end
