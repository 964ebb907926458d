-- Remembers where an object lies; the first owner stays.
-- KEYS: the object. ARGV: backend, owner ('' for none), milliseconds.
-- Returns what is remembered now: backend, owner.
local kept = redis.call('HMGET', KEYS[1], 'b', 'o')
local backend, owner = ARGV[1], ARGV[2]
if kept[2] and kept[2] ~= '' then
  if owner ~= '' and owner ~= kept[2] then
    return { kept[1], kept[2] }
  end
  owner = kept[2]
end
redis.call('HSET', KEYS[1], 'b', backend, 'o', owner)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { backend, owner }
