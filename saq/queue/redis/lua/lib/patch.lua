-- A patch is what was updated since the job was enqueued: rows of netstrings, field and value. The values are
-- opaque.
local function read_patch(patch)
  local fields, order, at = {}, {}, 1
  local function netstring()
    local colon = find(patch, ':', at, true)
    local length = tonumber(sub(patch, at, colon - 1))
    at = colon + 1 + length
    return sub(patch, colon + 1, colon + length)
  end
  while at <= #patch do
    local field = netstring()
    if fields[field] == nil then order[#order + 1] = field end
    fields[field] = netstring()
  end
  return fields, order
end
local function write_patch(fields, order)
  local rows = {}
  for _, field in ipairs(order) do
    local value = fields[field]
    if value then rows[#rows + 1] = #field .. ':' .. field .. #value .. ':' .. value end
  end
  return table.concat(rows)
end
-- Lays `changes` (field, value, …) over `patch` (or false).
local function merge_patch(patch, changes)
  local fields, order = read_patch(patch or '')
  for i = 1, #changes, 2 do
    if fields[changes[i]] == nil then order[#order + 1] = changes[i] end
    fields[changes[i]] = changes[i + 1]
  end
  return write_patch(fields, order)
end
-- A patch without the attempts of the life that has ended.
local function fresh_patch(patch)
  local fields, order = read_patch(patch)
  fields.past = nil
  return write_patch(fields, order)
end
