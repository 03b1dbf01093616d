-- The order of `queued`: 16 bits of priority, then 37 bits of sequence, in the 53 bits of a score.
local SEQUENCE = 137438953472 -- 2^37
local function take_sequence(count)
  local last = call('HINCRBY', P .. 'meta', 'sequence', count)
  -- Started again while nothing is queued, long before it could run into the priority.
  if last > SEQUENCE / 2 and call('EXISTS', P .. 'queued') == 0 then
    call('HSET', P .. 'meta', 'sequence', count)
    last = count
  end
  return math.min(last, SEQUENCE - 1) - count
end
local function place(header, sequence)
  return (header_number(header, 'p', 0) + 32768) * SEQUENCE + sequence
end
