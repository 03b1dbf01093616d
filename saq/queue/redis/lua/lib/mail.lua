-- Messages to exact channels, collected while a script works and sent as one PUBLISH per channel.
-- A message is a row of netstrings, three each: kind, key, data.
local mail = {}
-- Numbers are slow to write, and the same lengths come again and again.
local lengths = setmetatable({}, {
  __index = function(known, n) known[n] = n .. ':'; return known[n] end,
})
local function post(channel, kind, key, data)
  local box = mail[channel]
  if not box then box = {}; mail[channel] = box end
  local n = #box
  box[n + 1], box[n + 2], box[n + 3], box[n + 4], box[n + 5], box[n + 6] =
    lengths[#kind], kind, lengths[#key], key, lengths[#data], data
end
local function send_mail()
  for channel, box in pairs(mail) do call('PUBLISH', channel, table.concat(box)) end
end
-- Channels stand one beside the other in a hash field, separated by spaces.
local function post_all(channels, kind, key, data)
  if not find(channels, ' ', 1, true) then return post(channels, kind, key, data) end
  for channel in string.gmatch(channels, '%S+') do post(channel, kind, key, data) end
end
-- As a rule there is nothing of all this, and one command says so.
local unusual = call('EXISTS', P .. 'patch', P .. 'waiting', P .. 'watching', P .. 'failed') > 0
-- Tells those who listen to every change of these keys.
local function announce(keys, status)
  if not unusual or #keys == 0 or call('EXISTS', P .. 'watching') == 0 then return end
  local watchers = call('HMGET', P .. 'watching', unpack(keys))
  for i, entry in ipairs(watchers) do
    if entry then post_all(string.match(entry, ' (.*)$'), 'event', keys[i], status) end
  end
end
