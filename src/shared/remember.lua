-- Remembers where an object lies; the first owner stays.
-- KEYS: the object. ARGV: backend, owner ('' for none), milliseconds, the alias by which it was made ('' for none),
-- the client for whom it is remembered, if it is the first.
-- Returns what is remembered now: backend, owner, alias.
local kept = redis.call('HMGET', KEYS[1], 'b', 'o', 'a')
local backend, owner = ARGV[1], ARGV[2]
if kept[2] and kept[2] ~= '' then
  if owner ~= '' and owner ~= kept[2] then
    return { kept[1], kept[2], kept[3] or '' }
  end
  owner = kept[2]
end
redis.call('HSET', KEYS[1], 'b', backend, 'o', owner, 'a', ARGV[4])
redis.call('HSETNX', KEYS[1], 'c', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { backend, owner, ARGV[4] }
