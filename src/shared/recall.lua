-- Recalls where an object lies.
-- KEYS: the object. Returns backend, owner, alias and for how many milliseconds it is remembered; nothing when it is not.
local kept = redis.call('HMGET', KEYS[1], 'b', 'o', 'a')
if not kept[1] then
  return {}
end
return { kept[1], kept[2] or '', kept[3] or '', tostring(redis.call('PTTL', KEYS[1])) }
