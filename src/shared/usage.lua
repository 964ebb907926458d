-- Adds what a replica counted on one day, and tells what all did.
-- KEYS: the day. ARGV: the replica, the number of this call, seconds to keep it, then fields and what is added to each.
-- A call that is made twice, because its answer was lost, adds once.
local mark = '#' .. ARGV[1]
if #ARGV > 3 and tonumber(redis.call('HGET', KEYS[1], mark) or 0) < tonumber(ARGV[2]) then
  for i = 4, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  redis.call('HSET', KEYS[1], mark, ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return redis.call('HGETALL', KEYS[1])
