-- PAGE: the next entries of the timetable, or of a lane, after a cursor, in the order (due, id as text).
-- KEYS  1 due, or a lane
-- ARGV  1 cursor due ms  2 cursor member ('' = before all of that ms)  3 last due ms wanted  4 limit (at most 1000)
-- reply flat {member, due ms, …}. Reads only. Ties on the cursor's millisecond are passed by binary search, so that a page costs
-- O(log n + limit) however many entries share one due time and even when the cursor's own entry is gone.
local due = KEYS[1]
local cursor_ms, cursor_member, until_ms, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local first = redis.call('ZCOUNT', due, '-inf', '(' .. cursor_ms)
if cursor_member ~= '' then
  local low, high = first, first + redis.call('ZCOUNT', due, cursor_ms, cursor_ms)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', due, middle, middle)[1] <= cursor_member then low = middle + 1 else high = middle end
  end
  first = low
end
local page = redis.call('ZRANGE', due, first, first + limit - 1, 'WITHSCORES')
local last = #page
while last > 0 and tonumber(page[last]) > tonumber(until_ms) do
  page[last] = nil
  page[last - 1] = nil
  last = last - 2
end
return page
