-- A stored value is `<queued ms>;<tag><value>;...\n<payload>`. A default takes no room, and nothing here
-- ever looks into the payload.
local function split_value(value)
  local newline = find(value, '\n', 1, true)
  return sub(value, 1, newline - 1), sub(value, newline)
end
local function header_number(header, tag, default)
  return tonumber(string.match(header, ';' .. tag .. '([^;]+)')) or default
end
