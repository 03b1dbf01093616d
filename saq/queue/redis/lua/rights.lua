-- rights: tries what the user of the connection may do, on a key that is never there.
-- KEYS  prefix
-- ARGV  for each command: how many words, then the words
-- Returns for each command that was refused, for whatever reason: its name, the answer
local refused, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local answer = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1], refused[#refused + 2] = ARGV[at + 1], answer.err
  end
  at = at + words + 1
end
return refused
