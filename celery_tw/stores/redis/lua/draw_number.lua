-- DRAW NUMBER: give a send its place in an order.
-- KEYS  1 order
-- ARGV  1 mid  2 mid whose place it takes, '' for none  3 order kept ms
-- reply the number; a repeated call gets the same one
local order, mid, before, kept = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local number = redis.call('ZSCORE', order, mid) or before ~= '' and redis.call('ZSCORE', order, before)
if not number then
  local time = redis.call('TIME')
  local last = tonumber(redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')[2] or '0')
  number = string.format('%.0f', math.max(time[1] * 1000 + math.floor(time[2] / 1000), last + 1))
end
redis.call('ZADD', order, number, mid)
redis.call('PEXPIRE', order, kept)
return number
