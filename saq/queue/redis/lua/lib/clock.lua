-- The server's clock: the only one that decides anything. `P` is the prefix of every key of the queue.
-- Numbers go to Redis as text: it prints a double slowly, and `..` does with 14 digits only.
local call, sub, byte, find = redis.call, string.sub, string.byte, string.find
local P = KEYS[1]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) -- ms
local stamp = string.format('%.0f', now)
