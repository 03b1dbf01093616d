-- update: lays changes over a job; never its status, and never the lease of another.
-- KEYS  prefix
-- ARGV  client, number, key, member of the owner or '', header fields to replace (';t60;T5' …), then the
--       patch: field, value …
-- Returns {where the job is, its abort reason or ''}; where is 'stale' for an owner that is none any more.
--@include clock replay header runs mail patch place_of
local answer = earlier_answer()
if answer then return answer end
local key, member, header_changes = ARGV[3], ARGV[4], ARGV[5]
if member ~= '' and not call('ZSCORE', P .. 'active', member) then return remember({ 'stale', '' }) end
local was, value, run = place_of(key)
local changes = {}
for i = 6, #ARGV do changes[#changes + 1] = ARGV[i] end
changes[#changes + 1] = 'touched'
changes[#changes + 1] = stamp

local function replace_header(header)
  for tag, field in string.gmatch(header_changes, ';(%a)([^;]*)') do
    local changed, count = string.gsub(header, ';' .. tag .. '[^;]*', ';' .. tag .. field)
    -- Before the fields of a finished record, so that they can be cut off again.
    header = count > 0 and changed or string.gsub(header, '^%d+', '%0;' .. tag .. field)
  end
  return header
end

-- A write that needs no memory: after it, a heartbeat gets through above `maxmemory`.
call('HDEL', P .. 'meta', '')
if value then
  local patch = call('HGET', P .. 'patch', key)
  call('HSET', P .. 'patch', key, merge_patch(patch, changes))
  if header_changes ~= '' then
    local header, rest = split_value(value)
    call('HSET', P .. 'jobs', key, replace_header(header) .. rest)
  end
  announce({ key }, was ~= 'active' and 'queued' or run.abort and 'aborting' or 'active')
elseif was == 'finished' then
  local record = call('GET', P .. 'job:' .. key)
  local header, rest = split_value(record)
  local length = header_number(header, 'm', 0)
  local patch = merge_patch(length > 0 and sub(rest, -length), changes)
  header = replace_header(string.gsub(header, ';m%d+', '')) .. ';m' .. #patch
  local changed = header .. sub(rest, 1, #rest - length) .. patch
  call('SET', P .. 'job:' .. key, changed, 'KEEPTTL')
  if call('ZSCORE', P .. 'failed', key) then
    call('HINCRBY', P .. 'meta', 'failed_bytes', #changed - #record)
  end
  announce({ key }, string.match(header, ';S(%a+)'))
end
send_mail()
return remember({ was, run and run.abort or '' })
