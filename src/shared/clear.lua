-- Forgets where an object lies, unless it is remembered for somebody else.
-- KEYS: the object. ARGV: the client.
if redis.call('HGET', KEYS[1], 'c') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
