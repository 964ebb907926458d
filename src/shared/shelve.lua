-- Notes which ids one client has here, and tells which are beyond its share: those that would be forgotten soonest.
-- KEYS: the client's shelf. ARGV: how many it may have, then ids, each with the milliseconds for which it is remembered.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local longest = redis.call('PTTL', KEYS[1])
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], now + ARGV[i + 1], ARGV[i])
  longest = math.max(longest, tonumber(ARGV[i + 1]))
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', longest))
local surplus, gone = redis.call('ZCARD', KEYS[1]) - ARGV[1], {}
if surplus > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[1], surplus)
  for i = 1, #popped, 2 do
    gone[#gone + 1] = popped[i]
  end
end
return gone
