-- Says that a replica is there, and hears how many there are and which circuits are open.
-- KEYS: replicas, openings. ARGV: this replica.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 10000)
redis.call('PEXPIRE', KEYS[1], 60000)
local openings = {}
local open = redis.call('ZRANGEBYSCORE', KEYS[2], now + 1, '+inf', 'WITHSCORES', 'LIMIT', 0, 2000)
for i = 1, #open, 2 do
  openings[i] = open[i]
  openings[i + 1] = tonumber(open[i + 1])
end
return { redis.call('ZCARD', KEYS[1]), now, openings }
