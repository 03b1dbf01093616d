-- What a repair has found: rows of kind, key, detail. `found` says whether it shall be mended.
local mend, findings = ARGV[3] == 'mend', {}
local function found(kind, key, detail)
  findings[#findings + 1] = { kind, key, detail or '' }
  return mend
end

-- Why a header cannot be read, or nil if it can. A tag of a newer release is none of our business.
local WHOLE, NUMBERS = { p = 1, r = 1, a = 1, b = 1, c = 1, o = 1, e = 1, m = 1 }, { t = 1, T = 1, s = 1 }
local INCOMPLETE = { p = 1, r = 1, t = 1, T = 1, s = 1 }
local function damage_of(header, known)
  local fields = string.match(header, '^%d+(.*)$')
  if not fields then return 'it does not begin with a time' end
  if fields ~= '' and byte(fields) ~= 59 then return 'nothing parts its time from what follows' end
  for tag, text in string.gmatch(fields, ';(.?)([^;]*)') do
    local number = tonumber(text)
    if (known or WHOLE)[tag] and WHOLE[tag] and not string.match(text, '^%-?%d+$') then
      return tag .. ' is not a whole number'
    elseif NUMBERS[tag] and not (number and number - number == 0) then
      return tag .. ' is not a number'
    end
  end
  local priority = header_number(header, 'p', 0)
  if priority < -32768 or priority > 32767 then return 'there is no such priority' end
end

-- Whether text is a row of netstrings, `each` of them at a time.
local function is_whole(text, each)
  local at, count = 1, 0
  while at <= #text do
    local colon = find(text, ':', at, true)
    local length = colon and string.match(sub(text, at, colon - 1), '^%d+$')
    if not length or #length > 9 then return false end
    at, count = colon + 1 + length, count + 1
  end
  return at == #text + 1 and count % each == 0
end
