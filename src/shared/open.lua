-- Tells all replicas that a circuit is open.
-- KEYS: openings. ARGV: channel, the circuit, for how many milliseconds, the replica.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[3], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local times = string.format('%.0f %.0f ', now + ARGV[3], ARGV[3])
redis.call('PUBLISH', ARGV[1], times .. ARGV[4] .. ' ' .. ARGV[2])
