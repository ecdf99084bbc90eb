-- CANCEL: take what waits under some task ids off the timetable, and remember that they were cancelled.
-- KEYS  1 due  2 held  3 bad  4 by-task  5 cancelled  6 news  7 news-seq  8 answer; then the entries that the caller knows; then the
--       lanes in which one of these may wait
-- ARGV  1 number of tasks  2 cancelled kept ms  3 answer kept ms  4 news kept; then the task ids; then the ids of the entries, in their order
-- reply {now ms, then two texts per task: ids taken off, ids that wait still because the caller did not name them: call again with those}
-- The answer is kept for a while, so a repeated call, which brings the same answer key, takes nothing that was stored in between.
-- What takes memory comes after the first write, and is then not refused: cancelling works when memory is full.
-- uses now, news
local due, held, bad, by_task, cancelled, news, news_seq, answer =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local tasks, cancelled_kept, answer_kept, news_kept = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local known = redis.call('GET', answer)
if known then
  local reply = {}
  for line in string.gmatch(known, '([^\n]*)\n') do reply[#reply + 1] = line end
  return reply
end

redis.call('ZREMRANGEBYSCORE', cancelled, '-inf', string.format('%.0f', now - cancelled_kept))

local entries, known_entries = {}, #ARGV - 4 - tasks
for i = 1, known_entries do entries[ARGV[4 + tasks + i]] = KEYS[8 + i] end

local reply, changed = {now_text}, {}
local function take(id)
  local was = redis.call('DEL', entries[id]) + redis.call('ZREM', due, id) + redis.call('HDEL', held, id) + redis.call('HDEL', bad, id)
  for i = 9 + known_entries, #KEYS do was = was + redis.call('ZREM', KEYS[i], id) end
  if was > 0 then changed[#changed + 1] = id .. ':' end
  return was > 0
end

for i = 1, tasks do
  local task, taken, left = ARGV[4 + i], {}, {}
  for id in string.gmatch(redis.call('HGET', by_task, task) or '', '%d+') do
    if not entries[id] then
      left[#left + 1] = id
    elseif take(id) then
      taken[#taken + 1] = id
    end
  end
  if #left > 0 then redis.call('HSET', by_task, task, table.concat(left, ' ')) else redis.call('HDEL', by_task, task) end
  redis.call('ZADD', cancelled, now_text, task)
  reply[#reply + 1] = table.concat(taken, ' ')
  reply[#reply + 1] = table.concat(left, ' ')
end

if #changed > 0 then
  put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ','))
end
redis.call('SET', answer, table.concat(reply, '\n') .. '\n', 'PX', answer_kept)
return reply
