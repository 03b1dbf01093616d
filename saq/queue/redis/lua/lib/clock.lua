-- The server's clock: the only one that decides anything. `P` is the prefix of every key of the queue.
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) -- ms
