-- abort: ends a job that waits, asks for the end of one that runs.
-- KEYS  prefix
-- ARGV  client, number, key, why, the only place where that may happen, if not any
-- Returns {where the job was, its worker or ''}
--@include clock replay header runs mail finish place_of
local answer = earlier_answer()
if answer then return answer end
local key, why = ARGV[3], ARGV[4]
local place, value, run = place_of(key)
local worker = ''
if ARGV[5] and place ~= ARGV[5] then return remember({ place, worker }) end
-- Before anything that needs memory: an abort must get through above `maxmemory`.
call('ZREM', P .. 'queued', key)
call('ZREM', P .. 'scheduled', key)
if place == 'active' then
  worker = run.worker
  -- The intent is stored: it outlives the worker that should hear it. The first reason stands.
  if not run.abort then
    run.abort = why
    call('HSET', P .. 'runs', key, pack_run(run))
    announce({ key }, 'aborting')
  end
  post(P .. 'control:' .. worker, 'abort', run.token .. ':' .. key, run.abort)
elseif value then
  finish_one(key, value, 'aborted', why, run)
end
send_mail()
return remember({ place, worker })
