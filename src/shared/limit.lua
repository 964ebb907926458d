-- The account of one client: buckets of requests and of tokens by the minute, and the tokens of a day.
-- KEYS: the account. ARGV: reserve | settle | charge | balance, limits (requests and tokens by the minute, tokens by the day),
-- tokens (taken by this request, -1 for a request that uses none); of settle also: used (-1 when nothing was processed), the day.
-- Returns: admitted, the limit in the way (1, 2, 3), microseconds to wait, and of each limit how many are left and microseconds
-- until nothing is missing; the day.
-- A token has as many parts as a minute has microseconds, so that what flows in is whole.
local PARTS = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local today = math.floor(time[1] / 86400)
local midnight = (today + 1) * 86400000000 - now
local kind = ARGV[1]
local limits = { tonumber(ARGV[2]), tonumber(ARGV[3]) }
local daily, tokens = tonumber(ARGV[4]), tonumber(ARGV[5])

local kept = redis.call('HMGET', KEYS[1], 'at', 'day', 'spent', 'l1', 'p1', 'r1', 'f1', 'l2', 'p2', 'r2', 'f2')
local at, day, spent = tonumber(kept[1] or now), tonumber(kept[2] or today), tonumber(kept[3] or 0)
if today > day then
  day, spent = today, 0
end
local elapsed = math.max(now - at, 0)
at = math.max(at, now)

-- What flowed in while something was reserved would be there twice if the reservation were given back too: `replaced` of it is not.
local buckets = {}
for i = 1, 2 do
  local limit, first = limits[i], 4 * i
  local bucket = { limit = limit, most = limit * PARTS }
  bucket.parts = tonumber(kept[first + 1] or bucket.most)
  bucket.reserved, bucket.replaced = tonumber(kept[first + 2] or 0), tonumber(kept[first + 3] or 0)
  bucket.parts = bucket.parts + (limit - tonumber(kept[first] or limit)) * PARTS
  bucket.parts = math.min(bucket.parts + elapsed * limit, bucket.most)
  bucket.replaced = math.min(math.max(bucket.replaced, bucket.parts + bucket.reserved - bucket.most), bucket.reserved)
  buckets[i] = bucket
end

local function reserve(bucket, count)
  if bucket.limit > 0 then
    bucket.parts = bucket.parts - count * PARTS
    bucket.reserved = bucket.reserved + count * PARTS
  end
end

local function settle(bucket, taken, used)
  if bucket.limit == 0 then
    return
  end
  taken, used = taken * PARTS, used * PARTS
  bucket.reserved = math.max(bucket.reserved - taken, 0)
  local unused = math.max(taken - used, 0)
  local absorbed = math.min(unused, bucket.replaced)
  bucket.replaced = math.min(bucket.replaced - absorbed, bucket.reserved)
  bucket.parts = math.min(bucket.parts + unused - absorbed - math.max(used - taken, 0), bucket.most)
end

local admitted, obstacle, wait = 1, 0, 0
local taken = math.max(tokens, 0)
if kind == 'reserve' then
  for i = 1, 2 do
    local bucket = buckets[i]
    if bucket.limit > 0 and (i == 1 or tokens >= 0) and bucket.parts < PARTS then
      local until_one = math.ceil((PARTS - bucket.parts) / bucket.limit)
      if until_one > wait then
        admitted, obstacle, wait = 0, i, until_one
      end
    end
  end
  if tokens >= 0 and daily > 0 and spent >= daily and midnight > wait then
    admitted, obstacle, wait = 0, 3, midnight
  end
  if admitted == 1 then
    reserve(buckets[1], 1)
    reserve(buckets[2], taken)
    spent = spent + taken
  end
elseif kind == 'settle' then
  local used = tonumber(ARGV[6])
  settle(buckets[1], 1, used >= 0 and 1 or 0)
  used = math.max(used, 0)
  settle(buckets[2], taken, used)
  if tonumber(ARGV[7]) == day then
    spent = math.max(spent - math.max(taken - used, 0), 0)
  end
  spent = spent + math.max(used - taken, 0)
end

if kind == 'charge' then
  settle(buckets[2], 0, taken)
  spent = spent + taken
end

local reply = { admitted, obstacle, wait }
-- What would be full anyway is not kept; what is reserved has some time to be settled.
local life = 600000000
for i = 1, 2 do
  local bucket = buckets[i]
  local until_full = 0
  if bucket.limit > 0 then
    until_full = math.ceil((bucket.most - bucket.parts) / bucket.limit)
  end
  life = math.max(life, until_full)
  reply[i + 3] = { math.floor(math.max(bucket.parts, 0) / PARTS), until_full }
end
if daily > 0 then
  life = math.max(life, midnight)
end
reply[6] = { math.max(daily - spent, 0), midnight }
reply[7] = day

if kind ~= 'balance' then
  local function whole(number)
    return string.format('%.0f', number)
  end
  redis.call('HSET', KEYS[1], 'at', whole(at), 'day', day, 'spent', whole(spent),
    'l1', limits[1], 'p1', whole(buckets[1].parts), 'r1', whole(buckets[1].reserved), 'f1', whole(buckets[1].replaced),
    'l2', whole(limits[2]), 'p2', whole(buckets[2].parts), 'r2', whole(buckets[2].reserved), 'f2', whole(buckets[2].replaced))
  redis.call('PEXPIRE', KEYS[1], whole(math.ceil(math.min(life, 8640000000000) / 1000) + 1000))
end
return reply
