-- ADMITTED: count_admitted counts messages of a lane that go to their queue, by the minute; the minutes before the time for which they are
-- kept are forgotten as a new one begins. Needs now.
local function count_admitted(admitted, lane, count, kept)
  local minute = math.floor(now / 60000)
  if redis.call('HINCRBY', admitted, minute .. ' ' .. lane, count) > count then return end
  redis.call('PEXPIRE', admitted, kept)
  for _, field in ipairs(redis.call('HKEYS', admitted)) do
    if tonumber(string.match(field, '^%d+') or '0') < minute - kept / 60000 then redis.call('HDEL', admitted, field) end
  end
end
