-- After an outage of the server every lease is old though every worker lives. When nobody has stepped or
-- renewed for more than half a lease, nothing is taken back for one lease. Returns whether leases may expire now.
local function calm(stepped, until_ms, lease)
  stepped, until_ms = tonumber(stepped) or 0, tonumber(until_ms) or 0
  if now - stepped > lease / 2 and call('EXISTS', P .. 'active') == 1 then
    redis.pcall('HSET', P .. 'meta', 'stepped', stamp, 'calm', string.format('%.0f', now + lease))
    return false
  end
  -- A miss costs precision only: it may not fail a step above `maxmemory`.
  if now - stepped > math.min(1000, lease / 4) or stepped > now then redis.pcall('HSET', P .. 'meta', 'stepped', stamp) end
  return now >= until_ms
end
